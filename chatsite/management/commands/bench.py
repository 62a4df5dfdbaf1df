"""`manage.py bench`: tokens/s, TTFT and gaps, for the running stack and for the engine alone."""

from __future__ import annotations

import asyncio
import json
import subprocess
from argparse import ArgumentParser
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.utils.translation import gettext as _

from chatsite.bench import hostile, knowledge, load, overhead, pages, plot, site
from chatsite.bench.api import PeerDidNotStart
from chatsite.bench.cases import CASES
from chatsite.bench.compare import SITE, compare, merged
from chatsite.bench.engine import engine
from chatsite.bench.hostile_inputs import ATTACKS
from chatsite.bench.load import Shape, Turn
from chatsite.bench.stack import people
from chatsite.env import in_url
from chatsite.errors import ChatsiteError
from chatsite.inference.assemble import resolve

_FIGURES = ("tokens_per_s", "ttft_p50_ms", "ttft_p95_ms", "gap_p50_ms", "gap_p99_ms", "gap_max_ms")

# Flash attention may slow a model down or speed it up, so both are measured.
_PEER_FLAGS = ("-np 8 -c 16384", "-np 8 -c 16384 -fa off")


class Command(BaseCommand):
    help = str(_("Measures the running site and, for comparison, the engine alone."))

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--model", default="smollm2:135m", help=_("model to measure"))
        parser.add_argument("--users", default="1,4,8", help=_("numbers of concurrent users"))
        parser.add_argument(
            "--runs", type=int, default=3, help=_("runs of each; medians are reported")
        )
        parser.add_argument("--turns", type=int, default=3, help=_("turns of each user"))
        parser.add_argument("--words", type=int, default=60, help=_("words of each question"))
        parser.add_argument("--tokens", type=int, default=64, help=_("tokens of each answer"))
        parser.add_argument(
            "--think",
            type=float,
            default=0.5,
            metavar="SECONDS",
            help=_("longest pause before each turn; pauses are evenly distributed"),
        )
        parser.add_argument(
            "--site-only", action="store_true", help=_("leave out the engine alone")
        )
        parser.add_argument(
            "--llama-server",
            type=Path,
            metavar="PROGRAM",
            help=_("compare the site's API with this llama-server instead"),
        )
        parser.add_argument(
            "--flags",
            action="append",
            help=_("arguments of llama-server besides model and address; repeatable"),
        )
        parser.add_argument(
            "--cases",
            default=",".join(CASES),
            help=_("loads to compare; numbers are concurrent users"),
        )
        parser.add_argument(
            "--read",
            nargs="+",
            type=Path,
            metavar="FILE",
            help=_("merge results that --json wrote; measure nothing"),
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
            help=_("measure the API's overhead over the engine alone instead"),
        )
        parser.add_argument(
            "--hostile",
            action="store_true",
            help=_("measure the effect of hostile inputs on two streaming users instead"),
        )
        parser.add_argument(
            "--knowledge",
            type=Path,
            metavar="FOLDER",
            help=_(
                "measure the quality of retrieval instead; documentation is fetched into FOLDER"
            ),
        )
        parser.add_argument(
            "--inputs",
            nargs="+",
            default=[],
            metavar="NAME",
            help=_("with --hostile: only these inputs"),
        )
        parser.add_argument(
            "--seconds",
            type=float,
            default=20,
            help=_("with --hostile: timeout of one input in seconds"),
        )
        parser.add_argument(
            "--json", action="store_true", help=_("write one JSON object instead of a table")
        )

    def handle(self, *args: Any, **options: Any) -> None:
        url = f"http://{in_url(settings.ENV.host)}:{settings.ENV.port}"
        shapes = [
            Shape(
                int(users),
                options["turns"],
                options["words"],
                options["tokens"],
                think=options["think"],
            )
            for users in options["users"].split(",")
        ]
        if options["pages"]:
            self._pages(url, options)
            return
        if options["overhead"]:
            self._overhead(url, options)
            return
        if options["hostile"]:
            self._hostile(url, options)
            return
        if options["knowledge"]:
            self._knowledge(url, options)
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
                results = [asyncio.run(_measure(url, options, shape)) for shape in shapes]
        except ChatsiteError as error:
            raise CommandError(str(error)) from error
        except site.SiteDidNotStart as error:
            raise CommandError(
                _("The site did not start. Run `manage.py up` to see the reason.")
            ) from error
        if options["json"]:
            self.stdout.write(json.dumps(results, indent=2))
        else:
            self._print(results)
        broken = [r for r in results if r["stack"]["errors"] or r.get("engine", {}).get("errors")]
        if broken:
            raise CommandError(_("Some answers failed; the results above are not valid."))

    def _pages(self, url: str, options: dict[str, Any]) -> None:
        try:
            with site.running(url):
                figures = pages.measure(url, self.stderr.write)
        except site.SiteDidNotStart as error:
            raise CommandError(
                _("The site did not start. Run `manage.py up` to see the reason.")
            ) from error
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
            raise CommandError(
                _("The site did not start. Run `manage.py up` to see the reason.")
            ) from error
        if options["json"]:
            self.stdout.write(json.dumps(figures, indent=2))
        else:
            for name, value in figures.items():
                self.stdout.write(f"{name:32}{value!s:>12}")
        if figures["errors"]:
            raise CommandError(_("Some answers failed; the results above are not valid."))

    def _hostile(self, url: str, options: dict[str, Any]) -> None:
        names = options["inputs"]
        if unknown := [name for name in names if name not in ATTACKS]:
            raise CommandError(
                _("Unknown input %(name)s. Choose from: %(names)s.")
                % {"name": unknown[0], "names": ", ".join(ATTACKS)}
            )
        try:
            with site.running(url):
                work = hostile.measure(
                    url, options["model"], options["seconds"], names, self.stderr.write
                )
                figures = asyncio.run(work)
        except site.SiteDidNotStart as error:
            raise CommandError(
                _("The site did not start. Run `manage.py up` to see the reason.")
            ) from error
        if options["json"]:
            self.stdout.write(json.dumps(figures, indent=2))
        else:
            self._print_hostile(figures)
        if figures["errors"]:
            raise CommandError(
                _("Well-behaved users got errors: %s") % "; ".join(figures["errors"][:5])
            )

    def _knowledge(self, url: str, options: dict[str, Any]) -> None:
        try:
            with site.running(url):
                figures = knowledge.measure(options["knowledge"].resolve(), self.stderr.write)
        except ChatsiteError as error:
            raise CommandError(str(error)) from error
        except knowledge.NoModel as error:
            raise CommandError(_("No embedding model is installed.")) from error
        except subprocess.CalledProcessError as error:
            raise CommandError(_("A package can't be fetched: %s") % error) from error
        except site.SiteDidNotStart as error:
            raise CommandError(
                _("The site did not start. Run `manage.py up` to see the reason.")
            ) from error
        if options["json"]:
            self.stdout.write(json.dumps(figures, indent=2))
            return
        for language in ("en", "zh"):
            self.stdout.write(f"{language:28}{'hit_at_5':>10}{'mrr':>10}")
            for name, row in figures[language].items():
                if isinstance(row, dict) and "mrr" in row:
                    self.stdout.write(f"{name:28}{row['hit_at_5']:>10}{row['mrr']:>10}")

    def _print_hostile(self, figures: dict[str, Any]) -> None:
        """Print the longest gaps, TTFT and sign-in page in ms, and resident memory in MiB."""
        roles = sorted(figures["baseline"]["memory_mib"])
        columns = ("gap page", "added", "gap API", "added", "TTFT", "sign-in", *roles)
        self.stdout.write(f"{'':42}" + "".join(f"{name:>11}" for name in columns) + "  statuses")
        base = {"input": "(nothing)", "statuses": {}, **figures["baseline"]}
        for row in (base, *figures["inputs"]):
            cells = (
                row["gap_page_ms"],
                row.get("gap_page_added_ms", ""),
                row["gap_api_ms"],
                row.get("gap_api_added_ms", ""),
                row["ttft_ms"],
                row["sign_in_page_ms"],
                *(row["memory_mib"].get(role, "") for role in roles),
            )
            statuses = " ".join(f"{status}:{count}" for status, count in row["statuses"].items())
            text = "".join(f"{cell:>11}" for cell in cells)
            self.stdout.write(f"{row['input']:42}{text}  {statuses}")

    def _compare(self, url: str, options: dict[str, Any]) -> list[dict[str, Any]]:
        cases = options["cases"].split(",")
        if unknown := [case for case in cases if case not in CASES]:
            raise CommandError(
                _("Unknown case %(case)s. Choose from: %(cases)s.")
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
            raise CommandError(
                _("The site did not start. Run `manage.py up` to see the reason.")
            ) from error

    def _show(self, results: list[dict[str, Any]], options: dict[str, Any]) -> None:
        if options["plot"]:
            options["plot"].write_text(plot.svg(results))
        if options["json"]:
            self.stdout.write(json.dumps(results, indent=2))
        else:
            for result in results:
                self._print_case(result)
        if any(result["errors"] for result in results):
            raise CommandError(_("Some answers failed; the results above are not valid."))

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
                if part not in result:
                    continue
                label = f"{result['users']} users, {part}"
                row = "".join(f"{result[part][name]:>14}" for name in _FIGURES)
                self.stdout.write(f"{label:24}{row}")
            if "engine" not in result:
                continue
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


async def _measure(url: str, options: dict[str, Any], shape: Shape) -> dict[str, Any]:
    """Measure stack and engine alternately, ``runs`` times, so that drift affects both."""
    model, runs = options["model"], options["runs"]
    spec = await resolve(model)
    candidates: dict[str, AbstractAsyncContextManager[Turn]]
    figures: dict[str, list[dict[str, Any]]] = {"stack": [], "engine": []}
    for seed in range(runs):
        candidates = {"stack": people(url, model, shape)}
        if not options["site_only"]:
            candidates["engine"] = engine(spec, shape)
        for name, candidate in candidates.items():
            async with candidate as turn:
                # Keeps connecting, filling the page cache and loading out of the measurement.
                await load.run(Shape(1, turns=1, words=5, tokens=4, think=0), turn, seed=-1)
                record = await load.run(shape, turn, seed)
                figures[name].append(record.summary())
    stack = load.median(figures["stack"])
    if not figures["engine"]:
        return {"users": shape.users, "runs": runs, "stack": stack}
    alone = load.median(figures["engine"])
    return {
        "users": shape.users,
        "runs": runs,
        "stack": stack,
        "engine": alone,
        "ttft_added_ms": round(stack["ttft_p50_ms"] - alone["ttft_p50_ms"], 1),
        "throughput_percent": round(100 * stack["tokens_per_s"] / (alone["tokens_per_s"] or 1), 1),
    }
