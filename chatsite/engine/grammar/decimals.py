"""GBNF of decimal numbers within bounds.

Numbers have no exponent, and their decimals are compared as text, digit by digit, as words are.
"""

from __future__ import annotations

from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import Any, Final, NamedTuple

from chatsite.engine.contract.backend import BadParameters
from chatsite.engine.grammar.numbers import whole_numbers
from chatsite.engine.grammar.schema_merge import Unsatisfiable

_PLACES: Final = 16
_LIMIT: Final = 10**16  # greater numbers are not generated


class _Bound(NamedTuple):
    """A bound of a number."""

    value: Decimal
    open: bool  # the value itself is not allowed


def decimals(schema: dict[str, Any], where: str) -> str:
    """Return GBNF of the numbers that a schema allows.

    Keywords are ``minimum``, ``maximum``, their exclusive forms and a ``multipleOf`` of 1, 0.1,
    0.01 and so on; others are ignored. Raise `BadParameters` if no number is left.
    """
    places = _places(schema.get("multipleOf"))
    if places == 0:
        return whole_numbers(schema, where)
    least = _bound(schema, "minimum", "exclusiveMinimum", 1, where)
    most = _bound(schema, "maximum", "exclusiveMaximum", -1, where)
    if least is None and most is None and places == _PLACES:
        return "number"
    ways = []
    if least is None or least.value < 0:
        nearest = _Bound(Decimal(0), False)
        if most is not None and most.value <= 0:
            nearest = _Bound(-most.value, most.open)
        furthest = None if least is None else _Bound(-least.value, least.open)
        if below := _magnitudes(nearest, furthest, places):
            ways.append(f'"-" ( {below} )')
    if most is None or most.value >= 0:
        first = least if least is not None and least.value >= 0 else _Bound(Decimal(0), False)
        if above := _magnitudes(first, most, places):
            ways.append(above)
    if not ways:
        raise Unsatisfiable(f"no number is within the bounds at {where}")
    return " | ".join(ways)


def _places(step: Any) -> int:
    for places in range(_PLACES):
        if isinstance(step, int | float) and step == float(f"1e-{places}"):
            return places
    return _PLACES


def _bound(
    schema: dict[str, Any], key: str, exclusive: str, side: int, where: str
) -> _Bound | None:
    found = []
    for name in (key, exclusive):
        value = schema.get(name)
        if value is None or isinstance(value, bool):
            continue
        if not isinstance(value, int | float) or not side * value < _LIMIT:
            raise BadParameters(f"`{name}` is not supported at {where}")
        if abs(value) >= _LIMIT:
            continue
        exact = Decimal(repr(value))
        inward = ROUND_CEILING if side > 0 else ROUND_FLOOR
        kept = exact.quantize(Decimal(1).scaleb(-_PLACES), inward).normalize()
        # In drafts before 6, `exclusiveMinimum: true` makes `minimum` exclusive.
        is_open = name == exclusive or schema.get(exclusive) is True
        found.append(_Bound(kept, is_open and kept == exact))
    if not found:
        return None
    return max(found, key=lambda one: (side * one.value, one.open))


def _magnitudes(low: _Bound, high: _Bound | None, places: int) -> str | None:
    """Return GBNF of the numbers from ``low`` (at least 0) to ``high``, or None."""
    least, after_least = _parts(low.value)
    most, after_most = (_LIMIT, "") if high is None else _parts(high.value)
    until_open = high is None or high.open
    if least > most:
        return None
    if least == most:
        within = _between(after_least, low.open, after_most, until_open, places)
        return None if within is None else f'"{least}" {within}'
    ways = []
    if (rest := _at_least(after_least, low.open, places)) is not None:
        ways.append(f'"{least}" {rest}')
    if least + 1 < most:
        wholes = whole_numbers({"minimum": least + 1, "maximum": most - 1}, "")
        ways.append(f"( {wholes} ) {_at_least('', False, places)}")
    if (rest := _at_most(after_most, until_open, places)) is not None:
        ways.append(f'"{most}" {rest}')
    return " | ".join(ways) or None


def _parts(value: Decimal) -> tuple[int, str]:
    whole, _, after = format(value, "f").partition(".")
    return int(whole), after.rstrip("0")


# GBNF of the decimals after an integer, or None. ``after`` are the decimals of a bound, without
# trailing zeros.


def _at_least(after: str, is_open: bool, places: int) -> str | None:
    if not after and not is_open:
        return f'( "." [0-9]{{1,{places}}} )?'
    digits = _from(after, is_open, places)
    return None if digits is None else f'"." {digits}'


def _at_most(after: str, is_open: bool, places: int) -> str | None:
    if not after:
        return None if is_open else f'( "." "0"{{1,{places}}} )?'
    return f'( "." {_to(after, is_open, places)} )?'


def _between(after: str, is_open: bool, until: str, until_open: bool, places: int) -> str | None:
    if not after and not is_open:
        return _at_most(until, until_open, places)
    digits = _within(after, is_open, until, until_open, places)
    return None if digits is None else f'"." {digits}'


def _free(room: int) -> str:
    return f"[0-9]{{0,{room}}}"


def _either(ways: list[str]) -> str | None:
    return f"( {' | '.join(ways)} )" if ways else None


def _from(digits: str, is_open: bool, room: int) -> str | None:
    """Return GBNF of up to ``room`` digits that are at least ``digits``."""
    if not digits and not is_open:
        return _free(room)
    if room == 0:
        return None
    first = digits[:1] or "0"
    ways = [] if first == "9" else [f"[{int(first) + 1}-9] {_free(room - 1)}"]
    if (rest := _from(digits[1:], is_open, room - 1)) is not None:
        ways.append(f'"{first}" {rest}')
    return _either(ways)


def _to(digits: str, is_open: bool, room: int) -> str | None:
    """Return GBNF of one to ``room`` digits that are at most ``digits``, which is not empty."""
    if room == 0:
        return None
    first = digits[0]
    ways = [] if first == "0" else [f"[0-{int(first) - 1}] {_free(room - 1)}"]
    if digits[1:]:
        rest = _to(digits[1:], is_open, room - 1)
        ways.append(f'"{first}"' if rest is None else f'"{first}" ( {rest} )?')
    elif not is_open:
        ways.append(f'"{first}" "0"{{0,{room - 1}}}')
    return _either(ways)


def _within(low: str, low_open: bool, high: str, high_open: bool, room: int) -> str | None:
    """Return GBNF of digits between both bounds."""
    if not low and not low_open:
        if not high:
            return None if high_open else f'"0"{{0,{room}}}'
        rest = _to(high, high_open, room)
        return '""' if rest is None else f"( {rest} )?"
    if not high or room == 0:
        return None
    first, last = low[:1] or "0", high[0]
    if first > last:
        return None
    if first == last:
        rest = _within(low[1:], low_open, high[1:], high_open, room - 1)
        return None if rest is None else f'"{first}" {rest}'
    ways = []
    if (rest := _from(low[1:], low_open, room - 1)) is not None:
        ways.append(f'"{first}" {rest}')
    if int(first) + 1 < int(last):
        ways.append(f"[{int(first) + 1}-{int(last) - 1}] {_free(room - 1)}")
    if (rest := _within("", False, high[1:], high_open, room - 1)) is not None:
        ways.append(f'"{last}" {rest}')
    return _either(ways)
