"""Writes tiny GGUF files: complete ones that the store accepts, and broken ones."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path

STRING = 8
ALIGNMENT = 32


def string(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def gguf(
    values: Mapping[str, str | int] | None = None,
    *,
    tensors: Sequence[tuple[str, int]] = (("output.weight", 64),),
    extra: Sequence[tuple[str, bytes]] = (),
    version: int = 3,
    fill: bytes = b"\0",
    weights: bool = True,
) -> bytes:
    """Return a GGUF file.

    ``tensors`` are names and numbers of 32-bit floats, all set to ``fill`` or without data;
    ``extra`` are keys with the bytes of type and value.
    """
    values = {"general.architecture": "llama", **(values or {})}
    head = struct.pack("<4sIQQ", b"GGUF", version, len(tensors), len(values) + len(extra))
    for key, value in values.items():
        kind = struct.pack("<I", STRING) + string(value) if isinstance(value, str) else b""
        head += string(key) + (kind or struct.pack("<II", 4, value))
    for key, raw in extra:
        head += string(key) + raw
    offset = 0
    for name, elements in tensors:
        head += string(name) + struct.pack("<IQIQ", 1, elements, 0, offset)
        offset += -(-elements * 4 // ALIGNMENT) * ALIGNMENT
    head += b"\0" * (-len(head) % ALIGNMENT)
    return head + fill * (offset // len(fill) if weights else 0)


def _strings(*texts: str) -> bytes:
    return struct.pack("<IIQ", 9, STRING, len(texts)) + b"".join(map(string, texts))


# For ``extra``: what makes a file a language model.
VOCABULARY = ("tokenizer.ggml.tokens", _strings("a", "b"))


def write(path: Path, **options: object) -> Path:
    path.write_bytes(gguf(**options))  # type: ignore[arg-type]
    return path


def split_gguf(
    tensors: Sequence[tuple[str, bytes]],
    *,
    part: int | None = None,
    parts: int = 0,
    first: bool = True,
) -> bytes:
    """Return a file of ``tensors`` with data, or one of its parts; the first has the keys."""
    keys = []
    if first:
        keys += [
            string("general.architecture") + struct.pack("<I", 8) + string("llama"),
            string("tokenizer.ggml.tokens")
            + struct.pack("<IIQ", 9, 8, 2)
            + string("a")
            + string("b"),
            string("llama.block_count") + struct.pack("<II", 4, 3),
        ]
    if part is not None:
        keys[1:1] = [
            string("split.no") + struct.pack("<IH", 2, part),
            string("split.count") + struct.pack("<IH", 2, parts),
            string("split.tensors.count") + struct.pack("<Ii", 5, len(tensors)),
        ]
    head = struct.pack("<4sIQQ", b"GGUF", 3, len(tensors), len(keys)) + b"".join(keys)
    data = b""
    for name, content in tensors:
        head += string(name) + struct.pack("<IQIQ", 1, len(content) // 4, 0, len(data))
        data += content + bytes(-len(content) % ALIGNMENT)
    return head + bytes(-len(head) % ALIGNMENT) + data
