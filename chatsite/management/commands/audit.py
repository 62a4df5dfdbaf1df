"""`manage.py audit`: list, verify and export the audit log."""

from __future__ import annotations

import json
import os
import sys
import time
from argparse import ArgumentParser
from collections.abc import Callable
from datetime import datetime, timedelta
from itertools import islice
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError
from django.utils import timezone
from django.utils.dateparse import parse_date, parse_datetime

from chatsite.audit import chain, drain, find, formats, verification
from chatsite.audit.find import Filter
from chatsite.audit.kinds import KINDS
from chatsite.audit.models import Event, Outcome
from chatsite.audit.record import record


class Command(BaseCommand):
    help = (
        "Lists, verifies and exports the audit log. Exits with 1 if the verification fails, and on "
        "other errors."
    )
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")

        listing = actions.add_parser("list", help="list the newest events")
        _add_filter(listing)
        listing.add_argument("--text", default="", help="words that the event must contain")
        listing.add_argument("-n", type=int, default=50, metavar="N", help="at most N (default 50)")
        listing.add_argument("--json", action="store_true", help="write JSON lines")

        verifying = actions.add_parser(
            "verify", help="check the hash chain and name the first event that breaks it"
        )
        verifying.add_argument("--json", action="store_true", help="write JSON")

        exporting = actions.add_parser(
            "export", help="write events to standard output, oldest first"
        )
        _add_filter(exporting)
        exporting.add_argument("--text", default="", help="words that the event must contain")
        exporting.add_argument(
            "--format", choices=formats.FORMATS, default="jsonl", help="format (default jsonl)"
        )
        actions.add_parser("kinds", help="list the kinds of events")

    def handle(self, *args: object, **options: Any) -> None:
        actions: dict[str, Callable[..., None]] = {
            "list": self._list,
            "verify": self._verify,
            "export": self._export,
            "kinds": self._kinds,
        }
        try:
            actions[options["action"]](**options)
        except BrokenPipeError:
            # The reader closed the pipe. Without this, Python's flush at exit would raise it again.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        except DatabaseError as error:
            raise CommandError(
                f"The database can't be used ({error}). If it is new: manage.py migrate"
            ) from error

    def _list(self, *, n: int, json: bool, **options: Any) -> None:
        if n < 1:
            raise CommandError("-n must be at least 1.")
        self._drain()
        events = list(islice(find.newest_first(_filter(options), fetch=max(n, 200)), n))
        if json:
            for line in formats.lines(reversed(events), "jsonl"):
                self.stdout.write(line, ending="")
            return
        if not events:
            self.stdout.write("No events.")
        for event in reversed(events):
            self.stdout.write(_as_text(event))

    def _verify(self, *, json: bool, **_options: Any) -> None:
        self._drain()
        began = time.monotonic()
        report = verification.verify()
        seconds = time.monotonic() - began
        if json:
            self.stdout.write(_report_json(report, seconds))
        elif report.ok:
            self.stdout.write(_summary(report, seconds))
        if not report.ok:
            text = report.problem.text if report.problem else ""
            if json:
                sys.exit(1)
            raise CommandError(f"The audit log is not intact. {text}")

    def _export(self, *, format: str, **options: Any) -> None:
        self._drain()
        wanted = _filter(options)
        record(
            "audit.exported",
            via="cli",
            format=format,
            filter=[f"{name}={value}" for name, value in vars(wanted).items() if value],
        )
        for line in formats.lines(find.oldest_first(wanted), format):
            self.stdout.write(line, ending="")

    def _kinds(self, **_options: Any) -> None:
        width = max(map(len, KINDS))
        for kind, label in KINDS.items():
            self.stdout.write(f"{kind:{width}}  {label}")

    def _drain(self) -> None:
        """Bring the events that wait in this machine's spool into the chain first."""
        try:
            if not drain.drain():
                self.stderr.write("The newest events are still in the spool.")
        except OSError as error:
            self.stderr.write(f"The newest events can't be read from the spool: {error}.")


def _add_filter(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--since", type=_time, metavar="TIME", help="2026-01-31, 2026-01-31T08:00, or 7d, 12h, 30m"
    )
    parser.add_argument("--until", type=_time, metavar="TIME", help="like --since; not included")
    parser.add_argument("--kind", default="", help="a kind, or a domain such as auth")
    parser.add_argument("--user", default="", metavar="USERNAME")
    parser.add_argument("--outcome", default="", choices=Outcome.values)


def _filter(options: dict[str, Any]) -> Filter:
    names = ("text", "kind", "outcome", "user", "since", "until")
    wanted = Filter(**{name: options[name] for name in names})
    domains = {kind.partition(".")[0] for kind in KINDS}
    if wanted.kind and wanted.kind not in KINDS and wanted.kind not in domains:
        raise CommandError(f"Unknown kind {wanted.kind}. See: manage.py audit kinds")
    if wanted.since and wanted.until and wanted.since >= wanted.until:
        raise CommandError("--since must be before --until.")
    return wanted


_UNITS = {"d": "days", "h": "hours", "m": "minutes"}


def _time(text: str) -> datetime:
    """Parse a date, a time (in this machine's time zone unless it has one), or an age."""
    if text[-1:] in _UNITS and text[:-1].isdecimal():
        return timezone.now() - timedelta(**{_UNITS[text[-1]]: int(text[:-1])})
    moment = parse_datetime(text)
    if moment is None:
        day = parse_date(text)
        if day is None:
            raise ValueError
        moment = datetime(day.year, day.month, day.day)  # noqa: DTZ001  (local, see below)
    return moment.astimezone()


_time.__name__ = "time"  # argparse names it in its message


def _as_text(event: Event) -> str:
    """Return one line for a terminal."""
    clock = event.time.astimezone().strftime("%Y-%m-%d %H:%M:%S")
    outcome = "" if event.outcome == Outcome.OK else f"  {event.outcome}"
    target = f"  {event.target_type} {event.target_name or event.target_id}".rstrip()
    details = "" if event.details == "{}" else f"  {event.details}"
    where = f"  {event.via} {event.address}".rstrip()
    return (
        f"{event.sequence:>8}  {clock}  {event.kind:24}  {event.actor_name or '-'}"
        f"{outcome}{target if event.target_type else ''}{where}{details}"
    )


def _summary(report: chain.Report, seconds: float) -> str:
    if not report.events:
        return "The audit log is empty."
    pruned = f"; {report.pruned} older ones were deleted by retention" if report.pruned else ""
    return (
        f"The audit log is intact: {report.events} events, {report.first} to {report.last}, "
        f"verified in {seconds:.1f} s{pruned}. Last hash: {report.hash}"
    )


def _report_json(report: chain.Report, seconds: float) -> str:
    problem = report.problem
    return json.dumps(
        {
            "ok": report.ok,
            "events": report.events,
            "first": report.first,
            "last": report.last,
            "hash": report.hash,
            "pruned": report.pruned,
            "seconds": round(seconds, 3),
            "problem": problem
            and {"what": problem.what, "sequence": problem.sequence, "text": problem.text},
        }
    )
