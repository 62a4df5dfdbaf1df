"""A complete model of a hundred kilobytes: it loads and computes, and writes nonsense."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.support.gguf import ALIGNMENT, STRING, string

LAYERS, WIDTH, HEADS, INNER, CONTEXT = 1, 32, 2, 64, 1024
WORDS = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", "▁the", "e"]
# Token types, numbered as in llama.cpp.
_NORMAL, _UNKNOWN, _CONTROL, _BYTE = 1, 2, 3, 6
_U32, _I32, _F32, _LIST = 4, 5, 6, 9
TEMPLATE = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}assistant:"


def header(template: str | None = TEMPLATE, controls: Sequence[str] = ()) -> bytes:
    """Return everything before the weights.

    ``template`` None makes it a base model; ``controls`` are additional control tokens.
    """
    keys = list(values(template, controls))
    tensors = list(_tensors(len(controls)))
    head = struct.pack("<4sIQQ", b"GGUF", 3, len(tensors), len(keys))
    head += b"".join(string(key) + raw for key, raw in keys)
    offset = 0
    for name, shape in tensors:
        head += string(name) + struct.pack("<I", len(shape))
        head += struct.pack(f"<{len(shape)}Q", *shape) + struct.pack("<IQ", 0, offset)
        offset += _size(shape)
    return head + b"\0" * (-len(head) % ALIGNMENT)


def weights(controls: Sequence[str] = ()) -> bytes:
    source = random.Random(1)
    parts = []
    for name, shape in _tensors(len(controls)):
        count = _size(shape) // 4
        if name.endswith("norm.weight"):
            parts.append(struct.pack(f"<{count}f", *[1.0] * count))
        else:
            parts.append(struct.pack(f"<{count}f", *(source.gauss(0, 0.1) for _ in range(count))))
    return b"".join(parts)


def write(path: Path, template: str | None = TEMPLATE, controls: Sequence[str] = ()) -> Path:
    path.write_bytes(header(template, controls) + weights(controls))
    return path


def _size(shape: tuple[int, ...]) -> int:
    """Return the size in bytes, which is always a multiple of the alignment."""
    count = 4
    for length in shape:
        count *= length
    return count


def _tensors(more: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield names and shapes, for ``more`` tokens than `WORDS`."""
    yield "token_embd.weight", (WIDTH, len(WORDS) + more)
    yield "output_norm.weight", (WIDTH,)
    for layer in range(LAYERS):
        for name, shape in (
            ("attn_norm", (WIDTH,)),
            *((f"attn_{part}", (WIDTH, WIDTH)) for part in ("q", "k", "v", "output")),
            ("ffn_norm", (WIDTH,)),
            ("ffn_gate", (WIDTH, INNER)),
            ("ffn_up", (WIDTH, INNER)),
            ("ffn_down", (INNER, WIDTH)),
        ):
            yield f"blk.{layer}.{name}.weight", shape


def values(
    template: str | None = TEMPLATE, controls: Sequence[str] = ()
) -> Iterator[tuple[str, bytes]]:
    """Return the keys of the header with the bytes of type and value."""

    def text(value: str) -> bytes:
        return struct.pack("<I", STRING) + string(value)

    def number(value: int) -> bytes:
        return struct.pack("<II", _U32, value)

    yield "general.architecture", text("llama")
    yield "llama.block_count", number(LAYERS)
    yield "llama.context_length", number(CONTEXT)
    yield "llama.embedding_length", number(WIDTH)
    yield "llama.feed_forward_length", number(INNER)
    yield "llama.attention.head_count", number(HEADS)
    yield "llama.attention.layer_norm_rms_epsilon", struct.pack("<If", _F32, 1e-5)
    all_words = [*WORDS, *controls]
    yield "llama.vocab_size", number(len(all_words))
    yield "tokenizer.ggml.model", text("llama")
    words = b"".join(map(string, all_words))
    yield "tokenizer.ggml.tokens", struct.pack("<IIQ", _LIST, STRING, len(all_words)) + words
    scores = struct.pack(f"<{len(all_words)}f", *(-float(n) for n in range(len(all_words))))
    yield "tokenizer.ggml.scores", struct.pack("<IIQ", _LIST, _F32, len(all_words)) + scores
    kinds = [_UNKNOWN, _CONTROL, _CONTROL, *[_BYTE] * 256, *[_NORMAL] * (len(WORDS) - 259)]
    kinds += [_CONTROL] * len(controls)
    raw = struct.pack(f"<{len(kinds)}i", *kinds)
    yield "tokenizer.ggml.token_type", struct.pack("<IIQ", _LIST, _I32, len(kinds)) + raw
    yield "tokenizer.ggml.bos_token_id", number(1)
    yield "tokenizer.ggml.eos_token_id", number(2)
    if template is not None:
        yield "tokenizer.chat_template", text(template)
