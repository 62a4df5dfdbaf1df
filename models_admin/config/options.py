"""Ollama's model options and their equivalents here.

Ollama passes any number to its sampler, which clamps it or switches the stage off if it is out of
range. Here such values are clamped to the ranges of `SamplingParams`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec
from django.utils.translation import gettext_lazy as _
from msgspec import inspect

from chatsite.engine.contract.messages import SamplingParams
from chatsite.errors import ChatsiteError

# Ollama's name: type and field of `SamplingParams`, "" if the site's configuration decides.
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
# Options of older versions, which have no effect in Ollama either.
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
# Number of distinct seeds; larger ones are taken modulo.
SEEDS: Final = 2**32 - 1
# Equivalents of 0 and less for fields whose range begins above 0. A top_p of 0 keeps only the most
# likely token.
_OFF_BELOW: Final = {"typical_p": 1.0, "repeat_penalty": 1.0, "top_p": 1e-9}
_WORDS: Final = {float: "float", int: "integer", bool: "boolean", list: "array"}
# Limits of an option: above any range, and storable in all databases and in MessagePack. Seeds are
# taken modulo.
_NUMBER_MAX: Final = 2**62
_SEED_MAX: Final = 10**100
_NUMBER_CHARS: Final = 100
_TRUE, _FALSE = {"1", "t", "true"}, {"0", "f", "false"}


class BadOption(ChatsiteError, ValueError):
    code = "bad_option"
    status = 400
    message = _("A model option has an invalid value.")


def from_text(name: str, text: str) -> Any:
    """Return the value of ``PARAMETER name text``; for ``stop`` one string. Raises `BadOption`."""
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
        return text if kind is list else kind(text[:_NUMBER_CHARS])
    except ValueError:
        word = {float: "float", int: "int", bool: "bool"}[kind]
        raise BadOption(f"invalid {word} value [{text[:_NUMBER_CHARS]}]") from None


def sampling(options: Mapping[str, Any], *, exact: bool = False) -> dict[str, Any]:
    """Return the fields of `SamplingParams` that ``options`` set.

    Unknown names are ignored, as in Ollama. Raises `BadOption` for a value of a wrong type, and
    with ``exact`` for one out of range.
    """
    fields: dict[str, Any] = {}
    for name, value in options.items():
        kind, field = KNOWN.get(name, (object, ""))
        if value is None or name not in KNOWN:
            continue
        typed = _typed(name, kind, value)
        if field:
            fields[field] = typed if exact else _limited(field, typed)
    for field in ("seed", "max_tokens"):
        if (fields.get(field) or 0) < 0:
            fields[field] = None
    for field, value in fields.items():
        try:
            msgspec.convert({field: value}, SamplingParams)
        except msgspec.ValidationError as error:
            name = next(known for known, (_kind, its) in KNOWN.items() if its == field)
            reason = str(error).rpartition(" - at")[0] or str(error)
            raise BadOption(f'option "{name}": {reason}') from None
    return fields


def _limited(field: str, value: Any) -> Any:
    """Return the value as Ollama's sampler treats it, within the range of ``field``."""
    if field == "stop":
        return [part for part in value if part]
    if field == "seed":
        return value if value < 0 else value % SEEDS
    if field == "max_tokens" and value <= 0:
        return -1  # no limit
    if field in _OFF_BELOW and value <= 0:
        return _OFF_BELOW[field]
    least, most = _RANGES.get(field, (None, None))
    if least is not None and value < least:
        return least
    return most if most is not None and value > most else value


def _range_of(kind: inspect.Type) -> tuple[Any, Any]:
    """Return the minimum and maximum of a field, None if it has no range."""
    parts = kind.types if isinstance(kind, inspect.UnionType) else (kind,)
    for part in parts:
        if isinstance(part, inspect.IntType | inspect.FloatType):
            return part.ge, part.le
    return None, None


_STRUCT: Any = inspect.type_info(SamplingParams)
_RANGES: Final = {field.name: _range_of(field.type) for field in _STRUCT.fields}


def _typed(name: str, kind: type, value: Any) -> Any:
    if name == "stop" and isinstance(value, str):
        value = [value]
    # In JSON decoded by Python an integer may be too large for a float, and a float infinite.
    number = (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and abs(value) <= (_SEED_MAX if name == "seed" else _NUMBER_MAX)
    )
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
    """Return (name, value as written in a Modelfile), one pair per stop string."""
    lines = []
    for name, value in sorted(options.items()):
        for part in value if isinstance(value, list) else [value]:
            text = str(part).lower() if isinstance(part, bool) else str(part)
            lines.append((name, text))
    return lines
