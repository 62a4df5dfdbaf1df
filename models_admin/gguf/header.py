"""Parser of GGUF headers, which are untrusted.

It decides what may enter the store. Whether a model runs is tested in an engine child, which may
crash. Every count and length is checked against the file's size and a limit before it is used, so
that a hostile file costs neither memory nor time.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO, Final, NamedTuple

from django.utils.translation import gettext as _

from models_admin.gguf.types import FILE_TYPES, TYPES, TensorType

MAGIC: Final = b"GGUF"
_VERSIONS = (2, 3)
_MAX_KEYS = 1 << 16
_MAX_TENSORS = 1 << 16  # the largest models have about 2000
_MAX_DIMENSIONS = 4
_MAX_KEY_BYTES = 1 << 10
_MAX_STRING_BYTES = 1 << 26  # a chat template or a tokenizer's JSON, with ample margin
_MAX_STRINGS = 1 << 23  # in all arrays; the largest vocabularies have 2**18 tokens
_KEPT_BYTES = 256  # of a string value; longer ones are skipped
_KEPT_NUMBERS = 1 << 10  # of a list, which may have one per layer; longer ones are skipped
_KEPT_IN_ALL = 1 << 16

_STRING, _ARRAY = 8, 9
_SCALARS: Final = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?"} | {
    10: "Q",
    11: "q",
    12: "d",
}


class BadGGUF(ValueError):
    """The file is not a loadable GGUF model; the text gives the reason to users."""


Scalar = str | int | float | bool


class Tensor(NamedTuple):
    """``type`` is a name from `TYPES`, or empty for an unknown type, whose ``bytes`` are 0."""

    name: str
    shape: tuple[int, ...]
    type: str
    bytes: int


@dataclass(frozen=True)
class Header:
    """A parsed header.

    ``values`` holds the scalars and short strings, ``lists`` the short lists of numbers,
    ``lengths`` the lengths of all lists. ``needed`` is the minimum size in bytes of a file with
    this header.
    """

    version: int
    tensors: tuple[Tensor, ...]
    values: dict[str, Scalar]
    lists: dict[str, tuple[int | float | bool, ...]]
    lengths: dict[str, int]
    needed: int

    @property
    def architecture(self) -> str:
        return str(self.values.get("general.architecture", ""))

    @property
    def quantization(self) -> str:
        """Return a name such as ``Q4_K_M``: the declared file type, or the type of most weights."""
        said = FILE_TYPES.get(self.values.get("general.file_type", -1))  # type: ignore[arg-type]
        by_type = self.bytes_by_type()
        return said or max(by_type, key=by_type.__getitem__, default="")

    def bytes_by_type(self) -> dict[str, int]:
        found: dict[str, int] = {}
        for tensor in self.tensors:
            found[tensor.type] = found.get(tensor.type, 0) + tensor.bytes
        return found


def _damaged(what: str) -> BadGGUF:
    return BadGGUF(_("The file is damaged: its header has %s.") % what)


class Reader:
    """Reads header fields within the file's size and the limits above. Raises `BadGGUF`."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file = file
        self._size = size
        self._strings = 0
        self._kept = 0  # numbers of lists
        self.position = 0

    def take(self, count: int) -> bytes:
        self._reserve(count)
        data = self._file.read(count)
        if len(data) != count:
            raise BadGGUF(_("The file is truncated: it ends inside its header."))
        self.position += count
        return data

    def skip(self, count: int) -> None:
        self._reserve(count)
        self.position += count
        self._file.seek(self.position)

    def _reserve(self, count: int) -> None:
        if count > self._size - self.position:
            raise BadGGUF(_("The file is truncated: it ends inside its header."))

    def number(self, code: str) -> int:
        (value,) = struct.unpack(f"<{code}", self.take(struct.calcsize(f"<{code}")))
        return int(value)

    def key(self) -> str:
        length = self.number("Q")
        if length > _MAX_KEY_BYTES:
            raise _damaged(_("a name of %s bytes") % length)
        return self.take(length).decode(errors="replace")

    def string(self) -> str | None:
        """Return the text, or None if it is longer than `_KEPT_BYTES`."""
        length = self.number("Q")
        if length > _MAX_STRING_BYTES:
            raise _damaged(_("a text of %s bytes") % length)
        if length > _KEPT_BYTES:
            self.skip(length)
            return None
        return self.take(length).decode(errors="replace")

    def scalar(self, kind: int) -> Scalar | None:
        if kind in _SCALARS:
            code = f"<{_SCALARS[kind]}"
            (value,) = struct.unpack(code, self.take(struct.calcsize(code)))
            return value  # type: ignore[no-any-return]
        if kind == _STRING:
            return self.string()
        raise _damaged(_("a value of unknown type %s") % kind)

    def value(self, kind: int) -> None:
        """Skip a value of any type."""
        if kind == _ARRAY:
            self.list()
        else:
            self.scalar(kind)

    def list(self) -> tuple[int, tuple[int | float | bool, ...] | None]:
        """Return the length of a list, and its numbers if they are few."""
        kind, count = self.number("I"), self.number("Q")
        if kind in _SCALARS:
            each = struct.calcsize(f"<{_SCALARS[kind]}")
            if count > _KEPT_NUMBERS or self._kept > _KEPT_IN_ALL:
                self.skip(count * each)
                return count, None
            self._kept += count
            return count, struct.unpack(f"<{count}{_SCALARS[kind]}", self.take(count * each))
        if kind != _STRING:
            raise _damaged(_("a list of unknown type %s") % kind)
        self._strings += count
        if self._strings > _MAX_STRINGS:
            raise _damaged(_("lists with %s strings in total") % self._strings)
        for _word in range(count):
            length = self.number("Q")
            self.skip(length)
        return count, None

    def whole_list(self) -> Sequence[Any]:
        """Return all values of a list."""
        kind, count = self.number("I"), self.number("Q")
        if kind in _SCALARS:
            code = f"<{count}{_SCALARS[kind]}"
            # `take` checks the size against the file's before anything is allocated.
            return struct.unpack(code, self.take(count * struct.calcsize(f"<{_SCALARS[kind]}")))
        if kind != _STRING:
            raise _damaged(_("a list of unknown type %s") % kind)
        self._strings += count
        if self._strings > _MAX_STRINGS:
            raise _damaged(_("lists with %s strings in total") % self._strings)
        words = []
        for _word in range(count):
            length = self.number("Q")
            if length > _MAX_STRING_BYTES:
                raise _damaged(_("a text of %s bytes") % length)
            words.append(self.take(length).decode(errors="replace"))
        return words


