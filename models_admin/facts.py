"""Facts read from the header of an installed file, once per file, as it never changes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import msgspec
from django.conf import settings

from chatsite.engine.prompting.renderer import RenderPool
from chatsite.engine.prompting.template import ChatTemplate
from models_admin.gguf import header as gguf
from models_admin.gguf import memory
from models_admin.models import ModelName, ModelVersion, RemoteFacts

Ability = Literal["completion", "tools", "thinking", "insert", "embedding", "rerank"]

_KEPT = 128
# Version of the rules in `read_nature`: notes of other revisions are ignored.
_REVISION = 2
# The pooling type of rerankers.
_RANK = 4
# Cache of notes, without expiry: a file never changes.
natures: dict[Path, Nature] = {}
_VOCABULARY = "tokenizer.ggml.tokens"
_MIDDLE = ("tokenizer.ggml.fim_mid_token_id", "tokenizer.ggml.middle_token_id")


class Nature(msgspec.Struct, frozen=True):
    """What a file can do. ``base``: a base model, which continues text and does not chat."""

    base: bool = False
    abilities: tuple[Ability, ...] = ("completion",)


@dataclass(frozen=True)
class Facts:
    """The header of a file, its chat ``template`` (empty if none) and its parameter count."""

    header: gguf.Header
    template: str
    parameters: int

    @property
    def parameter_size(self) -> str:
        """Return the parameter count as text, such as ``134.5M`` or ``7.6B``."""
        for size, letter in ((1e9, "B"), (1e6, "M"), (1e3, "K")):
            if self.parameters >= size:
                return f"{self.parameters / size:.1f}{letter}"
        return str(self.parameters)


def of(version: ModelVersion) -> Facts | None:
    """Return the facts of a version; None if its file is missing or damaged, or if it is remote."""
    if version.remote:
        return None
    try:
        return _read(version.path, version.size)
    except (OSError, gguf.BadGGUF):
        return None


def nature(version: ModelVersion) -> Nature:
    """Return the nature of a version, stored when it is first computed, at import.

    Reading a header with a large vocabulary takes a third of a second, and rendering the probes of
    a template as long, which is too slow for requests that list all models. The database has it for
    web servers without the file. That of a remote model is what its engines report.
    """
    if (remote := version.remote_facts) is not None:
        return _remote_nature(remote)
    note = _note(version)
    if note in natures:
        return natures[note]
    try:
        found = msgspec.json.decode(note.read_bytes(), type=Nature)
    except (OSError, msgspec.DecodeError):
        known = of(version)
        if known is None:
            return _stored(version) or Nature()
        found = read_nature(known)
        with suppress(OSError):
            note.parent.mkdir(mode=0o700, exist_ok=True)
            note.write_bytes(msgspec.json.encode(found))
    natures[note] = found
    if _stored(version) != found:
        version.nature = {"revision": _REVISION, **msgspec.to_builtins(found)}
        ModelVersion.objects.filter(pk=version.pk).update(nature=version.nature)
    return found


def _stored(version: ModelVersion) -> Nature | None:
    """Return the nature that a machine with the file has stored; None if there is none."""
    if not version.nature or version.nature.get("revision") != _REVISION:
        return None
    try:
        return msgspec.convert(version.nature, Nature)
    except msgspec.ValidationError:
        return None


def _remote_nature(remote: RemoteFacts) -> Nature:
    have = set(remote.capabilities)
    if "embeddings" in have and not have & {"chat", "completion"}:
        return Nature(abilities=("embedding",))
    found: list[Ability] = ["completion"]
    if "tools" in have:
        found.append("tools")
    base = "completion" in have and "chat" not in have
    return Nature(base, tuple(found))


def forget(version: ModelVersion) -> None:
    """Remove the cached nature of a version whose file is removed."""
    _note(version).unlink(missing_ok=True)


def _note(version: ModelVersion) -> Path:
    return Path(settings.DATA_DIR) / "facts" / f"{version.digest}.{_REVISION}.json"


def lists(version: ModelVersion) -> dict[str, Sequence[Any]]:
    """Return all lists of the file's header, including the vocabulary; empty if it is missing."""
    if version.remote:
        return {}
    try:
        with version.path.open("rb") as file:
            return gguf.lists(file, version.size)
    except (OSError, gguf.BadGGUF):
        return {}


def licenses(known: Facts | None) -> tuple[str, ...]:
    """Return what the file declares as its licence."""
    values = known.header.values if known else {}
    keys = ("general.license.name", "general.license", "general.license.link")
    return tuple(str(values[key]) for key in keys if values.get(key))


def only_continues(model: ModelName) -> bool:
    """Return whether the model is a base model without a chat template in its configuration.

    Such a model continues text and does not chat.
    """
    return not model.configuration.get("template") and nature(model.version).base


def capabilities(model: ModelName) -> list[str]:
    """Return what clients may ask of a model, in Ollama's terms.

    This includes tool calls: if a model that chats has no template for tools, they are described in
    words.
    """
    found: list[str] = [*nature(model.version).abilities]
    if "completion" not in found or "tools" in found or only_continues(model):
        return found
    if model.version.remote:  # its engine has no tools
        return found
    return [*found, "tools"]


@lru_cache(_KEPT)
def _read(path: Path, size: int) -> Facts:
    with path.open("rb") as file:
        header = gguf.read_header(file, size)
        file.seek(0)
        template = gguf.chat_template(file, size)
    counted = sum(math.prod(tensor.shape) for tensor in header.tensors)
    return Facts(header, template, counted)


def read_nature(known: Facts) -> Nature:
    header = known.header
    if header.values.get(f"{header.architecture}.pooling_type") == _RANK:
        return Nature(abilities=("rerank",))
    if memory.shape_of(header).vectors:
        return Nature(abilities=("embedding",))
    found: list[Ability] = ["completion"]
    traits = None
    if known.template:
        with RenderPool.start("facts") as renderer:
            traits = ChatTemplate(known.template, renderer=renderer).traits
    if traits and traits.native:
        found.append("tools")
    if any(key in header.values for key in _MIDDLE):
        found.append("insert")
    if traits and traits.thinks:
        found.append("thinking")
    # Without a vocabulary in the header nothing can be concluded.
    base = not known.template and _VOCABULARY in header.lengths
    return Nature(base, tuple(found))
