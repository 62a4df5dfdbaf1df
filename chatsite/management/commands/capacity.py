"""`manage.py capacity`: how many people a machine serves, and how long they wait."""

from __future__ import annotations

import asyncio
import json
from argparse import ArgumentParser
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import msgspec
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.utils.translation import gettext as _

from chatsite.bench import step_costs
from chatsite.capacity.planner import machines, plan
from chatsite.capacity.planner.errors import BadPlan
from chatsite.capacity.planner.plan import Figures, Limits
from chatsite.capacity.planner.simulation import Site
from chatsite.capacity.planner.speeds import EngineSpeed, from_probe
from chatsite.capacity.planner.workload import Workload
from chatsite.engine.client import EngineError
from chatsite.engine.contract.tuning import Tuning
from chatsite.engine.tuning import probe, store
from chatsite.errors import ChatsiteError
from chatsite.inference.assemble import resolve
from chatsite.inference.model_spec import ModelSpec

_ROWS = (
    ("people", "", 0),
    ("ttft_p50_s", " s", 2),
    ("ttft_p95_s", " s", 2),
    ("wait_p95_s", " s", 2),
    ("gap_p50_s", " s", 3),
    ("gap_p99_s", " s", 3),
    ("gap_max_s", " s", 3),
    ("answer_p50_s", " s", 1),
    ("tokens_per_s", "", 1),
    ("answers_per_minute", "", 1),
    ("utilization", "", 2),
    ("cached_share", "", 2),
)


