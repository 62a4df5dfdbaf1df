"""People, the fair queue and engines, event by event; engines run the product's own scheduler.

A step of an engine is one event; while nothing changes, steps that only decode are computed
together. Text reaches a reader at most every `PUBLISH_MS`, the first text at once, as the inference
host publishes it.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Final

from chatsite.capacity.planner.errors import require
from chatsite.capacity.planner.fair_line import FairLine
from chatsite.capacity.planner.speeds import EngineSpeed
from chatsite.capacity.planner.workload import Person, Workload
from chatsite.engine.batching.scheduler import ScheduledChunk, Scheduler

PUBLISH_MS: Final = 50.0
# Decoding steps that are computed together at most: their context is taken at the middle.
_TOGETHER: Final = 64
_ASK, _STEP = 0, 1


@dataclass(frozen=True)
class Site:
    """``engines`` of one speed behind one queue.

    ``step_target_ms`` is the setting `CHATSITE_STEP_TARGET_MS`. ``overhead_ms`` is what page, web
    server, queue and stream add to the time to first text.
    """

    speed: EngineSpeed
    engines: int = 1
    step_target_ms: float = 200.0
    overhead_ms: float = 10.0

    def __post_init__(self) -> None:
        require(1 <= self.engines <= 1000, "engines must be from 1 to 1000")
        require(self.step_target_ms > 0, "the step target must be above 0 ms")
        require(self.overhead_ms >= 0, "the overhead can't be below 0 ms")


@dataclass(slots=True)
class _Answer:
    id: str
    person: Person
    asked: float
    history: int
    prompt: int
    left: int
    tokens: int
    slot: int = -1
    leased: float = 0.0
    held: int = 0
    first: float = -1.0
    last_text: float = 0.0


@dataclass(eq=False)
class _Engine:
    scheduler: Scheduler
    free: list[int]
    running: dict[str, _Answer] = field(default_factory=dict)
    # Person to tokens of the last conversation, least recently used first.
    kept: dict[int, int] = field(default_factory=dict)
    began: float = 0.0
    step_s: float = 0.0
    steps: int = 0
    version: int = 0
    parts: tuple[ScheduledChunk, ...] = ()


@dataclass
class Observed:
    """What was seen after the warm-up. Times in seconds; ``gaps`` counts gaps by milliseconds."""

    people: int
    seconds: float = 0.0
    asked: int = 0
    answered: int = 0
    tokens: int = 0
    ttft: list[float] = field(default_factory=list)
    waits: list[float] = field(default_factory=list)
    stays: list[float] = field(default_factory=list)
    gaps: Counter[float] = field(default_factory=Counter)
    # The integrals of answers in the system and of answers with a slot, in answer-seconds.
    present: float = 0.0
    served: float = 0.0
    open_at_start: int = 0
    open_at_end: int = 0
    prefilled: int = 0
    reused: int = 0


def simulate(
    site: Site, workload: Workload, people: int, *, answers: int = 1000, seed: int = 1
) -> Observed:
    """Run ``people`` until ``answers`` answers have ended after the warm-up."""
    require(1 <= people <= 1_000_000, "people must be from 1 to 1000000")
    require(10 <= answers <= 10_000_000, "answers must be from 10 to 10000000")
    return _Run(site, workload, people, seed).until(answers)


class _Run:
    def __init__(self, site: Site, workload: Workload, people: int, seed: int) -> None:
        self._site, self._speed, self._shared = site, site.speed, workload.shared
        self._people = [Person(number, workload, seed) for number in range(people)]
        self._line: FairLine[_Answer] = FairLine()
        self._engines = [
            _Engine(
                Scheduler(max_rows=site.speed.max_rows, step_target_ms=site.step_target_ms),
                list(range(site.speed.slots - 1, -1, -1)),
            )
            for _ in range(site.engines)
        ]
        self._events: list[tuple[float, int, int, int, int]] = []
        self._order = 0
        self._now = self._integrated = 0.0
        self._open = self._busy = self._ids = 0
        self._ended = 0
        self._seen = Observed(people)
        self._measuring = False
        for person in self._people:
            self._push(person.think(), _ASK, person.number)

    def until(self, answers: int) -> Observed:
        people = len(self._people)
        warm_up = max(answers // 5, 2 * people)
        self._advance(warm_up)
        self._measuring, self._integrated = True, self._now
        self._seen.open_at_start = self._open
        began = self._now
        self._advance(warm_up + max(answers, 2 * people))
        self._seen.seconds = self._now - began
        self._seen.open_at_end = self._open
        return self._seen

    def _advance(self, ended: int) -> None:
        while self._ended < ended:
            time, _, kind, number, version = heapq.heappop(self._events)
            if kind == _STEP and self._engines[number].version != version:
                continue
            self._integrate(time)
            if kind == _ASK:
                self._ask(self._people[number])
            else:
                self._step_ended(self._engines[number], number)

    def _push(self, time: float, kind: int, number: int, version: int = 0) -> None:
        self._order += 1
        heapq.heappush(self._events, (time, self._order, kind, number, version))

    def _integrate(self, time: float) -> None:
        if self._measuring:
            self._seen.present += self._open * (time - self._integrated)
            self._seen.served += self._busy * (time - self._integrated)
        self._now = self._integrated = time

    # Requests.

    def _ask(self, person: Person) -> None:
        history, prompt, answer = person.ask(self._speed.context)
        self._ids += 1
        self._open += 1
        if self._measuring:
            self._seen.asked += 1
        job = _Answer(str(self._ids), person, self._now, history, prompt, answer, answer)
        self._line.put(person.number, job)
        self._lease()

    def _lease(self) -> None:
        """Give waiting requests to free slots, as hosts lease them."""
        while len(self._line) and any(engine.free for engine in self._engines):
            job = self._line.take()
            number = self._engine_for(job)
            self._begin(self._engines[number], number, job)

    def _engine_for(self, job: _Answer) -> int:
        """Return the engine that holds the conversation, else the one with the most free slots."""
        free = [number for number, engine in enumerate(self._engines) if engine.free]
        holding = [number for number in free if job.person.number in self._engines[number].kept]
        return max(holding or free, key=lambda number: len(self._engines[number].free))

    def _begin(self, engine: _Engine, number: int, job: _Answer) -> None:
        self._busy += 1
        job.slot, job.leased = engine.free.pop(), self._now
        reused = self._reusable(engine, job)
        job.held = job.history + job.prompt
        pending = max(1, job.held - reused)
        if self._measuring:
            self._seen.prefilled += pending
            self._seen.reused += job.held - pending
        engine.running[job.id] = job
        engine.scheduler.enqueue(job.id)
        engine.scheduler.start(job.id, job.slot, pending, str(job.person.number))
        if not engine.steps:
            self._start(engine, number)
        elif not engine.parts:
            self._cut(engine, number)

    def _reusable(self, engine: _Engine, job: _Answer) -> int:
        """Return how many tokens of the prompt are still in the engine's cache.

        Idle slots hold the conversations used last; older ones are in RAM while they fit. The
        part of the prompt that all share is always there.
        """
        owner = job.person.number
        shared = min(self._shared, job.history)
        if owner not in engine.kept:
            return shared
        idle, room = len(engine.free) + 1, self._speed.cache_tokens
        for place, (other, tokens) in enumerate(reversed(engine.kept.items())):
            if place >= idle:
                room -= tokens
                if room < 0:
                    return shared
            if other == owner:
                break
        del engine.kept[owner]
        return job.history

    # Steps.

    def _start(self, engine: _Engine, number: int) -> None:
        """Begin the next step, or several that only decode."""
        running = engine.running
        if not running:
            engine.steps, engine.parts = 0, ()
            return
        prefilling = engine.scheduler.prefilling
        engine.began = self._now
        if prefilling:
            engine.parts = engine.scheduler.plan(self._speed)
            engine.steps = 1
            decoding = [running[part.id] for part in engine.parts if running[part.id].first >= 0]
            prefilled = sum(part.count for part in engine.parts) - len(decoding)
            context = sum(answer.held for answer in decoding)
            engine.step_s = self._speed.step_ms(len(decoding), prefilled, context) / 1e3
        else:
            engine.parts = ()
            engine.steps = min(_TOGETHER, *(answer.left for answer in running.values()))
            context = sum(answer.held for answer in running.values())
            context += len(running) * engine.steps // 2
            engine.step_s = self._speed.step_ms(len(running), 0, context) / 1e3
        self._schedule(engine, number)

    def _schedule(self, engine: _Engine, number: int) -> None:
        engine.version += 1
        end = engine.began + engine.steps * engine.step_s
        self._push(end, _STEP, number, engine.version)

    def _cut(self, engine: _Engine, number: int) -> None:
        """End a run of decoding steps with the one that is being computed: a request came."""
        done = math.ceil((self._now - engine.began) / engine.step_s - 1e-9)
        steps = min(engine.steps, max(1, done))
        if steps < engine.steps:
            engine.steps = steps
            self._schedule(engine, number)

    def _step_ended(self, engine: _Engine, number: int) -> None:
        if engine.parts:
            self._computed(engine, engine.parts)
        else:
            # Those that were leased during the run are not part of it.
            for answer in [one for one in engine.running.values() if one.first >= 0]:
                self._decoded(engine, answer, engine.steps)
        self._end_finished(engine)
        self._lease_then_start(engine, number)

    def _lease_then_start(self, engine: _Engine, number: int) -> None:
        # `_begin` must not start or cut a step of this engine: it is between two.
        engine.steps, engine.parts = -1, (ScheduledChunk("", 0, 0, 0),)
        self._lease()
        self._start(engine, number)

    def _computed(self, engine: _Engine, parts: Collection[ScheduledChunk]) -> None:
        engine.scheduler.computed(parts)
        for part in parts:
            answer = engine.running[part.id]
            if answer.first >= 0:
                self._decoded(engine, answer, 1)
            elif part.outputs:
                answer.first = answer.last_text = self._now
                answer.left -= 1
                answer.held += 1
                engine.scheduler.sampled(answer.id)
                self._first_text(answer)

    def _first_text(self, answer: _Answer) -> None:
        if self._measuring:
            overhead = self._site.overhead_ms / 1e3
            self._seen.ttft.append(self._now - answer.asked + overhead)
            self._seen.waits.append(answer.leased - answer.asked)
            self._seen.tokens += 1

    def _decoded(self, engine: _Engine, answer: _Answer, steps: int) -> None:
        """Record ``steps`` tokens that ended with the current step, and the gaps before them."""
        answer.left -= steps
        answer.held += steps
        if engine.parts:
            engine.scheduler.sampled(answer.id)
        step_ms = engine.step_s * 1e3
        since = (self._now - answer.last_text) * 1e3 - (steps - 1) * step_ms
        left = steps
        # The reader gets text with the first step that ends `PUBLISH_MS` after the last text.
        skipped = max(0, math.ceil((PUBLISH_MS - since) / step_ms - 1e-9))
        if skipped < left:
            self._gap(since + skipped * step_ms, 1)
            left -= skipped + 1
            each = max(1, math.ceil(PUBLISH_MS / step_ms - 1e-9))
            if left >= each:
                self._gap(each * step_ms, left // each)
            answer.last_text = self._now - (left % each) * engine.step_s
        elif answer.left == 0:
            self._gap(since + (left - 1) * step_ms, 1)  # the end is published at once
        if self._measuring:
            self._seen.tokens += steps

    def _gap(self, ms: float, count: int) -> None:
        if self._measuring:
            self._seen.gaps[round(ms, 1)] += count

    def _end_finished(self, engine: _Engine) -> None:
        for answer in [one for one in engine.running.values() if one.left <= 0]:
            del engine.running[answer.id]
            engine.scheduler.remove(answer.id)
            engine.free.append(answer.slot)
            self._busy -= 1
            self._open -= 1
            self._ended += 1
            person = answer.person
            person.answered(answer.prompt, answer.tokens)
            self._keep(engine, person.number, answer.held)
            if self._measuring:
                self._seen.answered += 1
                self._seen.stays.append(self._now - answer.asked)
            self._push(self._now + person.think(), _ASK, person.number)

    def _keep(self, engine: _Engine, owner: int, tokens: int) -> None:
        for other in self._engines:
            other.kept.pop(owner, None)
        engine.kept[owner] = tokens
        # Bounded: what is this far back never fits again.
        most = self._speed.slots + self._speed.cache_tokens // 16
        while len(engine.kept) > most:
            del engine.kept[next(iter(engine.kept))]
