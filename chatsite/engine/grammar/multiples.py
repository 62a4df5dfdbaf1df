"""GBNF of the multiples of a number within bounds (``multipleOf``)."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any, Final

from chatsite.engine.contract.backend import BadParameters
from chatsite.engine.grammar.schema_merge import Schema, Unsatisfiable

_LISTED: Final = 500  # multiples that are listed one by one
_MAX_STEP: Final = 400  # of more multiples, without factors of ten
_LARGEST: Final = 10**15 - 1  # larger numbers are not generated
_MAX_PLACES: Final = 9


def bounds(schema: Schema, where: str) -> list[tuple[str, Fraction]]:
    """Return the bounds of a number in a schema, by keyword."""
    found = []
    for key in ("minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum"):
        value = schema.get(key)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int | float) or math.isinf(value):
            raise BadParameters(f"`{key}` must be a number at {where}")
        found.append((key, Fraction(str(value))))
    return found


def multiples(schema: Schema, where: str, rule: Callable[[str], str], *, whole: bool) -> str | None:
    """Return GBNF of the numbers that ``multipleOf`` and the bounds allow.

    Only integers if ``whole``. None if ``multipleOf`` excludes none of the numbers that are
    generated anyway. ``rule`` adds a rule and returns its name.
    """
    given = schema.get("multipleOf")
    if given is None:
        return None
    if isinstance(given, bool) or not isinstance(given, int | float | Fraction) or given <= 0:
        raise BadParameters(f"`multipleOf` must be a number greater than 0 at {where}")
    step = Fraction(str(given))
    if whole:
        step = Fraction(step.numerator)
        if step == 1:
            return None
    places = next((n for n in range(_MAX_PLACES + 1) if (step * 10**n).denominator == 1), None)
    if places is None:
        raise BadParameters(f"`multipleOf` {given} is not supported at {where}")
    if not whole and step * 10**places == 1:
        return None  # `decimals.py` limits the decimal places
    least, most = _range(schema, where, step)
    if least > most:
        raise Unsatisfiable(f"no multiple of {given} is within the bounds at {where}")
    if most - least < _LISTED:
        return " | ".join(_literal(number * step, places) for number in range(least, most + 1))
    writer = _Writer(step, where, rule)
    ways = [writer.numbers(least, most, 0)]
    if places:
        ways.append(writer.numbers(least, most, places))
    return " | ".join(way for way in ways if way)


def is_multiple(value: float, step: Any) -> bool:
    return (Fraction(str(value)) / Fraction(str(step))).denominator == 1


def _range(schema: Schema, where: str, step: Fraction) -> tuple[int, int]:
    """Return the first and the last factor of ``step`` within the bounds."""
    most = math.floor(_LARGEST / step)
    least = -most
    for key, value in bounds(schema, where):
        factor = value / step
        if key == "minimum":
            least = max(least, math.ceil(factor))
        elif key == "exclusiveMinimum":
            least = max(least, math.floor(factor) + 1)
        elif key == "maximum":
            most = min(most, math.floor(factor))
        else:
            most = min(most, math.ceil(factor) - 1)
    return least, most


def _literal(value: Fraction, places: int) -> str:
    sign = "-" if value < 0 else ""
    digits = str(abs(int(value * 10**places))).rjust(places + 1, "0")
    head, tail = digits[: len(digits) - places], digits[len(digits) - places :].rstrip("0")
    return f'"{sign}{head}{"." if tail else ""}{tail}"'


class _Writer:
    """Writes multiples digit by digit, with the remainder of the digits so far."""

    def __init__(self, step: Fraction, where: str, rule: Callable[[str], str]) -> None:
        self._step = step
        self._where = where
        self._rule = rule
        self._free: dict[tuple[int, int, int, int, int], str] = {}

    def numbers(self, least: int, most: int, places: int) -> str:
        """Return GBNF of multiples from factor ``least`` to ``most`` with ``places`` decimals."""
        step = (self._step * 10**places).numerator  # in units of the last digit
        scale = Fraction(10**places) * self._step / step  # 1; less only for integers
        low, high = (math.ceil(least * scale) * step, math.floor(most * scale) * step)
        zeros = 0
        while not places and step % 10 == 0:
            step, zeros = step // 10, zeros + 1
        if step > _MAX_STEP:
            raise BadParameters(
                f"`multipleOf` is not supported at {self._where}: there are too many multiples "
                "within the bounds"
            )
        unit = 10**zeros
        ways = []
        if low < 0:
            nearest = step if high >= 0 else -high // unit
            if below := self._positive(nearest, -low // unit, step, places, zeros):
                ways.append(f'"-" ( {below} )')
        if high >= 0:
            if low <= 0 and not places:
                ways.append('"0"')
            first = max(low // unit, 0 if places else 1)
            if above := self._positive(first, high // unit, step, places, zeros):
                ways.append(above)
        return " | ".join(ways)

    def _positive(self, low: int, high: int, step: int, places: int, zeros: int) -> str:
        end = f' "{"0" * zeros}"' if zeros else ""
        ways = []
        shortest = places + 1
        for size in range(max(shortest, len(str(low))), max(shortest, len(str(high))) + 1):
            first = max(low, 0 if size == shortest and places else 10 ** (size - 1))
            last = min(high, 10**size - 1)
            if first <= last:
                texts = str(first).rjust(size, "0"), str(last).rjust(size, "0")
                if found := self._tail(*texts, 0, step, places):
                    ways.append(f"{found}{end}")
        return " | ".join(ways)

    def _tail(self, low: str, high: str, rest: int, step: int, places: int) -> str:
        """Return GBNF of digits from ``low`` to ``high`` that bring remainder ``rest`` to 0.

        Empty if there are none.
        """
        size = len(low)
        if not size:
            return "" if rest else '""'
        key = (int(low), int(high), size, rest, step)
        if key not in self._free:
            ways: dict[str, list[str]] = {}
            for digit in range(int(low[0]), int(high[0]) + 1):
                following = self._tail(
                    low[1:] if digit == int(low[0]) else "0" * (size - 1),
                    high[1:] if digit == int(high[0]) else "9" * (size - 1),
                    (10 * rest + digit) % step,
                    step,
                    places,
                )
                if following:
                    ways.setdefault(following, []).append(str(digit))
            point = ' "."' if places and size == places + 1 else ""
            body = " | ".join(
                f"[{''.join(digits)}]{point} {following}" for following, digits in ways.items()
            )
            self._free[key] = self._rule(body) if body else ""
        return self._free[key]
