"""PATCH operations on a document (RFC 7644, 3.5.2), with what Entra ID and Okta make of them.

Entra ID writes operations capitalized, booleans as texts, and adds elements by a path with a filter
that matches nothing. Okta leaves out the path and puts attributes into the value. Attributes that
the site does not have are ignored: providers send many.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, Final

from chatsite.accounts.scim.errors import ScimError
from chatsite.accounts.scim.query import Path, parse_path

OPERATIONS_MOST: Final = 1000
_LISTS: Final = frozenset({"emails", "members"})
_OBJECTS: Final = frozenset({"name"})

Document = dict[str, Any]


def apply(document: Mapping[str, Any], body: Mapping[str, Any]) -> Document:
    """Return the document after all operations of a PatchOp. Raises `ScimError`."""
    operations = _named(body, "operations")
    if not isinstance(operations, list) or not operations:
        raise ScimError("Operations must be a list with at least one.", kind="invalidSyntax")
    if len(operations) > OPERATIONS_MOST:
        raise ScimError(f"More than {OPERATIONS_MOST} operations.", status=413, kind="tooMany")
    found = copy.deepcopy(dict(document))
    for operation in operations:
        if not isinstance(operation, dict):
            raise ScimError("An operation must be an object.", kind="invalidSyntax")
        _apply_one(found, operation)
    return found


def _apply_one(document: Document, operation: Mapping[str, Any]) -> None:
    op = str(_named(operation, "op")).lower()
    if op not in {"add", "replace", "remove"}:
        raise ScimError(f"The operation {op[:50]!r} is unknown.", kind="invalidSyntax")
    path, value = _named(operation, "path"), _named(operation, "value")
    if path is not None and not isinstance(path, str):
        raise ScimError("path must be a text.", kind="invalidPath")
    if path:
        _at(document, op, parse_path(path), value)
        return
    if op == "remove":
        raise ScimError("remove needs a path.", kind="noTarget")
    if not isinstance(value, dict):
        raise ScimError("Without a path, value must be an object.", kind="invalidValue")
    for name, inner in value.items():
        if name.lower() != "schemas":
            _at(document, op, parse_path(name), inner)


def _at(document: Document, op: str, path: Path, value: Any) -> None:
    name = _own_name(document, path.attribute)
    if name is None:
        return
    if path.attribute in _LISTS:
        _in_list(document, name, op, path, value)
    elif path.sub:
        if path.attribute in _OBJECTS:
            inner = document.get(name) or {}
            _set(inner, _own_name(inner, path.sub) or path.sub, op, value)
            document[name] = inner
    elif path.attribute in _OBJECTS and isinstance(value, dict) and op != "remove":
        kept = document.get(name) or {}
        document[name] = {**kept, **value}
    else:
        _set(document, name, op, value)


def _set(target: Document, name: str, op: str, value: Any) -> None:
    target[name] = None if op == "remove" else value


def _in_list(document: Document, name: str, op: str, path: Path, value: Any) -> None:
    elements: list[Any] = list(document.get(name) or [])
    if path.filter is None:
        given = _elements(value)
        if op == "remove":
            # Entra ID names the elements in the value; without them, all are meant.
            gone = {_value_of(one) for one in given}
            elements = [one for one in elements if given and _value_of(one) not in gone]
        elif op == "replace":
            elements = given
        else:
            known = {_value_of(one) for one in elements}
            elements += [one for one in given if _value_of(one) not in known]
    else:
        condition = path.filter
        matching = [one for one in elements if condition.holds(one)]
        if op == "remove" and not path.sub:
            elements = [one for one in elements if one not in matching]
        else:
            if not matching and op != "remove":
                matching = [{condition.attribute: condition.value}]
                elements += matching
            for one in matching:
                if path.sub:
                    _set(one, path.sub, op, value)
                elif isinstance(value, dict):
                    one.update(value)
    document[name] = elements


def _elements(value: Any) -> list[Any]:
    if value is None:
        return []
    found = value if isinstance(value, list) else [value]
    return [one if isinstance(one, dict) else {"value": one} for one in found]


def _value_of(element: Any) -> str:
    return str(element.get("value", "")) if isinstance(element, dict) else str(element)


def _own_name(document: Mapping[str, Any], name: str) -> str | None:
    """Return the document's spelling of an attribute, whose case does not matter."""
    return next((own for own in document if own.lower() == name), None)


def _named(body: Mapping[str, Any], name: str) -> Any:
    own = _own_name(body, name)
    return body[own] if own is not None else None
