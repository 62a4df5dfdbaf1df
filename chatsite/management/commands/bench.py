"""`manage.py bench`: tokens/s, TTFT and gaps through the running stack and of the engine alone."""

from __future__ import annotations

import asyncio
import json
from argparse import ArgumentParser
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.utils.translation import gettext as _

from chatsite.bench import load, pages, site
from chatsite.bench.api import PeerDidNotStart
from chatsite.bench.compare import compare
from chatsite.bench.engine import engine
from chatsite.bench.load import Shape, Turn
from chatsite.bench.stack import people
from chatsite.errors import ChatsiteError
from chatsite.inference.assemble import resolve

_FIGURES = ("tokens_per_s", "ttft_p50_ms", "ttft_p95_ms", "gap_p50_ms", "gap_p99_ms", "gap_max_ms")


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
            default="-np 8 -c 16384",
            help=_("how llama-server is started, beside model and address"),
        )
        parser.add_argument(
            "--pages",
            action="store_true",
            help=_("measure pages and search with 5,000 conversations instead"),
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
        if options["llama_server"]:
            self._compare(url, shapes, options)
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

    def _compare(self, url: str, shapes: list[Shape], options: dict[str, Any]) -> None:
        shapes = [replace(shape, system=200, think=1.0) for shape in shapes]
        flags = options["flags"].split()
        try:
            with site.running(url):
                results = asyncio.run(
                    compare(
                        url,
                        options["model"],
                        shapes,
                        options["runs"],
                        options["llama_server"],
                        flags,
                    )
                )
        except ChatsiteError as error:
            raise CommandError(str(error)) from error
        except (PeerDidNotStart, OSError) as error:
            raise CommandError(_("llama-server did not start: %s") % error) from error
        except site.SiteDidNotStart as error:
            raise CommandError(_("The site did not start. `manage.py up` says why.")) from error
        if options["json"]:
            self.stdout.write(json.dumps(results, indent=2))
            return
        self.stdout.write(f"{'':24}" + "".join(f"{name:>14}" for name in _FIGURES))
        for result in results:
            for part in ("site", "peer", "ratios"):
                label = f"{result['users']} users, {part}"
                row = "".join(f"{result[part].get(name, ''):>14}" for name in _FIGURES)
                self.stdout.write(f"{label:24}{row}")

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
