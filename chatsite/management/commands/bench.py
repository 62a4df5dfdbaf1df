"""`manage.py bench`: tokens/s, TTFT and gaps through the running stack and of the engine alone."""

from __future__ import annotations

import asyncio
import json
from argparse import ArgumentParser
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.utils.translation import gettext as _

from chatsite.bench import load, overhead, pages, plot, site
from chatsite.bench.api import PeerDidNotStart
from chatsite.bench.cases import CASES
from chatsite.bench.compare import SITE, compare, merged
from chatsite.bench.engine import engine
from chatsite.bench.load import Shape, Turn
from chatsite.bench.stack import people
from chatsite.errors import ChatsiteError
from chatsite.inference.assemble import resolve

_FIGURES = ("tokens_per_s", "ttft_p50_ms", "ttft_p95_ms", "gap_p50_ms", "gap_p99_ms", "gap_max_ms")

# Not all sets of flags suit all models: flash attention may slow it down or speed it up.
_PEER_FLAGS = ("-np 8 -c 16384", "-np 8 -c 16384 -fa off")


class Command(BaseCommand):
    help = str(_("Measures the running site and, beside it, the engine alone."))

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--model", default="smollm2:135m")
        parser.add_argument("--users", default="1,4,8", help=_("numbers of people at once"))
        parser.add_argument("--runs", type=int, default=3, help=_("runs of each; medians count"))
        parser.add_argument("--turns", type=int, default=3)
        parser.add_argument("--words", type=int, default=60)
        parser.add_argument("--tokens", type=int, default=64)
        parser.add_argument(
            "--llama-server",
            type=Path,
            metavar="PROGRAM",
            help=_("compare the site's API with this llama-server instead"),
        )
        parser.add_argument(
            "--flags",
            action="append",
            help=_("how llama-server is started, beside model and address; may be repeated"),
        )
        parser.add_argument(
            "--cases",
            default=",".join(CASES),
            help=_("what is compared; numbers are people at once"),
        )
        parser.add_argument(
            "--read",
            nargs="+",
            type=Path,
            metavar="FILE",
            help=_("show comparisons that were written with --json as one, measure nothing"),
        )
        parser.add_argument(
            "--plot", type=Path, metavar="FILE", help=_("draw the comparison as SVG")
        )
        parser.add_argument(
            "--pages",
            action="store_true",
            help=_("measure pages and search with 5,000 conversations instead"),
        )
        parser.add_argument(
            "--overhead",
            action="store_true",
            help=_("measure what the API costs over the engine alone instead"),
        )
        parser.add_argument("--json", action="store_true", help=_("one JSON object, no table"))

    def handle(self, *args: Any, **options: Any) -> None:
        url = f"http://{settings.ENV.host}:{settings.ENV.port}"
        shapes = [
            Shape(int(users), options["turns"], options["words"], options["tokens"])
            for users in options["users"].split(",")
        ]
        if options["pages"]:
            self._pages(url, options)
            return
        if options["overhead"]:
            self._overhead(url, options)
            return
        if options["read"]:
            files = [json.loads(file.read_text()) for file in options["read"]]
            self._show(merged([result for results in files for result in results]), options)
            return
        if options["llama_server"]:
            self._show(self._compare(url, options), options)
            return
        try:
            with site.running(url):
                results = [
                    asyncio.run(_measure(url, options["model"], shape, options["runs"]))
                    for shape in shapes
                ]
        except ChatsiteError as error:
            raise CommandError(str(error)) from error
        except site.SiteDidNotStart as error:
            raise CommandError(_("The site did not start. `manage.py up` says why.")) from error
        if options["json"]:
            self.stdout.write(json.dumps(results, indent=2))
        else:
            self._print(results)
        broken = [r for r in results if r["stack"]["errors"] or r["engine"]["errors"]]
        if broken:
            raise CommandError(_("Some answers failed; the figures above do not count."))

    def _pages(self, url: str, options: dict[str, Any]) -> None:
        try:
            with site.running(url):
                figures = pages.measure(url, self.stderr.write)
        except site.SiteDidNotStart as error:
            raise CommandError(_("The site did not start. `manage.py up` says why.")) from error
        if options["json"]:
            self.stdout.write(json.dumps(figures, indent=2))
            return
        for name, value in figures.items():
            self.stdout.write(f"{name:32}{value:>12}")

    def _overhead(self, url: str, options: dict[str, Any]) -> None:
        try:
            with site.running(url):
                work = overhead.measure(url, options["model"], options["runs"], options["tokens"])
                figures = asyncio.run(work)
        except ChatsiteError as error:
            raise CommandError(str(error)) from error
        except site.SiteDidNotStart as error:
            raise CommandError(_("The site did not start. `manage.py up` says why.")) from error
        if options["json"]:
            self.stdout.write(json.dumps(figures, indent=2))
        else:
            for name, value in figures.items():
                self.stdout.write(f"{name:32}{value!s:>12}")
        if figures["errors"]:
            raise CommandError(_("Some answers failed; the figures above do not count."))

    def _compare(self, url: str, options: dict[str, Any]) -> list[dict[str, Any]]:
        cases = options["cases"].split(",")
        if unknown := [case for case in cases if case not in CASES]:
            raise CommandError(
                _("There is no case %(case)s; there are %(cases)s.")
                % {"case": unknown[0], "cases": ", ".join(CASES)}
            )
        try:
            with site.running(url):
                return asyncio.run(
                    compare(
                        url,
                        options["model"],
                        cases,
                        options["runs"],
                        options["llama_server"],
                        options["flags"] or _PEER_FLAGS,
                        self.stderr.write,
                    )
                )
        except ChatsiteError as error:
            raise CommandError(str(error)) from error
        except (PeerDidNotStart, OSError) as error:
            raise CommandError(_("llama-server did not start: %s") % error) from error
        except site.SiteDidNotStart as error:
            raise CommandError(_("The site did not start. `manage.py up` says why.")) from error

    def _show(self, results: list[dict[str, Any]], options: dict[str, Any]) -> None:
        if options["plot"]:
            options["plot"].write_text(plot.svg(results))
        if options["json"]:
            self.stdout.write(json.dumps(results, indent=2))
        else:
            for result in results:
                self._print_case(result)
        if any(result["errors"] for result in results):
            raise CommandError(_("Some answers failed; the figures above do not count."))

    def _print_case(self, result: dict[str, Any]) -> None:
        names = [name for name in result["figures"][SITE] if name != "errors"]
        title = _("case %(case)s, medians of %(runs)s") % result
        self.stdout.write(f"{title:40}" + "".join(f"{name:>19}" for name in names))
        for server, figures in result["figures"].items():
            self.stdout.write(f"{server:40}" + "".join(f"{figures[name]:>19}" for name in names))
        for flags, ratios in result["ratios"].items():
            label = f"{SITE} / {flags}"
            self.stdout.write(f"{label:40}" + "".join(f"{ratios[name]:>19}" for name in names))

    def _print(self, results: list[dict[str, Any]]) -> None:
        self.stdout.write(f"{'':24}" + "".join(f"{name:>14}" for name in _FIGURES))
        for result in results:
            for part in ("stack", "engine"):
                label = f"{result['users']} users, {part}"
                row = "".join(f"{result[part][name]:>14}" for name in _FIGURES)
                self.stdout.write(f"{label:24}{row}")
            self.stdout.write(
                _(
                    "%(users)s users: the stack adds %(ttft)s ms to TTFT "
                    "and keeps %(share)s %% of the speed"
                )
                % {
                    "users": result["users"],
                    "ttft": result["ttft_added_ms"],
                    "share": result["throughput_percent"],
                }
            )


async def _measure(url: str, model: str, shape: Shape, runs: int) -> dict[str, Any]:
    """Stack and engine in turn, ``runs`` times, so that a drift of the machine hits both."""
    spec = await resolve(model)
    candidates: dict[str, AbstractAsyncContextManager[Turn]]
    figures: dict[str, list[dict[str, Any]]] = {"stack": [], "engine": []}
    for seed in range(runs):
        candidates = {"stack": people(url, model, shape), "engine": engine(spec, shape)}
        for name, candidate in candidates.items():
            async with candidate as turn:
                # Connections, page cache and the first load are not what is measured.
                await load.run(Shape(1, turns=1, words=5, tokens=4, think=0), turn, seed=-1)
                record = await load.run(shape, turn, seed)
                figures[name].append(record.summary())
    stack, alone = load.median(figures["stack"]), load.median(figures["engine"])
    return {
        "users": shape.users,
        "runs": runs,
        "stack": stack,
        "engine": alone,
        "ttft_added_ms": round(stack["ttft_p50_ms"] - alone["ttft_p50_ms"], 1),
        "throughput_percent": round(100 * stack["tokens_per_s"] / (alone["tokens_per_s"] or 1), 1),
    }
