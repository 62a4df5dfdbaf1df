"""Usage: the overview of a period, one table in full, and tables as CSV."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode

from django.core.paginator import Paginator
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_GET

from chatsite.audit.record import record
from chatsite.usage import charts, columns, organization, periods, report
from chatsite.usage.figures import RELATIVE_ERROR
from chatsite.usage.models import LabelKind
from chatsite.usage.report import By, Filter, Line, Report
from models_admin.adminsite.live import access

_TOP: Final = 8
_PER_PAGE: Final = 50
_TITLES: Final[dict[By, str | Promise]] = {
    "model": gettext_lazy("By model"),
    "group": gettext_lazy("By group"),
    "user": gettext_lazy("By user"),
    "door": gettext_lazy("By channel"),
}
_FIRST: Final[dict[By, str | Promise]] = {
    "model": gettext_lazy("Model"),
    "group": gettext_lazy("Group"),
    "user": gettext_lazy("User"),
    "door": gettext_lazy("Channel"),
}


@dataclass(frozen=True)
class Order:
    """How tables are sorted; ``query`` chooses it."""

    name: str = "requests"
    descending: bool = True

    @property
    def query(self) -> str:
        return f"sort={'-' if self.descending else ''}{self.name}"


@dataclass
class Heading:
    """A column heading that sorts by its column; ``sorted`` is the value of `aria-sort`."""

    label: str | Promise
    query: str
    sorted: str
    number: bool = True


@dataclass
class Shown:
    """A table of the page. Lines are pairs of a line and the query of its details."""

    by: By
    title: str | Promise
    first: str | Promise
    headings: list[Heading]
    lines: list[tuple[Line, str]]
    total: int
    query: str


class _Page:
    """The parameters of a request, and the report that they ask for."""

    def __init__(self, request: HttpRequest, tables: tuple[By, ...]) -> None:
        parameters = request.GET.dict()
        self.choice = periods.choose(parameters)
        self.filter = Filter(
            model=parameters.get("model", ""),
            door=parameters.get("door", ""),
            group=parameters.get("group"),
            user=parameters["user"] if parameters.get("user", "").isdecimal() else "",
        )
        self.order = _order(parameters.get("sort", ""))
        self.refused = ""
        try:
            self.report = report.build(self.choice.period, self.filter, tables)
        except report.NotReported as error:
            self.refused = error.args[0]
            self.filter = Filter()
            self.report = report.build(self.choice.period, self.filter, tables)

    def query(self, **changes: str | None) -> str:
        """Return the parameters of this page with changes; None removes one."""
        found: dict[str, str | None] = {**self._filters(), **changes}
        kept = {name: value for name, value in found.items() if value is not None}
        return "&".join(part for part in (self.choice.query, urlencode(kept)) if part)

    def _filters(self) -> dict[str, str]:
        chosen = self.filter
        found = {"model": chosen.model, "door": chosen.door, "user": chosen.user}
        kept = {name: value for name, value in found.items() if value}
        return kept if chosen.group is None else {**kept, "group": chosen.group}

    def lines(self, by: By) -> list[Line]:
        """Return the sorted lines of a table, without percentiles of groups and users."""
        found = self.report.tables.get(by, [])
        for line in found:
            line.name = line.name or (_("Without a group") if by == "group" else line.key)
        if columns.BY_NAME.get(self.order.name, columns.COLUMNS[0]).costly:
            self.report.add_percentiles(by, found)
        return columns.sort(found, self.order.name, descending=self.order.descending)

    def shown(self, by: By, lines: list[Line], total: int) -> Shown:
        self.report.add_percentiles(by, lines)
        details = self.report.least == 1
        return Shown(
            by=by,
            title=_TITLES[by],
            first=_FIRST[by],
            headings=self._headings(by),
            lines=[(line, self.query(**{by: line.key}) if details else "") for line in lines],
            total=total,
            query=self.query(sort=None),
        )

    def _headings(self, by: By) -> list[Heading]:
        named: list[tuple[str, str | Promise]] = [("name", _FIRST[by])]
        if by != "user":
            named.append(("users", _("Users")))
        named += [(column.name, column.label) for column in columns.COLUMNS]
        found = []
        for name, label in named:
            current = name == self.order.name
            descending = not self.order.descending if current else name != "name"
            found.append(
                Heading(
                    label,
                    f"{self.query()}&{Order(name, descending).query}",
                    ("descending" if self.order.descending else "ascending") if current else "",
                    number=name != "name",
                )
            )
        return found

    def chips(self) -> list[tuple[str | Promise, str, str]]:
        """Return the filters: what it is, its value, and the query without it."""
        chosen = self.filter
        found: list[tuple[str | Promise, str, str]] = []
        if chosen.model:
            found.append((_FIRST["model"], chosen.model, self.query(model=None)))
        if chosen.door:
            name = report.door_names().get(chosen.door, chosen.door)
            found.append((_FIRST["door"], name, self.query(door=None)))
        if chosen.user:
            name = report.label(LabelKind.USER, chosen.user) or chosen.user
            found.append((_FIRST["user"], name, self.query(user=None)))
        elif chosen.group is not None:
            name = report.label(LabelKind.GROUP, chosen.group) or _("Without a group")
            found.append((_FIRST["group"], name, self.query(group=None)))
        return found

    def context(self) -> dict[str, Any]:
        return {
            "choice": self.choice,
            "presets": [
                (name, label, f"{self._without_period()}period={name}")
                for name, (_days, label) in periods.PRESETS.items()
            ],
            "report": self.report,
            "columns": columns.COLUMNS,
            "hidden_fields": self._filters().items(),
            "chips": self.chips(),
            "refused": self.refused,
            "query": self.query(),
            "zone": str(organization.zone()),
            "percent_off": round(RELATIVE_ERROR * 100),
        }

    def _without_period(self) -> str:
        rest = self.query().removeprefix(self.choice.query).removeprefix("&")
        return f"{rest}&" if rest else ""


@require_GET
@access.page("usage.view_report")
def overview(request: HttpRequest) -> HttpResponse:
    page = _Page(request, report.BY)
    found = page.report
    tables = []
    for by in report.BY:
        if by in found.tables:
            lines = page.lines(by)
            tables.append(page.shown(by, lines[:_TOP], len(lines)))
    values = {
        **page.context(),
        "tables": tables,
        "errors": _errors(found),
        "charts": {
            "requests": charts.requests(found.period, found.points),
            "tokens": charts.tokens(found.period, found.points),
            "times": charts.times(found.period, found.points),
        },
    }
    return render(
        request, "admin/usage/overview.html", access.context(request, _("Usage"), **values)
    )


@require_GET
@access.page("usage.view_report")
def table(request: HttpRequest, by: str) -> HttpResponse:
    which = _known(by)
    page = _Page(request, (which,))
    lines = page.lines(which)
    part = Paginator(lines, _PER_PAGE).get_page(request.GET.get("page"))
    values = {
        **page.context(),
        "table": page.shown(which, list(part.object_list), len(lines)),
        "part": part,
        "off": which not in page.report.tables and not page.filter,
        "order_query": page.order.query,
    }
    return render(
        request, "admin/usage/table.html", access.context(request, _TITLES[which], **values)
    )


@require_GET
@access.page("usage.view_report")
def download(request: HttpRequest, by: str) -> HttpResponse:
    which = _known(by)
    page = _Page(request, (which,))
    lines = page.lines(which)
    page.report.add_percentiles(which, lines)
    period = page.report.period
    record(
        "usage.exported",
        request=request,
        table=by,
        first=period.first.isoformat(),
        last=period.last.isoformat(),
    )
    # The mark makes spreadsheets read UTF-8.
    text = "\ufeff" + columns.as_csv(by, lines, page.report.least)
    name = f"usage-{by}-{period.first}-{period.last}.csv"
    return HttpResponse(
        text,
        content_type="text/csv; charset=utf-8",
        headers={"Content-Disposition": f'attachment; filename="{name}"'},
    )


def _errors(found: Report) -> list[tuple[str, int]]:
    """Return errors by code; none while small groups are hidden: a code may be one user's."""
    if found.total.figures is None or found.least > 1:
        return []
    return found.total.figures.errors.most_common()


def _known(by: str) -> By:
    if by not in report.BY:
        raise Http404
    return by


def _order(text: str) -> Order:
    name = text.removeprefix("-")
    if name not in {"name", "users", *columns.BY_NAME}:
        return Order()
    return Order(name, text.startswith("-"))
