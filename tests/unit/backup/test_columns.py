"""Canonical values: equal in both databases, and nothing is lost on the way."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.apps import apps
from django.db import models
from hypothesis import given
from hypothesis import strategies as st

from chatsite.backup import columns
from chatsite.backup.columns import FROM_SQLITE, STORABLE, TO_POSTGRESQL, TO_SQLITE, canonical_json
from chatsite.backup.tables import tables


def test_every_table_of_the_product_is_in_a_backup() -> None:
    names = {
        model._meta.db_table
        for model in apps.get_models(include_auto_created=True)
        if model._meta.managed and not model._meta.proxy
    }
    found = tables()
    assert {table.name for table in found} == names
    assert all(len(table.columns) == len(table.kinds) for table in found)


def test_a_column_without_canonical_form_is_refused() -> None:
    with pytest.raises(TypeError, match="DurationField"):
        columns.kind_of(models.DurationField())


@pytest.mark.parametrize(
    ("stored", "canonical"),
    [
        ("2026-01-31 12:00:00", "2026-01-31T12:00:00.000000Z"),
        ("2026-01-31 12:00:00.000001", "2026-01-31T12:00:00.000001Z"),
        ("2026-01-31 12:00:00.5", "2026-01-31T12:00:00.500000Z"),
        ("2026-01-31T12:00:00+02:00", "2026-01-31T10:00:00.000000Z"),
    ],
)
def test_times_of_sqlite(stored: str, canonical: str) -> None:
    assert FROM_SQLITE["datetime"](stored) == canonical
    written = TO_SQLITE["datetime"](canonical)
    assert FROM_SQLITE["datetime"](written) == canonical
    assert written.endswith("000000") is False


@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers(-(2**70), 2**70)
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_json_keeps_its_value_whatever_its_spelling(value: Any) -> None:
    canonical = canonical_json(json.dumps(value))
    assert json.loads(canonical) == value
    assert canonical_json(json.dumps(json.loads(canonical), indent=1)) == canonical
    assert canonical_json(TO_SQLITE["json"](canonical)) == canonical


@pytest.mark.parametrize(("sqlite", "postgresql"), [("1e+22", "1" + "0" * 22), ("-0.0", "0.0")])
def test_numbers_that_postgresql_spells_otherwise_are_equal(sqlite: str, postgresql: str) -> None:
    assert canonical_json(sqlite) == canonical_json(postgresql)


def test_bytes_and_terms_are_kept() -> None:
    assert TO_SQLITE["binary"](FROM_SQLITE["binary"](bytes(range(256)))) == bytes(range(256))
    assert FROM_SQLITE["terms"]("b a") == ["a", "b"]
    assert FROM_SQLITE["terms"]("") == []
    assert TO_SQLITE["terms"](["a", "b"]) == "a b"
    assert TO_POSTGRESQL["terms"](["it's", "\\"]) == "'it''s' '\\\\'"


def test_what_postgresql_cannot_store_is_replaced() -> None:
    assert STORABLE["text"]("a\x00b") == "a\ufffdb"
    stored = canonical_json(json.dumps({"a\x00": ["\ud800", "\U0001d11e", "\\u0000"]}))
    assert json.loads(STORABLE["json"](stored)) == {"a\ufffd": ["\ufffd", "\U0001d11e", "\\u0000"]}


def test_missing_values_stay_missing() -> None:
    convert = columns.converter(["json", "datetime", "text"], FROM_SQLITE)
    assert convert([None, None, None]) == [None, None, None]
    assert columns.line(convert(["{}", None, "é"])) == '["{}",null,"é"]\n'.encode()
