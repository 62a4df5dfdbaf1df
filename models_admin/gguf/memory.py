"""Memory use of a model, computed from its GGUF header alone.

`docs/explanation/memory.md` has the formula. Pure arithmetic: no file, database or clock. All sizes
are in bytes.
"""

from __future__ import annotations

import itertools
from typing import Final, Literal, NamedTuple

import msgspec

from models_admin.gguf.header import Header
from models_admin.gguf.weights import Weights

# Bytes per element of the KV cache.
KV_TYPES: Final = {"f32": 4.0, "f16": 2.0, "q8_0": 34 / 32, "q4_0": 18 / 32}

# The child process: Python, numpy and the libraries; then its vocabulary tables, per token.
_CHILD: Final = 58 << 20
_PER_WORD: Final = 340
_PAD: Final = 256  # llama.cpp rounds a slot's context up to this
ROWS: Final = 512  # most tokens per batch, as `Tuning.ubatch`
_MOST_WHOLE: Final = 2048  # as in `engine/backends/llama/embedder.py`
_FLOAT: Final = 4

# Encoder models, which compute a whole text in one batch and have no KV cache.
_WHOLE: Final = frozenset(
    {
        *("bert", "nomic-bert", "nomic-bert-moe", "jina-bert-v2", "jina-bert-v3", "neo-bert"),
        *("eurobert", "modern-bert", "gemma-embedding"),
    }
)
# One layer in this many has full attention, the others a sliding window. Used if the header does
# not say.
_WINDOW_PATTERNS: Final = {"gemma2": 2, "gemma3": 6, "gemma3n": 5, "gpt-oss": 2, "cohere2": 4}
# Number of layers with their own KV cache. Used if the header does not say.
_OWN: Final = {"gemma3n": 20}
# Here a layer without attention that has a feed-forward part is not recurrent.
_FORWARD_ALONE: Final = frozenset({"nemotron_h", "nemotron_h_moe"})


class Layer(NamedTuple):
    """The cache of one layer: elements per token as ``keys`` and as ``values``.

    ``window`` is the number of tokens kept, 0 for all; ``state`` is the bytes kept per slot
    regardless of its length (recurrent layers).
    """

    keys: int
    values: int
    window: int = 0
    state: int = 0


class Shape(msgspec.Struct, frozen=True):
    """The properties of a model that its memory use depends on.

    ``weights`` is in bytes; ``embedding``, ``feed_forward`` and ``heads`` are those of the widest
    layer; ``context`` is the trained context length, 0 if unknown. ``vectors``: an embedding model,
    which takes a text ``whole`` or in ``pieces``. ``blocks`` is the bytes of weights per layer,
    ``output`` those after the last layer, of which ``tied`` are the token embeddings.
    """

    architecture: str
    weights: int
    vocabulary: int
    embedding: int
    feed_forward: int
    heads: int
    context: int
    layers: tuple[Layer, ...]
    vectors: Literal["", "whole", "pieces"] = ""
    blocks: tuple[int, ...] = ()
    output: int = 0
    tied: int = 0


class Need(msgspec.Struct, frozen=True):
    """Memory use in bytes, for the effective ``context`` in tokens per slot.

    ``work`` is touched only while prompts are computed, so the use right after loading is `loaded`.
    ``layers`` is the weights and cache of each layer, then the output's weights: what can be on a
    device.
    """

    context: int
    slots: int
    weights: int
    kv: int
    overhead: int
    work: int
    layers: tuple[int, ...] = ()

    @property
    def loaded(self) -> int:
        return self.weights + self.kv + self.overhead

    @property
    def total(self) -> int:
        return self.loaded + self.work