class Command(BaseCommand):
    help = str(_("Plans capacity: how many people a machine serves, and how long they wait."))

    def add_arguments(self, parser: ArgumentParser) -> None:
        engine = parser.add_argument_group(_("engine"))
        engine.add_argument(
            "--model",
            default="smollm2:135m",
            help=_("installed model on this machine; its speed is in the tuning store"),
        )
        engine.add_argument(
            "--measure",
            action="store_true",
            help=_("measure the steps of the model now, in an engine process of its own"),
        )
        engine.add_argument(
            "--speeds", type=Path, metavar="FILE", help=_("JSON that --json wrote for a machine")
        )
        engine.add_argument(
            "--prefill", type=float, metavar="TOKENS", help=_("prompt tokens per second")
        )
        engine.add_argument(
            "--decode",
            metavar="N:MS,…",
            help=_("milliseconds of a step that decodes one token of N answers"),
        )
        engine.add_argument(
            "--machine",
            metavar="NAME",
            help=_("estimate for a machine: %s") % ", ".join(machines.MACHINES),
        )
        engine.add_argument(
            "--size",
            default="8b",
            help=_("with --machine: model size: %s") % ", ".join(machines.MODELS),
        )
        engine.add_argument(
            "--bits", type=float, default=8, help=_("with --machine: bits per weight")
        )
        engine.add_argument(
            "--bandwidth",
            type=float,
            metavar="GB/S",
            help=_("with --machine: memory bandwidth of one device instead"),
        )
        engine.add_argument(
            "--tflops",
            type=float,
            help=_("with --machine: dense 16-bit TFLOPS of one device instead"),
        )
        engine.add_argument(
            "--memory",
            type=float,
            metavar="GB",
            help=_("with --machine: memory of one device instead"),
        )
        engine.add_argument(
            "--devices",
            type=int,
            help=_("with --machine: devices that hold one model together"),
        )
        engine.add_argument("--slots", type=int, help=_("concurrent answers per engine"))
        engine.add_argument("--context", type=int, help=_("context of an answer in tokens"))
        engine.add_argument(
            "--cache-tokens",
            type=int,
            help=_("tokens of conversations without a slot that stay in the cache"),
        )
        engine.add_argument(
            "--engines", type=int, default=1, help=_("engines of this kind behind the queue")
        )
        people = parser.add_argument_group(_("people"))
        people.add_argument(
            "--people",
            metavar="N,…",
            help=_("numbers of people to simulate; without it the most within the limits"),
        )
        people.add_argument(
            "--think",
            type=float,
            default=60,
            metavar="SECONDS",
            help=_("mean time from an answer to the next question"),
        )
        people.add_argument(
            "--thinking",
            choices=("exponential", "uniform"),
            default="exponential",
            help=_("distribution of that time"),
        )
        people.add_argument(
            "--prompt", type=float, default=120, metavar="TOKENS", help=_("mean of a question")
        )
        people.add_argument(
            "--answer", type=float, default=300, metavar="TOKENS", help=_("mean of an answer")
        )
        people.add_argument(
            "--spread",
            type=float,
            default=0.8,
            help=_("coefficient of variation of both; 0 for constant lengths"),
        )
        people.add_argument("--turns", type=int, default=5, help=_("turns of a conversation"))
        people.add_argument(
            "--shared",
            type=int,
            default=0,
            metavar="TOKENS",
            help=_("tokens at the beginning of every prompt that all share"),
        )
        run = parser.add_argument_group(_("simulation"))
        run.add_argument(
            "--ttft",
            type=float,
            default=2.0,
            metavar="SECONDS",
            help=_("limit of the time to first text (p95)"),
        )
        run.add_argument(
            "--gap",
            type=float,
            default=0.3,
            metavar="SECONDS",
            help=_("limit of the gap between two texts (p99)"),
        )
        run.add_argument(
            "--answers", type=int, default=1000, help=_("answers to simulate after the warm-up")
        )
        run.add_argument("--seed", type=int, default=1, help=_("seed of the random numbers"))
        run.add_argument(
            "--json", action="store_true", help=_("write one JSON object instead of a table")
        )

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            site = Site(
                self._speed(options), options["engines"], step_target_ms=settings.ENV.step_target_ms
            )
            workload = Workload(
                think_s=options["think"],
                prompt=options["prompt"],
                answer=options["answer"],
                turns=options["turns"],
                spread=options["spread"],
                shared=options["shared"],
                thinking=options["thinking"],
            )
            limits = Limits(options["ttft"], options["gap"])
            rows = self._rows(site, workload, limits, options)
        except BadPlan as error:
            raise CommandError(str(error)) from error
        except (ChatsiteError, EngineError) as error:
            raise CommandError(str(error)) from error
        bound = plan.saturation(site, workload)
        if options["json"]:
            self.stdout.write(
                json.dumps(
                    {
                        "speed": asdict(site.speed),
                        "engines": site.engines,
                        "workload": asdict(workload),
                        "limits": asdict(limits),
                        "seed": options["seed"],
                        "saturation_people": round(bound, 1),
                        "answer_cost_s": round(plan.answer_cost_s(site, workload), 4),
                        "figures": [asdict(row) for row in rows],
                    },
                    indent=2,
                )
            )
            return
        self._print(site, rows, bound, searched=not options["people"])

    def _rows(
        self, site: Site, workload: Workload, limits: Limits, options: dict[str, Any]
    ) -> list[Figures]:
        answers, seed = options["answers"], options["seed"]
        if options["people"]:
            return [
                plan.measured(site, workload, count, answers=answers, seed=seed)
                for count in _whole_numbers(options["people"])
            ]
        found = plan.most_people(site, workload, limits, answers=answers, seed=seed)
        return [] if found is None else [found]

    def _speed(self, options: dict[str, Any]) -> EngineSpeed:
        """Return the speed that the options name, with their slots and context."""
        changes = {
            name: options[name]
            for name in ("slots", "context", "cache_tokens")
            if options[name] is not None
        }
        named = [
            name
            for name, given in (
                ("--speeds", options["speeds"]),
                ("--machine", options["machine"]),
                ("--prefill", options["prefill"] is not None or options["decode"]),
                ("--measure", options["measure"]),
            )
            if given
        ]
        if len(named) > 1:
            raise CommandError(_("Give only one of: %s.") % ", ".join(named))
        if options["machine"]:
            return _estimated(options, changes)
        if options["speeds"]:
            speed = _read(options["speeds"])
        elif options["prefill"] is not None or options["decode"]:
            speed = _given(options)
        else:
            work = _of_this_machine(
                options["model"], measure=options["measure"], say=self.stderr.write
            )
            speed = asyncio.run(work)
        return replace(speed, **changes)

    def _print(self, site: Site, rows: list[Figures], bound: float, *, searched: bool) -> None:
        speed = site.speed
        steps = ", ".join(f"{count}: {ms:.1f} ms" for count, ms in speed.decode)
        self.stdout.write(_("Engine: %s") % speed.source)
        self.stdout.write(
            _("Prefill %(prefill)s tokens/s; steps by answers at once: %(steps)s")
            % {"prefill": round(speed.prefill_tokens_per_s), "steps": steps}
        )
        self.stdout.write(
            _(
                "Engines: %(engines)s, each with %(slots)s slots of %(context)s tokens; saturated "
                "by %(people)s people"
            )
            % {
                "engines": site.engines,
                "slots": speed.slots,
                "context": speed.context,
                "people": round(bound),
            }
        )
        if not rows:
            self.stdout.write(_("Not even one person is served within the limits."))
            return
        if searched:
            self.stdout.write(_("The most people within the limits:"))
        for name, unit, digits in _ROWS:
            cells = [f"{getattr(row, name):.{digits}f}{unit}" for row in rows]
            self.stdout.write(f"{name:20}" + "".join(f"{cell:>12}" for cell in cells))
        if speed.estimate:
            self.stdout.write(_("This is an estimate from data sheets. Measure before you decide."))


