"""The period of a report, from the parameters of a page or command."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final

from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from chatsite.usage import organization
from chatsite.usage.report import DAYS_MOST, Period

# Days back from today, with today.
PRESETS: Final[Mapping[str, tuple[int, str | Promise]]] = {
    "today": (1, gettext_lazy("Today")),
    "7": (7, gettext_lazy("7 days")),
    "30": (30, gettext_lazy("30 days")),
    "90": (90, gettext_lazy("90 days")),
}
DEFAULT: Final = "30"
CUSTOM: Final = "custom"


class BadPeriod(ValueError):
    """The message says what is wrong with the dates and what to do."""


@dataclass(frozen=True)
class Choice:
    """The chosen period. ``problem`` says why the default is shown instead, "" if it is not."""

    name: str
    period: Period
    problem: str = ""

    @property
    def query(self) -> str:
        """Return the parameters that choose this period."""
        if self.name != CUSTOM:
            return f"period={self.name}"
        return f"period=custom&from={self.period.first}&to={self.period.last}"


def preset(name: str) -> Period:
    today = organization.today()
    return Period(today - timedelta(days=PRESETS[name][0] - 1), today)


def choose(parameters: Mapping[str, str]) -> Choice:
    """Return the period of ``period`` or of the dates ``from`` and ``to``."""
    name = parameters.get("period") or DEFAULT
    if name in PRESETS:
        return Choice(name, preset(name))
    try:
        return Choice(CUSTOM, between(parameters.get("from", ""), parameters.get("to", "")))
    except BadPeriod as error:
        return Choice(DEFAULT, preset(DEFAULT), str(error))


def between(first: str, last: str) -> Period:
    """Return the period of two ISO dates; without the second it ends today.

    Raises `BadPeriod`.
    """
    begin, end = _date(first), _date(last) if last else organization.today()
    if begin > end:
        raise BadPeriod(_("The first day is after the last. Swap the dates."))
    if (end - begin).days >= DAYS_MOST:
        raise BadPeriod(_("The period is too long. Choose at most 10 years."))
    return Period(begin, end)


def _date(text: str) -> date:
    try:
        found = date.fromisoformat(text)
    except ValueError:
        raise BadPeriod(_("Enter both dates as year-month-day, such as 2026-11-30.")) from None
    if not 1990 <= found.year <= 9000:
        raise BadPeriod(_("Choose dates after 1990."))
    return found