def needed(
    shape: Shape,
    context: int,
    slots: int,
    *,
    kv_type: str = "f16",
    flash_attention: bool = False,
    whole_windows: bool = True,
    rows: int = ROWS,
) -> Need:
    """Return the memory for ``slots`` concurrent answers of up to ``context`` tokens each.

    ``context`` is capped by the trained context length. ``whole_windows``: the cache of
    sliding-window layers spans the whole context, as the engine needs to reuse prefixes.
    """
    context = min(context, shape.context) if shape.context else context
    cells, streams = _padded(context), slots
    if shape.vectors:
        # One context for all texts; see `LlamaEmbedder`.
        whole = shape.vectors == "whole"
        limit = context if flash_attention or not whole else min(context, _MOST_WHOLE)
        rows = max(rows, limit) if whole else rows
        cells, streams = _padded(rows if whole else limit + rows), 1
    # Without flash attention the values are transposed, and each layer takes the width of the
    # widest.
    widest = 0 if flash_attention else max((layer.values for layer in shape.layers), default=0)
    caches = []
    for layer in shape.layers:
        kept = cells
        if layer.window and not whole_windows:
            kept = min(cells, _padded(layer.window + rows))
        numbers = layer.keys + (max(layer.values, widest) if layer.values else 0)
        caches.append(streams * (kept * numbers * KV_TYPES[kv_type] + layer.state))
    by_layer = itertools.zip_longest(shape.blocks, caches, fillvalue=0)
    return Need(
        context=context,
        slots=slots,
        weights=shape.weights,
        kv=round(sum(caches)),
        overhead=_CHILD + _PER_WORD * shape.vocabulary,
        work=_work(shape, cells, rows, streams, flash_attention),
        layers=(*(weights + round(cache) for weights, cache in by_layer), shape.output)
        if shape.blocks
        else (),
    )


def _work(shape: Shape, cells: int, rows: int, streams: int, flash_attention: bool) -> int:
    """Return the peak bytes of one batch.

    That is the attention or feed-forward part of a layer, whichever is larger, and the requested
    logits.
    """
    keys = max((layer.keys + layer.values for layer in shape.layers), default=0)
    mask = cells // 2 if flash_attention else cells
    scores = 0 if flash_attention else cells * shape.heads
    attention = scores + 5 * shape.embedding + keys
    forward = 3 * shape.feed_forward + 4 * shape.embedding
    logits = 2 * streams * shape.vocabulary
    return _FLOAT * (rows * (mask + max(attention, forward)) + logits)


