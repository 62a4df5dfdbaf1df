"""Merging of the parts of a split GGUF file.

Each part is a GGUF file; the first one has all keys. The merged file lists the tensors of all parts
after the first part's keys, without the ``split.`` keys, and their data follows in that order.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from django.utils.translation import gettext as _

from models_admin.gguf import header as gguf

_ALIGNMENT: Final = 32
_BLOCK: Final = 4 << 20
_VERSION: Final = 3


@dataclass(frozen=True)
class _Tensor:
    """``entry`` is the part's entry without the offset at its end.

    ``start`` is the position in the part of its ``bytes`` of data.
    """

    entry: bytes
    start: int
    bytes: int


@dataclass(frozen=True)
class _Part:
    """A part's ``keys`` (name, whole entry) and ``tensors``."""

    keys: list[tuple[str, bytes]]
    tensors: list[_Tensor]


def merge(
    paths: Sequence[Path], target: BinaryIO, progress: Callable[[int, int], None]
) -> tuple[str, int]:
    """Write the merged file to ``target``; return its SHA-256 and size in bytes.

    ``paths`` are the parts in order. Raises `BadGGUF`.
    """
    parts = []
    for number, path in enumerate(paths):
        with path.open("rb") as file:
            parts.append(_read(file, path.stat().st_size, number, len(paths)))
    keys = [entry for name, entry in parts[0].keys if not name.startswith("split.")]
    tensors = [tensor for part in parts for tensor in part.tensors]
    head = bytearray(struct.pack("<4sIQQ", gguf.MAGIC, _VERSION, len(tensors), len(keys)))
    head += b"".join(keys)
    offset = 0
    for tensor in tensors:
        head += tensor.entry + struct.pack("<Q", offset)
        offset += _aligned(tensor.bytes)
    head += bytes(_aligned(len(head)) - len(head))
    total = len(head) + offset
    out = _Hashed(target, total, progress)
    out.write(head)
    for path, part in zip(paths, parts, strict=True):
        with path.open("rb") as file:
            for tensor in part.tensors:
                _copy(file, tensor, out)
    return out.sha256.hexdigest(), out.written


def _read(file: BinaryIO, size: int, number: int, count: int) -> _Part:
    header = gguf.read_header(file, size)
    if header.needed > size:
        raise gguf.BadGGUF(_("A part of the model is truncated."))
    told = (header.values.get("split.no"), header.values.get("split.count"))
    if told != (number, count):
        raise gguf.BadGGUF(_("The parts of the model are not in order or don't belong together."))
    alignment = header.values.get("general.alignment", _ALIGNMENT)
    if alignment != _ALIGNMENT or not all(tensor.bytes for tensor in header.tensors):
        raise gguf.BadGGUF(_("A part of the model has an unsupported format."))
    file.seek(0)
    reader = gguf.Reader(file, size)
    reader.take(8)
    tensors, keys = reader.number("Q"), reader.number("Q")
    found_keys = []
    for _key in range(keys):
        start = reader.position
        name = reader.key()
        reader.value(reader.number("I"))
        found_keys.append((name, _span(file, start, reader.position)))
    entries = []
    for tensor in header.tensors:
        start = reader.position
        _tensor, at = gguf.tensor_entry(reader)
        entries.append((_span(file, start, reader.position - 8), at, tensor.bytes))
        file.seek(reader.position)
    assert len(entries) == tensors  # noqa: S101  (checked by `read_header`)
    data = _aligned(reader.position)
    return _Part(found_keys, [_Tensor(entry, data + at, length) for entry, at, length in entries])


def _span(file: BinaryIO, start: int, end: int) -> bytes:
    file.seek(start)
    return file.read(end - start)


def _copy(file: BinaryIO, tensor: _Tensor, out: _Hashed) -> None:
    file.seek(tensor.start)
    left = tensor.bytes
    while left:
        block = file.read(min(_BLOCK, left))
        if not block:
            raise gguf.BadGGUF(_("A part of the model is truncated."))
        out.write(block)
        left -= len(block)
    out.write(bytes(_aligned(tensor.bytes) - tensor.bytes))


def _aligned(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT


class _Hashed:
    def __init__(self, target: BinaryIO, total: int, progress: Callable[[int, int], None]) -> None:
        self._target, self._total, self._progress = target, total, progress
        self.sha256 = hashlib.sha256()
        self.written = 0

    def write(self, data: bytes | bytearray) -> None:
        self._target.write(data)
        self.sha256.update(data)
        self.written += len(data)
        self._progress(self.written, self._total)
