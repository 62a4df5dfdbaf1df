"""The curated list of models that an administrator can download: `catalogue_data.toml`.

The facts about each model's layers are enough for `memory.py` to compute its memory use before it
is downloaded.
"""

from __future__ import annotations

import functools
import tomllib
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _
from msgspec import Meta

from models_admin.gguf.memory import Layer, Shape, window_layers

Purpose = Literal["chat", "reasoning", "code", "embedding", "reranking"]
Positive = Annotated[int, Meta(ge=1)]

PURPOSES: Final[dict[Purpose, str | Promise]] = {
    "chat": _("Chat"),
    "reasoning": _("Reasoning"),
    "code": _("Code"),
    "embedding": _("Embedding"),
    "reranking": _("Reranking"),
}

_ABOUT: Final[dict[str, str | Promise]] = {
    "smollm2": _("Small enough for any machine; English, simple questions and short texts."),
    "qwen2.5": _("Chat in Chinese, English and 27 other languages; good at tables and JSON."),
    "qwen3": _("Chat in over 100 languages; can reason before it answers, and calls tools."),
    "llama3": _("Chat in English and seven European and Asian languages; calls tools."),
    "gemma3": _("Chat in over 140 languages, with careful wording."),
    "mistral": _("Chat in English and other European languages; short and quick answers."),
    "phi4": _("Chat in English; strong at mathematics and logic for its size."),
    "granite": _("Chat for businesses in twelve languages; summaries, extraction, tools."),
    "gpt-oss": _(
        "Reasons before it answers; uses only some of its parameters per token, so it is fast."
    ),
    "deepseek-r1": _("Reasons at length before it answers; mathematics, logic and code."),
    "codellama": _("Writes and completes code in many languages; an older model."),
    "qwen2.5-coder": _("Writes, completes and explains code in over 90 languages."),
    "qwen3-coder": _("Writes code with tools; uses only some of its parameters per token."),
    "embed": _("Turns texts into vectors for search. It does not chat."),
    "rerank": _("Sorts texts by their relevance to a question. It does not chat."),
}


class File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A downloadable file; ``source`` is a name for `models pull`, ``size`` is in bytes.

    Unless ``exact``, the size of the published file may differ by a few per cent.
    """

    source: Annotated[str, Meta(min_length=1)]
    quantization: Annotated[str, Meta(min_length=1)]
    size: Positive
    exact: bool = False


class Facts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The properties of a model whose layers are all alike; see `memory.Shape`.

    ``head`` is the length of the keys and of the values of one head, ``window`` that of a sliding
    window, 0 if there is none.
    """

    architecture: str
    blocks: Positive
    embedding: Positive
    feed_forward: Positive
    heads: Positive
    kv_heads: Positive
    head: Positive
    vocabulary: Positive
    context: Positive
    window: Annotated[int, Meta(ge=0)] = 0
    vectors: Literal["", "whole", "pieces"] = ""


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A model of the catalogue; ``name`` is Ollama's and ``parameters`` the parameter count.

    The first of ``files`` is the one that the name refers to at Ollama, or the smallest.
    """

    name: Annotated[str, Meta(min_length=1)]
    family: str
    purpose: Purpose
    parameters: Positive
    licence: str
    shape: Facts
    files: Annotated[tuple[File, ...], Meta(min_length=1)]

    @property
    def about(self) -> str:
        return str(_ABOUT[self.family])

    @property
    def purpose_name(self) -> str:
        return str(PURPOSES[self.purpose])

    def shape_of(self, file: File) -> Shape:
        facts = self.shape
        kept = facts.kv_heads * facts.head
        looks = window_layers(facts.architecture, facts.blocks) if facts.window else ()
        layers = tuple(
            Layer(kept, kept, facts.window if number < len(looks) and looks[number] else 0)
            for number in range(facts.blocks)
        )
        return Shape(
            architecture=facts.architecture,
            weights=file.size,
            vocabulary=facts.vocabulary,
            embedding=facts.embedding,
            feed_forward=facts.feed_forward,
            heads=facts.heads,
            context=facts.context,
            layers=() if facts.vectors == "whole" else layers,
            vectors=facts.vectors,
        )


class _Data(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    models: tuple[Entry, ...]


@functools.cache
def entries() -> tuple[Entry, ...]:
    """Return all entries, smallest first within each purpose."""
    text = Path(__file__).with_suffix(".toml").read_text()
    return msgspec.convert(tomllib.loads(text), _Data).models


def entry(name: str) -> Entry | None:
    return next((one for one in entries() if one.name == name.lower()), None)