def _whole_numbers(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError as error:
        raise CommandError(_("--people takes whole numbers, such as 10,20.")) from error


def _given(options: dict[str, Any]) -> EngineSpeed:
    if options["prefill"] is None or not options["decode"]:
        raise CommandError(_("Give both --prefill and --decode."))
    try:
        pairs = [part.split(":") for part in options["decode"].split(",")]
        decode = tuple((int(count), float(ms)) for count, ms in pairs)
    except ValueError as error:
        raise CommandError(_("--decode takes pairs, such as 1:14,8:66.")) from error
    return EngineSpeed(options["prefill"], decode, options["slots"] or settings.ENV.slots)


def _estimated(options: dict[str, Any], changes: dict[str, Any]) -> EngineSpeed:
    machine, model = machines.named(options["machine"], options["size"])
    given = ("bandwidth", "tflops", "memory", "devices")
    own = {name: options[name] for name in given if options[name] is not None}
    if own:
        text = ", ".join(f"{name} {value:g}" for name, value in own.items())
        machine = replace(machine, text=f"{machine.text} with {text}", **own)
    speed = machines.estimate(
        machine,
        model,
        bits=options["bits"],
        context=options["context"] or 8192,
        slots=options["slots"],
    )
    kept = changes.get("cache_tokens")
    return speed if kept is None else replace(speed, cache_tokens=kept)


def _read(file: Path) -> EngineSpeed:
    try:
        found = json.loads(file.read_bytes())
        return msgspec.convert(found.get("speed", found), EngineSpeed)
    except (OSError, ValueError, AttributeError, msgspec.ValidationError) as error:
        raise CommandError(
            _("%(file)s can't be used: %(error)s. It needs the object that --json writes.")
            % {"file": file, "error": error}
        ) from error


async def _of_this_machine(
    name: str, *, measure: bool, say: Callable[[str], object]
) -> EngineSpeed:
    spec = await resolve(name)
    if measure:
        costs = await step_costs.measure(spec, say)
        return EngineSpeed(
            costs.prefill_tokens_per_s,
            costs.decode,
            costs.slots,
            costs.context,
            context_ms=costs.context_ms,
            source=_("%s, measured on this machine") % name,
        )
    prefill, decode = _stored(spec)
    return EngineSpeed(
        prefill,
        decode,
        spec.slots,
        spec.context,
        source=_("%s, from the tuning store of this machine") % name,
    )


def _stored(spec: ModelSpec) -> tuple[float, tuple[tuple[int, float], ...]]:
    """Return prefill tokens/s and step times from the tuning store. Raises `CommandError`."""
    entry = store.find(spec.tuning_file, spec.digest, spec.threads)
    if entry is not None and entry.tuning is not None:
        chosen = entry.tuning
        for tried in entry.tried:
            same = _with_ubatch(tried.tuning.ubatch, chosen) == tried.tuning
            if same and tried.measured is not None and not tried.bulk:
                together = min(probe.SEQUENCES, entry.slots or spec.slots)
                return from_probe(tried.measured.prefill_ms, tried.measured.decode_ms, together)
    raise CommandError(
        _(
            "%s has not been measured on this machine yet. Use --measure, or let the host run idle "
            "for some minutes."
        )
        % spec.name
    )


def _with_ubatch(ubatch: int, tuning: Tuning) -> Tuning:
    """Return the tuning with the micro-batch that all candidates were measured with."""
    return msgspec.structs.replace(tuning, ubatch=ubatch)
