"""TypeScript types of what server and page exchange: ``static/src/lib/wire.d.ts``.

They are derived from structs: `chatsite.conversations.schema`, `chatsite.chat.protocol`, search,
sharing and import, `models_admin.model_details` and `models_admin.adminsite.live.snapshot`.
`manage.py docs` writes the file, and `npm run check` checks the page's scripts against it.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterable, Iterator
from typing import Any, Final

import msgspec
from msgspec import inspect as types

_WIDTH: Final = 100
_HEAD: Final = "/** Generated from the server's code by `manage.py docs`: change it there. */"


class Module:
    """A TypeScript module.

    Types that the server sends have all fields, except those that msgspec omits. Types that it
    receives may lack fields with a default.
    """

    def __init__(self) -> None:
        self._declarations: dict[str, str] = {}
        self._sources: dict[str, type] = {}

    def __str__(self) -> str:
        return "\n\n".join([_HEAD, *self._declarations.values()]) + "\n"

    def sent(self, *kinds: Any) -> None:
        for kind in kinds:
            self._type(types.type_info(kind), received=False)

    def received(self, *kinds: Any) -> None:
        for kind in kinds:
            self._type(types.type_info(kind), received=True)

    def union(self, name: str, kinds: Iterable[type]) -> None:
        """Declare ``name`` as the union of ``kinds``, which are declared already."""
        members = [kind.__name__ for kind in kinds]
        self._declarations[name] = f"export type {name} ={_alternatives(members, 14 + len(name))};"

    def _type(self, kind: types.Type, *, received: bool) -> str:
        return " | ".join(self._members(kind, received=received))

    def _members(self, kind: types.Type, *, received: bool) -> list[str]:
        """Return the alternatives of a type. Raises `TypeError` for a type without JSON form."""
        match kind:
            case types.Metadata(extra={"shape": shape}):
                return [self._declare(types.type_info(shape), received=received, open=True)]
            case types.Metadata():
                return self._members(kind.type, received=received)
            case types.UnionType():
                found = [self._members(one, received=received) for one in kind.types]
                order = dict.fromkeys(member for members in found for member in members)
                return sorted(order, key=lambda member: member == "null")
            case types.StructType() | types.TypedDictType():
                return [self._declare(kind, received=received)]
            case types.NoneType():
                return ["null"]
            case types.BoolType():
                return ["boolean"]
            case types.IntType() | types.FloatType():
                return ["number"]
            case types.StrType() | types.UUIDType() | types.DateTimeType():
                return ["string"]
            case types.LiteralType():
                return [json.dumps(value) for value in kind.values]
            case types.ListType() | types.VarTupleType():
                members = self._members(kind.item_type, received=received)
                item = " | ".join(members)
                return [f"({item})[]" if len(members) > 1 else f"{item}[]"]
            case types.TupleType():
                items = [self._type(one, received=received) for one in kind.item_types]
                return [f"[{', '.join(items)}]"]
            case types.DictType():
                return [f"Record<string, {self._type(kind.value_type, received=received)}>"]
            case types.AnyType():
                return ["unknown"]
        raise TypeError(f"No TypeScript for {kind}")

    def _declare(self, kind: types.Type, *, received: bool, open: bool = False) -> str:
        """Declare an interface once and return its name.

        ``open``: it may have further fields. Raises `ValueError` if two classes have the same name.
        """
        if not isinstance(kind, types.StructType | types.TypedDictType):
            raise TypeError(f"{kind} is no struct.")
        name = kind.cls.__name__
        if self._sources.setdefault(name, kind.cls) is not kind.cls:
            raise ValueError(f"Two classes are named {name}: rename one of them.")
        if name not in self._declarations:
            self._declarations[name] = ""  # declared before the types that it refers to
            lines = [*_comment(kind.cls), f"export interface {name} {{"]
            lines += self._fields(kind, received=received)
            lines += ["  [detail: string]: unknown;"] if open else []
            self._declarations[name] = "\n".join([*lines, "}"])
        return name

    def _fields(
        self, kind: types.StructType | types.TypedDictType, *, received: bool
    ) -> Iterator[str]:
        omits = False
        if isinstance(kind, types.StructType):
            omits = kind.cls.__struct_config__.omit_defaults
            if kind.tag is not None:
                yield f"  {kind.tag_field}: {json.dumps(kind.tag)};"
        for field in kind.fields:
            # msgspec reports no default for a field that is `UNSET` by default.
            unset = field.default is field.default_factory is msgspec.NODEFAULT
            optional = not field.required and (received or omits or unset)
            start = f"  {field.encode_name}{'?' if optional else ''}:"
            members = self._members(field.type, received=received)
            yield f"{start}{_alternatives(members, len(start) + 1, indent=4)};"


def _alternatives(members: list[str], column: int, indent: int = 2) -> str:
    """Return a union on one line, or one member per line if it is too long.

    ``column`` is the number of characters before it.
    """
    line = " | ".join(members)
    if column + len(line) < _WIDTH:
        return f" {line}"
    return "".join(f"\n{' ' * indent}| {member}" for member in members)


def _comment(cls: type) -> list[str]:
    """Return the docstring of a class as a comment."""
    text = inspect.cleandoc(cls.__dict__.get("__doc__") or "").replace("``", "`")
    # msgspec and typing generate a docstring for classes without one.
    if not text or text.startswith(f"{cls.__name__}("):
        return []
    lines = re.split(r"\n", text)
    if len(lines) == 1 and len(text) + len("/**  */") <= _WIDTH:
        return [f"/** {text} */"]
    return ["/**", *(f" * {line}".rstrip() for line in lines), " */"]


def wire() -> str:
    """Return the module of all types that server and page exchange."""
    from typing import get_args

    from chatsite.chat import protocol
    from chatsite.chat.organise import BulkAction
    from chatsite.chat.views import Changes
    from chatsite.conversations import schema
    from chatsite.exchange.taking import ImportReport
    from chatsite.feedback.ratings import Ratings
    from chatsite.search.find import SearchResults
    from chatsite.sharing.work import SharedCopy
    from models_admin.adminsite.live.snapshot import LivePage, Snapshot
    from models_admin.adminsite.overview.wire import OverviewNow
    from models_admin.model_details import ModelDetails

    module = Module()
    events, commands = get_args(protocol.AnyEvent), get_args(protocol.AnyCommand)
    module.sent(schema.Boot, schema.FirstPage, schema.Page, schema.Messages, schema.Moved)
    module.sent(
        schema.Quoted,
        schema.Models,
        schema.Quotas,
        ModelDetails,
        SearchResults,
        SharedCopy,
        ImportReport,
    )
    module.sent(*events)
    module.union("ServerEvent", events)
    module.received(*commands)
    module.union("Command", commands)
    module.sent(Ratings)
    module.received(BulkAction, Changes)
    module.sent(LivePage, Snapshot, OverviewNow)
    return str(module)
