"""TypeScript from msgspec structs. `test_documents.py` checks that `wire.d.ts` is up to date."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal, TypedDict, get_args

import msgspec
import pytest
from msgspec import UNSET, Meta, UnsetType

from chatsite.chat import protocol
from chatsite.management.typescript import Module, wire
from tests.support.stack import ROOT


class Inner(msgspec.Struct):
    n: int


class Shape(TypedDict):
    code: str


class Whole(msgspec.Struct, tag="whole"):
    """All ``kinds`` of fields."""

    text: str
    choice: Literal["b", "a"] | None
    many: list[Inner]
    some: tuple[str | None, ...]
    pair: tuple[str, float]
    by_name: dict[str, Inner]
    details: Annotated[dict[str, Any], Meta(extra={"shape": Shape})]
    limited: Annotated[int, Meta(ge=0)] = 0
    unset: bool | UnsetType = UNSET


class Sparse(msgspec.Struct, omit_defaults=True):
    always: int
    rarely: int = 0


def declared(text: str, name: str) -> list[str]:
    found = re.search(rf"^export interface {name} {{\n(.*?)^}}", text, re.M | re.S)
    assert found
    return [line.strip() for line in found[1].splitlines()]


def test_fields_have_their_types() -> None:
    module = Module()
    module.sent(Whole)
    assert declared(str(module), "Whole") == [
        'type: "whole";',
        "text: string;",
        'choice: "a" | "b" | null;',
        "many: Inner[];",
        "some: (string | null)[];",
        "pair: [string, number];",
        "by_name: Record<string, Inner>;",
        "details: Shape;",
        "limited: number;",
        "unset?: boolean;",
    ]
    assert declared(str(module), "Inner") == ["n: number;"]
    assert declared(str(module), "Shape") == ["code: string;", "[detail: string]: unknown;"]
    assert "/** All `kinds` of fields. */" in str(module)


def test_sent_values_lack_only_omitted_fields() -> None:
    module = Module()
    module.sent(Whole, Sparse)
    assert declared(str(module), "Sparse") == ["always: number;", "rarely?: number;"]
    assert "limited: number;" in declared(str(module), "Whole")
    encoded = msgspec.json.decode(msgspec.json.encode(Sparse(1)))
    assert encoded == {"always": 1}


def test_received_values_may_lack_fields_with_a_default() -> None:
    module = Module()
    module.received(Whole)
    assert "limited?: number;" in declared(str(module), "Whole")
    assert "text: string;" in declared(str(module), "Whole")


def test_two_classes_of_one_name_are_refused() -> None:
    module = Module()
    module.sent(Inner)
    with pytest.raises(ValueError, match="Two classes are named Inner"):
        module.sent(msgspec.defstruct("Inner", [("other", int)]))


def test_a_type_without_json_is_refused() -> None:
    module = Module()
    with pytest.raises(TypeError, match="No TypeScript"):
        module.sent(msgspec.defstruct("Odd", [("path", Path)]))


def test_every_event_and_command_of_the_socket_is_declared() -> None:
    text = wire()
    for name, kinds in (
        ("ServerEvent", get_args(protocol.AnyEvent)),
        ("Command", get_args(protocol.AnyCommand)),
    ):
        found = re.search(rf"^export type {name} =([^;]*);", text, re.M)
        assert found
        assert set(re.findall(r"\w+", found[1])) == {kind.__name__ for kind in kinds}
        for kind in kinds:
            tag = kind.__struct_config__.tag
            assert f'type: "{tag}";' in declared(text, kind.__name__)


def test_every_name_that_the_module_refers_to_is_declared() -> None:
    text = (ROOT / "static/src/lib/wire.d.ts").read_text()
    names = set(re.findall(r"^export (?:interface|type) (\w+)", text, re.M))
    used = set()
    for page in (ROOT / "static" / "src").rglob("*.js"):
        used |= set(re.findall(r'import\("[./]*lib/wire"\)\.(\w+)', page.read_text()))
    assert len(used) > 20
    assert used <= names
