"""`manage.py usage`: reports on the command line."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from typing import Any, cast

from django.core.management.base import BaseCommand, CommandError

from chatsite.usage import columns, periods, report, rollup
from chatsite.usage.report import BY, By, Filter, Line, Period, Report


class Command(BaseCommand):
    help = (
        "Reports requests, tokens and response times. The smallest group of the settings applies, "
        "as on the page. Exits with 1 on errors."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
        reporting = actions.add_parser("report", help="print a table of a period")
        reporting.add_argument(
            "--by", choices=BY, default="model", help="one line per (default: %(default)s)"
        )
        reporting.add_argument(
            "--from", dest="first", metavar="DATE", help="first day (default: 30 days ago)"
        )
        reporting.add_argument(
            "--to", dest="last", metavar="DATE", help="last day (default: today)"
        )
        form = reporting.add_mutually_exclusive_group()
        form.add_argument("--csv", action="store_true", help="as CSV")
        form.add_argument("--json", action="store_true", help="as JSON, with the total")
        actions.add_parser("roll-up", help="count ended requests now, as every minute")

    def handle(self, *args: object, **options: Any) -> None:
        if options["action"] == "roll-up":
            self.stdout.write(f"{rollup.count_ended()} requests counted.")
            return
        by = cast(By, options["by"])
        found = report.build(self._period(options["first"], options["last"]), Filter(), (by,))
        if by not in found.tables:
            raise CommandError(
                "The usage of single users is not reported on this site. See the settings "
                "“Smallest group in usage reports” and “Report the usage of single users”."
            )
        lines = found.tables[by]
        for line in lines:
            line.name = line.name or "(without a group)"
        found.add_percentiles(by, lines)
        if options["csv"]:
            self.stdout.write(columns.as_csv(by, lines, found.least), ending="")
        elif options["json"]:
            self.stdout.write(json.dumps(self._as_json(by, found, lines), indent=2))
        elif found.total.figures is None:
            self.stdout.write(f"Fewer than {found.least} users: nothing is shown.")
        elif not lines:
            self.stdout.write("No usage in this period.")
        else:
            self.stdout.write(columns.as_text(by, lines, found.least))
        if found.uncounted:
            self.stderr.write(f"{found.uncounted} requests are not included yet.")

    def _period(self, first: str | None, last: str | None) -> Period:
        if first is None and last is None:
            return periods.preset(periods.DEFAULT)
        try:
            if first is None:
                end = periods.between(last or "", last or "").last
                return Period(end.fromordinal(end.toordinal() - 29), end)
            return periods.between(first, last or "")
        except periods.BadPeriod as error:
            raise CommandError(str(error)) from error

    def _as_json(self, by: By, found: Report, lines: list[Line]) -> dict[str, Any]:
        return {
            "from": found.period.first.isoformat(),
            "to": found.period.last.isoformat(),
            "by": by,
            "least_users": found.least,
            "total": columns.as_dict(found.total),
            "lines": [columns.as_dict(line) for line in lines],
            "uncounted": found.uncounted,
        }
