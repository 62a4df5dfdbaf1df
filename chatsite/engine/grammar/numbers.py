"""GBNF of integers within bounds."""

from __future__ import annotations

import math
from typing import Any

from chatsite.engine.contract.backend import BadParameters
from chatsite.engine.grammar.schema_merge import Unsatisfiable

_DIGITS = 16  # of unbounded numbers


def whole_numbers(schema: dict[str, Any], where: str) -> str:
    """Return GBNF of the integers that a schema allows. Raise `BadParameters` if there are none."""
    least = _bound(schema, "minimum", "exclusiveMinimum", 1, where)
    most = _bound(schema, "maximum", "exclusiveMaximum", -1, where)
    if least is None and most is None:
        return "integer"
    if least is not None and most is not None and least > most:
        raise Unsatisfiable(f"no integer is within the bounds at {where}")
    ways = []
    if least is None or least < 0:
        nearest = 1 if most is None or most >= 0 else -most
        ways.append(f'"-" ( {_positive(nearest, None if least is None else -least)} )')
    if most is None or most >= 0:
        ways.append(_positive(max(0, least or 0), most))
    return " | ".join(ways)


def _bound(schema: dict[str, Any], key: str, exclusive: str, step: int, where: str) -> int | None:
    found = []
    # In drafts before 6, `exclusiveMinimum: true` makes `minimum` exclusive.
    for name, beyond in ((key, step if schema.get(exclusive) is True else 0), (exclusive, step)):
        value = schema.get(name)
        if value is None or isinstance(value, bool):
            continue
        if not isinstance(value, int | float) or step * value >= 10**_DIGITS:
            raise BadParameters(f"`{name}` is not supported at {where}")
        if abs(value) >= 10**_DIGITS:
            continue  # such numbers are not generated anyway
        whole = math.ceil(value) if step > 0 else math.floor(value)
        found.append(whole + beyond if whole == value else whole)
    if not found:
        return None
    return max(found) if step > 0 else min(found)


def _positive(least: int, most: int | None) -> str:
    """Return GBNF of integers from ``least`` (at least 0) to ``most``; None: unbounded."""
    ways = []
    last = 10**_DIGITS - 1 if most is None else most
    for digits in range(len(str(least)), len(str(last)) + 1):
        low = max(least, 10 ** (digits - 1) if digits > 1 else 0)
        high = min(last, 10**digits - 1)
        ways.append(_same_length(str(low), str(high)))
    return " | ".join(ways)


def _same_length(low: str, high: str) -> str:
    """Return GBNF of integers from ``low`` to ``high``, which have equally many digits."""
    if not low:
        return ""
    rest = len(low) - 1
    if low[1:] == "0" * rest and high[1:] == "9" * rest:
        free = f" [0-9]{{{rest}}}" if rest else ""
        return f"[{low[0]}-{high[0]}]{free}"
    if low[0] == high[0]:
        return f'"{low[0]}" {_same_length(low[1:], high[1:])}'
    ways = [f'"{low[0]}" {_same_length(low[1:], "9" * rest)}']
    first, last = int(low[0]) + 1, int(high[0]) - 1
    if first <= last:
        ways.append(f"[{first}-{last}] [0-9]{{{rest}}}")
    ways.append(f'"{high[0]}" {_same_length("0" * rest, high[1:])}')
    return f"( {' | '.join(ways)} )"