def _padded(tokens: int) -> int:
    return -(-tokens // _PAD) * _PAD


def largest_context(
    shape: Shape, room: int, context: int, slots: int, *, least: int = 512, **how: bool
) -> int | None:
    """Return the largest context that fits ``room`` bytes, or None.

    The context is halved from ``context`` down to ``least`` tokens. ``how`` is passed to `needed`.
    """
    while True:
        need = needed(shape, context, slots, **how)  # type: ignore[arg-type]
        if need.total <= room:
            return need.context
        if need.context // 2 < least:
            return None
        context = need.context // 2


# From the header.


def shape_of(header: Header, *, copied: bool = False) -> Shape:
    """Return the shape that a header describes, with zeros for missing or invalid values.

    If ``copied``, it is the shape of a copy with faster weights.
    """
    facts = _Facts(header)
    blocks = facts.number("block_count")
    heads = facts.per_layer("attention.head_count", blocks)
    embedding = facts.number("embedding_length")
    experts = facts.number("expert_used_count")
    forward = max(facts.per_layer("feed_forward_length", blocks), default=0)
    expert_forward = facts.number("expert_feed_forward_length") or forward
    whole = header.architecture in _WHOLE
    pooled = bool(facts.number("pooling_type"))
    weights = Weights(header, copied=copied)
    return Shape(
        architecture=header.architecture,
        weights=weights.all,
        vocabulary=facts.number("vocab_size") or header.lengths.get("tokenizer.ggml.tokens", 0),
        embedding=embedding,
        feed_forward=max(forward, experts * expert_forward),
        heads=max(heads, default=0),
        context=facts.number("context_length"),
        layers=() if whole else _layers(header.architecture, facts, blocks, heads, embedding),
        vectors="whole" if whole else "pieces" if pooled else "",
        blocks=tuple(weights.blocks),
        output=weights.output + weights.tied,
        tied=weights.tied,
    )


_MAX_BLOCKS: Final = 1024
_MAX_NUMBER: Final = 1 << 40


class _Facts:
    """Values under the architecture's prefix in the header. Invalid numbers are 0."""

    def __init__(self, header: Header) -> None:
        self._header = header
        self._prefix = f"{header.architecture}."

    def number(self, key: str) -> int:
        return _sane(self._header.values.get(self._prefix + key, 0))

    def listed(self, key: str) -> tuple[int, ...]:
        return tuple(map(_sane, self._header.lists.get(self._prefix + key, ())))

    def per_layer(self, key: str, blocks: int) -> tuple[int, ...]:
        if found := self.listed(key):
            return found
        return (self.number(key),) * min(blocks, _MAX_BLOCKS)


def _sane(value: object) -> int:
    return int(value) if isinstance(value, int) and 0 <= value <= _MAX_NUMBER else 0


def _layers(
    architecture: str, facts: _Facts, blocks: int, heads: tuple[int, ...], embedding: int
) -> tuple[Layer, ...]:
    kv_heads = facts.per_layer("attention.head_count_kv", blocks)
    if not any(kv_heads):
        kv_heads = heads
    head = embedding // max(max(heads, default=0), 1)
    keys = facts.number("attention.key_length") or head
    values = facts.number("attention.value_length") or head
    latent = bool(facts.number("attention.key_length_mla"))
    window = facts.number("attention.sliding_window")
    window_keys = facts.number("attention.key_length_swa") or keys
    window_values = facts.number("attention.value_length_swa") or values
    state = _state(facts, embedding)
    # In hybrid models a layer without KV heads is recurrent, or all but one in ``interval`` are.
    interval = facts.number("full_attention_interval")
    own = _OWN.get(
        architecture, min(blocks, _MAX_BLOCKS) - facts.number("attention.shared_kv_layers")
    )
    all_recurrent = architecture.startswith(("mamba", "rwkv", "arwkv"))
    both = architecture == "falcon-h1"
    forward = facts.listed("feed_forward_length") if architecture in _FORWARD_ALONE else ()
    pattern = "attention.sliding_window_pattern"
    looks = facts.listed(pattern)
    looks = looks or window_layers(architecture, len(kv_heads), facts.number(pattern))
    found = []
    for number, count in enumerate(kv_heads):
        recurrent = all_recurrent or not count or bool(interval and (number + 1) % interval)
        alone = not count and number < len(forward) and forward[number]
        if number >= own or alone:
            found.append(Layer(0, 0))
        elif recurrent and state and not both:
            found.append(Layer(0, 0, state=state))
        elif window and number < len(looks) and looks[number]:
            found.append(Layer(count * window_keys, count * window_values, window))
        else:
            # Latent attention (MLA) stores keys and values as one vector.
            kept = 0 if latent else count * values
            found.append(Layer(count * keys, kept, state=state if both else 0))
    return tuple(found)


def window_layers(architecture: str, blocks: int, every: int = 0) -> tuple[bool, ...]:
    """Return which layers have a sliding window.

    These are all but one in ``every``, or the known pattern of the architecture.
    """
    every = every or _WINDOW_PATTERNS.get(architecture, 0)
    return tuple(bool(every) and number % every < every - 1 for number in range(blocks))


def _state(facts: _Facts, embedding: int) -> int:
    """Return the bytes of recurrent state per layer and slot, stored as 32-bit floats."""
    inner, rank = facts.number("ssm.inner_size"), facts.number("ssm.state_size")
    groups, kernel = facts.number("ssm.group_count"), facts.number("ssm.conv_kernel")
    numbers = inner * rank + max(kernel - 1, 0) * (inner + 2 * groups * rank)
    if taps := facts.number("shortconv.l_cache"):
        numbers += embedding * (taps - 1)
    if size := facts.number("wkv.head_size"):
        numbers += embedding * (size + (facts.number("token_shift_count") or 2))
    return _FLOAT * numbers
