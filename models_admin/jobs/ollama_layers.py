"""The layers of an Ollama model other than weights.

These are system text, parameters, template, licence and messages. Each is small, is checked against
its digest, and becomes part of the model's configuration.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import msgspec
from django.utils.translation import gettext_lazy as _

from chatsite.engine.contract.messages import Role
from chatsite.errors import in_each_language, worded
from models_admin.config import custom, go_template, options
from models_admin.gguf import header
from models_admin.sources import fetch
from models_admin.sources.base import Blob, Resolved, SourceRefused
from models_admin.sources.transfer import TransferRefused

_LAYER_BYTES: Final = 1 << 20
_TEXTS: Final = frozenset({"template", "system", "params", "license", "messages"})
# Without these the model still answers text. An adapter changes the answers, so it is needed.
_DISPENSABLE: Final = frozenset({"projector"})

Say = Callable[..., None]


def reject_unsupported_layers(found: Resolved) -> None:
    """Raise `SourceRefused` if the model needs a layer that can't be run here."""
    needed = {blob.role for blob in found.blobs} - _TEXTS - _DISPENSABLE - {"model"}
    if needed:
        raise SourceRefused(
            worded(
                _("The model needs components that are not supported: %s."),
                ", ".join(sorted(needed)),
            )
        )


def configuration(found: Resolved, weights: Path, say: Say) -> dict[str, Any]:
    """Return the configuration of the model whose file is ``weights``.

    Layers and values that can't be used are reported by ``say``.
    """
    texts: dict[str, list[str]] = {}
    for blob in found.blobs:
        if blob.role in _TEXTS:
            texts.setdefault(blob.role, []).append(_text(blob))
        elif blob.role in _DISPENSABLE:
            say(
                "left_out",
                part=blob.role,
                reason=in_each_language(_("Only text input is supported.")),
            )
    made = custom.Configuration(
        parameters=_parameters(texts.get("params", []), say),
        system="\n".join(texts.get("system", [])).replace("\x00", ""),
        template=_template(texts.get("template", []), weights, say),
        messages=_messages(texts.get("messages", []), say),
        licenses=tuple(text.replace("\x00", "") for text in texts.get("license", [])),
    )
    plain: dict[str, Any] = msgspec.to_builtins(made)
    return plain


def _text(blob: Blob) -> str:
    reply, body = fetch.read(blob.url, limit=_LAYER_BYTES, token=blob.token)
    if reply.status != 200 or hashlib.sha256(body).hexdigest() != blob.digest:
        raise TransferRefused(
            _("The file does not match the checksum of its source (SHA-256). Try again.")
        )
    return body.decode(errors="replace")


def _parameters(texts: list[str], say: Say) -> dict[str, Any]:
    taken: dict[str, Any] = {}
    for text in texts:
        try:
            given = json.loads(text)
        except (ValueError, RecursionError) as error:
            say("left_out", part="params", reason=str(error))
            continue
        for name, value in given.items() if isinstance(given, dict) else ():
            try:
                options.sampling({name: value})
            except options.BadOption as error:
                say("left_out", part=name, reason=str(error))
            else:
                taken[name] = value
    return taken


def _template(texts: list[str], weights: Path, say: Say) -> str:
    """Return the source's template only if the file has none.

    The file's own template is the one that the model was trained with, tools included.
    """
    if not texts:
        return ""
    with weights.open("rb") as file:
        if header.chat_template(file, weights.stat().st_size):
            say("own_template")
            return ""
    try:
        go_template.as_jinja(texts[-1])
    except go_template.UntranslatableTemplate as error:
        say("left_out", part="template", reason=str(error))
        return ""
    return texts[-1]


def _messages(texts: list[str], say: Say) -> tuple[tuple[Role, str], ...]:
    found: list[tuple[Role, str]] = []
    for text in texts:
        try:
            given = msgspec.json.decode(text, type=list[_Message])
        except (msgspec.DecodeError, RecursionError) as error:
            say("left_out", part="messages", reason=str(error))
        else:
            found += [(message.role, message.content.replace("\x00", "")) for message in given]
    return tuple(found)


class _Message(msgspec.Struct):
    role: Role
    content: str
