"""The options of a model as Ollama names them, and what they are here.

Ranges are those of `SamplingParams`; this adds names, types and what -1 means.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec
from django.utils.translation import gettext_lazy as _

from chatsite.engine.messages import SamplingParams
from chatsite.errors import ChatsiteError

# Ollama's name: type and the field of `SamplingParams`, "" where the site decides for all.
KNOWN: Final[dict[str, tuple[type, str]]] = {
    "temperature": (float, "temperature"),
    "top_k": (int, "top_k"),
    "top_p": (float, "top_p"),
    "min_p": (float, "min_p"),
    "typical_p": (float, "typical_p"),
    "repeat_last_n": (int, "repeat_last_n"),
    "repeat_penalty": (float, "repeat_penalty"),
    "presence_penalty": (float, "presence_penalty"),
    "frequency_penalty": (float, "frequency_penalty"),
    "seed": (int, "seed"),
    "num_predict": (int, "max_tokens"),
    "stop": (list, "stop"),
    "num_ctx": (int, ""),
    "num_keep": (int, ""),
    "num_batch": (int, ""),
    "num_gpu": (int, ""),
    "main_gpu": (int, ""),
    "num_thread": (int, ""),
    "use_mmap": (bool, ""),
    "draft_num_predict": (int, ""),
}
# Names of older versions, which have no effect in Ollama either.
OUTDATED: Final = frozenset(
    {
        "penalize_newline",
        "low_vram",
        "f16_kv",
        "logits_all",
        "vocab_only",
        "use_mlock",
        "mirostat",
        "mirostat_tau",
        "mirostat_eta",
    }
)
_WORDS: Final = {float: "float", int: "integer", bool: "boolean", list: "array"}
_TRUE, _FALSE = {"1", "t", "true"}, {"0", "f", "false"}


class BadOption(ChatsiteError, ValueError):
    code = "bad_option"
    status = 400
    message = _("An option of the model has a value that it can't have.")


def from_text(name: str, text: str) -> Any:
    """The value of ``PARAMETER name text``; of ``stop`` one string. Raises `BadOption`."""
    if name in OUTDATED:
        return text
    if name not in KNOWN:
        raise BadOption(str(_("unknown parameter '%s'")) % name)
    kind = KNOWN[name][0]
    try:
        if kind is bool:
            if text.lower() not in _TRUE | _FALSE:
                raise ValueError
            return text.lower() in _TRUE
        return text if kind is list else kind(text)
    except ValueError:
        word = {float: "float", int: "int", bool: "bool"}[kind]
        raise BadOption(f"invalid {word} value [{text}]") from None


def sampling(options: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of `SamplingParams` that ``options`` set. Unknown names are passed over, as
    Ollama does; a value of a wrong type or out of range raises `BadOption`."""
    fields: dict[str, Any] = {}
    for name, value in options.items():
        kind, field = KNOWN.get(name, (object, ""))
        if value is None or name not in KNOWN:
            continue
        typed = _typed(name, kind, value)
        if field:
            fields[field] = typed
    for field in ("seed", "max_tokens"):
        if fields.get(field, 0) < 0:
            fields[field] = None
    for field, value in fields.items():
        try:
            msgspec.convert({field: value}, SamplingParams)
        except msgspec.ValidationError as error:
            name = next(known for known, (_kind, its) in KNOWN.items() if its == field)
            reason = str(error).rpartition(" - at")[0] or str(error)
            raise BadOption(f'option "{name}": {reason}') from None
    return fields


def _typed(name: str, kind: type, value: Any) -> Any:
    if name == "stop" and isinstance(value, str):
        value = [value]
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if kind is float and number:
        return float(value)
    if kind is int and number and value == int(value):
        return int(value)
    if kind is list and isinstance(value, list) and all(isinstance(part, str) for part in value):
        return value
    if kind is bool and isinstance(value, bool):
        return value
    raise BadOption(f'option "{name}" must be of type {_WORDS[kind]}')


def as_lines(options: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(name, value as a Modelfile writes it), a pair per stop string."""
    lines = []
    for name, value in sorted(options.items()):
        for part in value if isinstance(value, list) else [value]:
            text = str(part).lower() if isinstance(part, bool) else str(part)
            lines.append((name, text))
    return lines
