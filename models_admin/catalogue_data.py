"""The curated list of models that an administrator may fetch: `catalogue_data.toml`, checked.

The facts about each model's layers are enough for `memory.py` to say what it would take before
any of it is here.
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

from models_admin.memory import Layer, Shape, window_layers

Purpose = Literal["chat", "reasoning", "code", "embedding"]
Positive = Annotated[int, Meta(ge=1)]

PURPOSES: Final[dict[Purpose, str | Promise]] = {
    "chat": _("Chat"),
    "reasoning": _("Reasoning"),
    "code": _("Code"),
    "embedding": _("Embedding"),
}

_ABOUT: Final[dict[str, str | Promise]] = {
    "smollm2": _("Small enough for any machine; English, simple questions and short texts."),
    "qwen2.5": _("Chat in Chinese, English and 27 other languages; good at tables and JSON."),
    "qwen3": _("Chat in over 100 languages; can think before it answers, and calls tools."),
    "llama3": _("Chat in English and seven European and Asian languages; calls tools."),
    "gemma3": _("Chat in over 140 languages, with careful wording."),
    "mistral": _("Chat in English and other European languages; short and quick answers."),
    "phi4": _("Chat in English; strong at mathematics and logic for its size."),
    "granite": _("Chat for businesses in twelve languages; summaries, extraction, tools."),
    "gpt-oss": _("Thinks before it answers; only a part of it computes each word, so it is quick."),
    "deepseek-r1": _("Thinks at length before it answers; mathematics, logic and code."),
    "codellama": _("Writes and completes code; an older model that knows many languages."),
    "qwen2.5-coder": _("Writes, completes and explains code in over 90 languages."),
    "qwen3-coder": _("Writes code with tools; only a part of it computes each word."),
    "embed": _("Turns texts into vectors for search. It does not chat."),
}


class File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``source`` is a name as `models pull` takes it, ``size`` in bytes. Where it is not
    ``exact``, the published file may differ from it by a few per cent."""

    source: Annotated[str, Meta(min_length=1)]
    quantization: Annotated[str, Meta(min_length=1)]
    size: Positive
    exact: bool = False


class Facts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Of the model's layers, which are all alike; see `memory.Shape`. ``head`` is the length of
    keys and of values of one head, ``window`` that of a sliding one where there is any."""

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
    """``name`` is Ollama's; ``parameters`` counts them; the first of ``files`` is what its
    name stands for there, or the smallest."""

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
    """All of them, small to large within each purpose."""
    text = Path(__file__).with_suffix(".toml").read_text()
    return msgspec.convert(tomllib.loads(text), _Data).models


def entry(name: str) -> Entry | None:
    return next((one for one in entries() if one.name == name.lower()), None)