def read_header(file: BinaryIO, size: int) -> Header:
    """Read the header from the start of ``file``, which has ``size`` bytes. Raises `BadGGUF`."""
    reader = Reader(file, size)
    if size < 24 or reader.take(4) != MAGIC:
        raise BadGGUF(_("This is not a GGUF file."))
    version = reader.number("I")
    if version not in _VERSIONS:
        if version.to_bytes(4, "little")[::-1] in {v.to_bytes(4, "little") for v in _VERSIONS}:
            raise BadGGUF(_("The file is GGUF for big-endian machines."))
        raise BadGGUF(_("The file is GGUF version %s; versions 2 and 3 can be read.") % version)
    tensors, keys = reader.number("Q"), reader.number("Q")
    if tensors > _MAX_TENSORS or keys > _MAX_KEYS:
        raise _damaged(
            _("%(tensors)s tensors and %(keys)s values") % {"tensors": tensors, "keys": keys}
        )
    values: dict[str, Scalar] = {}
    lists: dict[str, tuple[int | float | bool, ...]] = {}
    lengths: dict[str, int] = {}
    for _key in range(keys):
        key = reader.key()
        kind = reader.number("I")
        if kind == _ARRAY:
            lengths[key], numbers = reader.list()
            if numbers is not None:
                lists[key] = numbers
        elif (value := reader.scalar(kind)) is not None:
            values[key] = value
    found, end = [], 0
    for _tensor in range(tensors):
        tensor, offset = tensor_entry(reader)
        found.append(tensor)
        end = max(end, offset + tensor.bytes)
    alignment = values.get("general.alignment", 32)
    if not isinstance(alignment, int) or not 1 <= alignment <= 1 << 16:
        raise _damaged(_("an alignment of %r") % alignment)
    data = -(-reader.position // alignment) * alignment
    needed = data + end if found else reader.position
    return Header(version, tuple(found), values, lists, lengths, needed)


def tensor_entry(reader: Reader) -> tuple[Tensor, int]:
    """Read one tensor's entry; return it and the offset of its data within the data section."""
    name = reader.key()
    dimensions = reader.number("I")
    if dimensions > _MAX_DIMENSIONS:
        raise _damaged(_("a tensor of %s dimensions") % dimensions)
    shape = tuple(reader.number("Q") for _dimension in range(dimensions))
    number, offset = reader.number("I"), reader.number("Q")
    type = TYPES.get(number, TensorType("", 1, 0))
    return Tensor(name, shape, type.name, -(-math.prod(shape) // type.block) * type.bytes), offset


def check_model(file: BinaryIO, size: int) -> Header:
    """Read the header and check that the file is a complete language model. Raises `BadGGUF`."""
    header = read_header(file, size)
    if header.needed > size:
        raise BadGGUF(
            _("The file is truncated: it has %(size)s bytes, but its header requires %(needed)s.")
            % {"size": size, "needed": header.needed}
        )
    kind = header.values.get("general.type", "model")
    if kind != "model":
        raise BadGGUF(_("The file contains a GGUF of type %r, not a model.") % kind)
    if header.values.get("split.count", 1) != 1:
        raise BadGGUF(
            _(
                "The file is one part of a split model. Join the parts first "
                "(llama-gguf-split --merge) and import the result."
            )
        )
    if not header.architecture:
        raise BadGGUF(_("The header specifies no architecture: this is not a model."))
    if not header.tensors:
        raise BadGGUF(_("The file contains no weights, only a vocabulary."))
    return header


def chat_template(file: BinaryIO, size: int) -> str:
    """Return the model's chat template, which may be too long for `Header.values`.

    Empty if none.
    """
    reader = Reader(file, size)
    reader.take(8)
    _tensors, keys = reader.number("Q"), reader.number("Q")
    for _key in range(min(keys, _MAX_KEYS)):
        name, kind = reader.key(), reader.number("I")
        if name == "tokenizer.chat_template" and kind == _STRING:
            length = reader.number("Q")
            if length > _MAX_STRING_BYTES:
                raise _damaged(_("a text of %s bytes") % length)
            return reader.take(length).decode(errors="replace")
        reader.value(kind)
    return ""


def lists(file: BinaryIO, size: int) -> dict[str, Sequence[Any]]:
    """Return all lists of the header with their values, of any length. Raises `BadGGUF`."""
    reader = Reader(file, size)
    reader.take(8)
    _tensors, keys = reader.number("Q"), reader.number("Q")
    found: dict[str, Sequence[Any]] = {}
    for _key in range(min(keys, _MAX_KEYS)):
        name, kind = reader.key(), reader.number("I")
        if kind == _ARRAY:
            found[name] = reader.whole_list()
        else:
            reader.value(kind)
    return found
