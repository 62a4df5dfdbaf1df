"""Chaos over many hosts: people chat while any process of several machines dies or pauses.

    python -m tests.faults.many_hosts chaos [--minutes 10] [--users 200] [--seed N]
    python -m tests.faults.many_hosts throughput [--seconds 30]
    python -m tests.faults.many_hosts cost [--sockets 10,100,1000]

`chaos` runs two web servers behind nginx, two inference hosts with the scripted engine, PostgreSQL
and Redis, and every few seconds kills, restarts or pauses one of them. Afterwards no answer may be
lost, and no character of one may be lost or doubled: see `Report.violations`. A redelivery is
measured as its user sees it: from the last text of one attempt to the first text of the next. Its
95th percentile is taken over those during which at least one host could compute at all times.

`throughput` compares the tokens per second of two hosts with those of one, where each is bounded by
its slots and the speed of its engine. `cost` measures the CPU time of the web server per streamed
token with more and more sockets. See `docs/explanation/faults.md`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import random
import signal
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import psycopg
from redis import RedisError
from websockets.exceptions import WebSocketException

from chatsite.bench.chat_client import Answer, ChatClient, Refused
from chatsite.chat import protocol as p
from tests.support.fleet import Fleet
from tests.support.postgres import private_postgres
from tests.support.stack import MODEL

LEASE_SECONDS = 10.0
# Longer than a fault, a restart and the reaper's interval together.
_ANSWER_SECONDS = 240.0
_QUIET_SECONDS = 150.0
_PAUSE_SECONDS = 20.0
# A page hears something of a served answer every two seconds.
_SILENT_SECONDS = 35.0
# Redeliveries that the report names.
_LONGEST = 12
_DELAY_MS = 100
_SLOTS = 24
# Until the work for new sockets is done.
_SETTLE_SECONDS = 15.0
# Two hosts must have this many times the throughput of one.
_GROWTH = 1.9


@dataclass(frozen=True)
class Redelivery:
    """Seconds from the last text of an attempt to the first text of a later one.

    ``ended`` is in seconds of `time.time`.
    """

    seconds: float
    ended: float
    attempts: tuple[int, ...]

    @property
    def began(self) -> float:
        return self.ended - self.seconds


@dataclass
class Report:
    """The result of a chaos run. ``violations`` must be empty at the end."""

    faults: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)
    redeliveries: list[Redelivery] = field(default_factory=list)
    # Times at which no host could compute: all of them were down, loading or paused.
    without_host: list[float] = field(default_factory=list)
    reconnects: int = 0

    def possible(self) -> list[Redelivery]:
        """Return the redeliveries during which there was a host to take them at all times."""
        return [
            one
            for one in self.redeliveries
            if not any(one.began <= moment <= one.ended for moment in self.without_host)
        ]

    @property
    def p95(self) -> float:
        return percentile([one.seconds for one in self.possible()], 0.95)

    def table(self) -> str:
        lines = [f"{kind:36}{count:>6}" for kind, count in sorted(self.faults.items())]
        lines += ["", *(f"{kind:36}{n:>6}" for kind, n in sorted(self.outcomes.items()))]
        lines.append(f"{'reconnects of pages':36}{self.reconnects:>6}")
        for what, found in (
            ("redeliveries", self.redeliveries),
            ("with a host all the time", self.possible()),
        ):
            times = [one.seconds for one in found]
            lines.append(
                f"{what}: {len(times)}, p50 {percentile(times, 0.5):.1f} s"
                f", p95 {percentile(times, 0.95):.1f} s, longest {max(times, default=0):.1f} s"
                f" (lease {LEASE_SECONDS:g} s)"
            )
        longest = sorted(self.possible(), key=lambda one: -one.seconds)
        lines += [
            f"  {one.seconds:.1f} s from {time.strftime('%H:%M:%S', time.localtime(one.began))}"
            f", attempts {one.attempts}"
            for one in longest[:_LONGEST]
        ]
        return "\n".join(lines)


def percentile(values: Sequence[float], part: float) -> float:
    """Return the nearest-rank percentile; 0 without values."""
    if not values:
        return 0.0
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))]


class Page(ChatClient):
    """A page that measures how long its answers stood still between two attempts."""

    def __init__(self, url: str, cookies: str) -> None:
        super().__init__(url, cookies)
        self.redeliveries: list[Redelivery] = []
        # The answer or command that is waited for, since when; None between two turns.
        self.waits_since: float | None = None
        self._silent_since: dict[str, float] = {}

    async def _reconnect(self) -> None:
        """Reconnect with the pauses of the browser's page, so that outages cause no storm."""
        self.reconnects += 1
        attempt = 0
        while True:
            longest = min(5.0, 0.2 * 2**attempt)
            await asyncio.sleep(longest / 2 * (1 + random.random()))
            attempt += 1
            try:
                await self._connect()
                await self._resume()
                return
            except (OSError, WebSocketException):
                continue

    def describe(self) -> str:
        """Return what is known of a page that is not served."""
        reader, socket = self._reader, self._socket
        server = socket.response.headers.get("X-Upstream") if socket and socket.response else None
        failure = reader.exception() if reader and reader.done() else None
        return (
            f"socket {socket.state.name if socket else None} to {server}, heard"
            f" {time.perf_counter() - self.heard_at:.0f} s ago, {len(self._unanswered)} commands"
            f" without reply, reader failed: {failure!r}, errors: {self.errors[-2:]}"
        )

    async def apply(self, answer: Answer, event: p.AnyEvent) -> None:
        earlier = answer.attempts[-1] if answer.attempts and answer.stamps else None
        if isinstance(event, p.Started) and earlier is not None and event.attempt > earlier:
            self._silent_since.setdefault(answer.generation, answer.stamps[-1])
        before = len(answer.stamps)
        await super().apply(answer, event)
        if len(answer.stamps) > before:
            since = self._silent_since.pop(answer.generation, None)
            if since is not None:
                took = answer.stamps[-1] - since
                self.redeliveries.append(Redelivery(took, time.time(), tuple(answer.attempts)))


class Chaos:
    def __init__(self, fleet: Fleet, report: Report, rng: random.Random, think: float) -> None:
        self.fleet, self.report, self.rng = fleet, report, rng
        self.think = think
        self.over = asyncio.Event()
        self.answers: list[Answer] = []
        self.expected: dict[str, str] = {}
        self._paused: set[asyncio.Task[None]] = set()
        self.pages: list[Page] = []
        self._watched: set[Page] = set()

    async def watch(self) -> None:
        """Print what is known of each page that waits without hearing anything, once."""
        while True:
            await asyncio.sleep(5)
            now = time.perf_counter()
            for page in self.pages:
                waits = page.waits_since is not None and now - page.waits_since > _SILENT_SECONDS
                if waits and now - page.heard_at > _SILENT_SECONDS and page not in self._watched:
                    self._watched.add(page)
                    print(f"{time.strftime('%H:%M:%S')} silent: {page.describe()}", flush=True)

    async def watch_hosts(self) -> None:
        """Note the times at which no host could compute an answer."""
        while True:
            if not await asyncio.to_thread(self._can_compute):
                self.report.without_host.append(time.time())
            await asyncio.sleep(0.25)

    def _can_compute(self) -> bool:
        alive = set()
        for machine in self.fleet.machines:
            with contextlib.suppress(psutil.NoSuchProcess):
                process = self.fleet.members[f"inference-{machine}"].running
                if process.status() != psutil.STATUS_STOPPED:
                    alive.add(process.pid)
        try:
            return any(
                state["pid"] in alive and not state["draining"]
                for state in self.fleet.hosts()
                if any(model["state"] == "ready" for model in state["models"])
            )
        except RedisError:
            return False

    # Load.

    async def user(self, cookies: str, rng: random.Random) -> None:
        async with Page(self.fleet.url, cookies) as page:
            self.pages.append(page)
            await self._wait(rng.uniform(0, self.think))
            while not self.over.is_set():
                await self._one(page, rng)
                await self._wait(rng.uniform(0.5, 1.5) * self.think)
            self.report.redeliveries += page.redeliveries
            self.report.reconnects += page.reconnects

    async def _wait(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.over.wait(), seconds)

    async def _one(self, page: Page, rng: random.Random) -> None:
        tokens = rng.randint(20, 120)
        text = f"Tell me a story. @tokens {tokens} @delay-ms {_DELAY_MS}"
        page.waits_since = time.perf_counter()
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                answer = await page.ask(text, model=MODEL, max_tokens=tokens, ignore_eos=True)
        except Refused as refused:
            self.report.outcomes[f"refused: {refused.args[0].get('code', '?')}"] += 1
            page.waits_since = None
            return
        except TimeoutError:
            self.violate("a message was neither accepted nor refused")
            return
        self.answers.append(answer)
        self.expected[answer.generation] = " ".join(f"w{n + 1}" for n in range(tokens))
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                await answer.ended.wait()
        except TimeoutError:
            self.violate(f"generation {answer.generation} has no end")
        page.waits_since = None

    def violate(self, what: str) -> None:
        self.report.violations.append(what)

    # Faults.

    def kinds(self) -> dict[str, Callable[[], Awaitable[None]]]:
        kinds: dict[str, Callable[[], Awaitable[None]]] = {
            "kill -9 redis": self._bind("redis", signal.SIGKILL),
            "kill -9 nginx": self._bind("nginx", signal.SIGKILL),
            "kill -9 celery": self._bind("celery-one", signal.SIGKILL),
            "kill -9 PostgreSQL backend": self._kill_postgres,
        }
        for machine in self.fleet.machines:
            kinds[f"kill -9 web {machine}"] = self._bind(f"daphne-{machine}", signal.SIGKILL)
            kinds[f"restart web {machine}"] = self._bind(f"daphne-{machine}", signal.SIGTERM)
            kinds[f"kill -9 host {machine}"] = self._bind(f"inference-{machine}", signal.SIGKILL)
            kinds[f"restart host {machine}"] = self._bind(f"inference-{machine}", signal.SIGTERM)
            kinds[f"kill -9 engine {machine}"] = partial(self._kill_engine, machine)
            kinds[f"pause host {machine} 20 s"] = partial(self._pause, machine)
        return kinds

    def _bind(self, name: str, number: int) -> Callable[[], Awaitable[None]]:
        async def send() -> None:
            self.fleet.members[name].running.send_signal(number)

        return send

    async def _kill_engine(self, machine: str) -> None:
        self.rng.choice(self.fleet.engines(machine)).kill()

    async def _kill_postgres(self) -> None:
        """Kill one of the server's processes: it closes all connections and recovers."""
        with psycopg.connect(self.fleet.database) as connection:
            [[folder]] = connection.execute("SHOW data_directory").fetchall()
        postmaster = int((Path(folder) / "postmaster.pid").read_text().split()[0])
        self.rng.choice(psutil.Process(postmaster).children()).kill()

    async def _pause(self, machine: str) -> None:
        """Suspend a host for longer than its lease, while other faults happen."""
        victim = self.fleet.members[f"inference-{machine}"].running
        victim.suspend()
        task = asyncio.create_task(self._resume(victim))
        self._paused.add(task)
        task.add_done_callback(self._paused.discard)

    async def _resume(self, victim: psutil.Process) -> None:
        try:
            await asyncio.sleep(_PAUSE_SECONDS)
        finally:
            with contextlib.suppress(psutil.NoSuchProcess):
                victim.resume()

    async def inflict(self, seconds: float, between: tuple[float, float]) -> None:
        until = time.monotonic() + seconds
        kinds = self.kinds()
        # Every kind occurs once before any occurs again.
        bag: list[str] = []
        while time.monotonic() < until:
            if not bag:
                bag = list(kinds)
                self.rng.shuffle(bag)
            kind = bag.pop()
            print(f"{time.strftime('%H:%M:%S')} {kind}", flush=True)
            try:
                await kinds[kind]()
                self.report.faults[kind] += 1
            except (psutil.NoSuchProcess, psycopg.Error, IndexError):
                self.report.faults[f"{kind} (not possible)"] += 1
            await asyncio.sleep(self.rng.uniform(*between))
        if self._paused:
            await asyncio.wait(self._paused)

    # The end.

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.fleet.database) as connection:
            return connection.execute(sql).fetchall()

    async def settle(self) -> None:
        """Wait until no generation is open in SQL, at most as long as the reaper may take."""
        sql = "SELECT count(*) FROM chat_generation WHERE state IN ('queued', 'running')"
        deadline = time.monotonic() + _QUIET_SECONDS
        while (left := (await asyncio.to_thread(self.rows, sql))[0][0]) > 0:
            if time.monotonic() > deadline:
                self.violate(f"{left} generations stay open")
                return
            await asyncio.sleep(1)

    def verify(self) -> None:
        rows = self.rows(
            "SELECT g.id, g.state, g.attempt, m.content FROM chat_generation g"
            " JOIN chat_message m ON m.id = g.message_id"
        )
        saved = {str(id): (state, attempt, text) for id, state, attempt, text in rows}
        for answer in self.answers:
            state, attempt, text = saved.pop(answer.generation, ("missing", 0, ""))
            self.report.outcomes[f"answer: {state}"] += 1
            self.report.outcomes[f"attempts: {min(attempt, 5)}"] += 1
            where = f"generation {answer.generation} ({state}, attempt {attempt})"
            if state != "done":
                self.violate(f"{where}: not done")
            if text != self.expected[answer.generation]:
                self.violate(f"{where}: saved {text[-60:]!r}, {len(text)} characters")
            if answer.text != text:
                self.violate(f"{where}: streamed {answer.text[-60:]!r}, saved {text[-60:]!r}")
        # Saved, but its page got an error or no reply: it is shown when the page is loaded again.
        self.report.outcomes["answer: saved after an error"] += len(saved)


@contextlib.contextmanager
def _place() -> Iterator[tuple[Path, str]]:
    """Yield a temporary folder and the URL of an empty database."""
    with (
        tempfile.TemporaryDirectory(prefix="chatsite-fleet-", ignore_cleanup_errors=True) as folder,
        private_postgres(durable=True) as database,
    ):
        yield Path(folder), database


def _settings(**more: str) -> dict[str, str]:
    return {
        "CHATSITE_BACKEND": "scripted",
        "CHATSITE_SLOTS": str(_SLOTS),
        "CHATSITE_LEASE_SECONDS": f"{LEASE_SECONDS:g}",
        "CHATSITE_MEMORY_MB": "4096",
        "CHATSITE_TITLES": "false",
        # An answer may see more deaths of hosts in these minutes than elsewhere in a year.
        "CHATSITE_MAX_ATTEMPTS": "10",
        **more,
    }


@contextlib.asynccontextmanager
async def _clients(clients: Sequence[Awaitable[None]], report: Report) -> AsyncIterator[None]:
    tasks = [asyncio.ensure_future(client) for client in clients]
    try:
        yield
    finally:
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(result, Exception):
                report.violations.append(f"a client failed: {result!r}")


async def _chaos(
    fleet: Fleet,
    report: Report,
    *,
    seconds: float,
    users: int,
    seed: int,
    between: tuple[float, float],
    think: float,
) -> None:
    rng = random.Random(seed)
    chaos = Chaos(fleet, report, rng, think)
    async with fleet.running():
        cookies = await asyncio.to_thread(fleet.create_users, users)
        pages = [chaos.user(one, random.Random(rng.random())) for one in cookies]
        watchers = [asyncio.create_task(one()) for one in (chaos.watch, chaos.watch_hosts)]
        async with _clients(pages, report):
            try:
                await asyncio.sleep(5)
                await chaos.inflict(seconds, between)
            finally:
                chaos.over.set()
        for watcher in watchers:
            watcher.cancel()
        await chaos.settle()
        await asyncio.to_thread(chaos.verify)


def chaos(
    *,
    seconds: float,
    users: int,
    seed: int,
    model: Path,
    between: tuple[float, float] = (3.0, 6.0),
    think: float = 90.0,
    logs: Path | None = None,
) -> Report:
    """Run the product on two machines under faults and return the report."""
    report = Report()
    with _place() as (folder, database):
        fleet = Fleet(folder, database, **_settings())
        fleet.prepare(model)
        try:
            asyncio.run(
                _chaos(
                    *(fleet, report),
                    seconds=seconds,
                    users=users,
                    seed=seed,
                    between=between,
                    think=think,
                )
            )
        finally:
            if logs is not None:
                logs.mkdir(parents=True, exist_ok=True)
                for member in fleet.members.values():
                    if member.log.exists():
                        (logs / member.log.name).write_bytes(member.log.read_bytes())
    return report


# Throughput.


async def _tokens_per_second(fleet: Fleet, pages: Sequence[Page], seconds: float) -> float:
    """Return the rate of all pages, each of which has a request queued or running all the time.

    The scripted engine waits between tokens and computes nothing: slots and pause bound a host, not
    the processors of the machine that all hosts share here.
    """
    over = asyncio.Event()
    answers: list[Answer] = []

    async def ask(page: Page) -> None:
        while not over.is_set():
            answer = await page.ask(
                f"@tokens 60 @delay-ms {_DELAY_MS}", model=MODEL, max_tokens=60, ignore_eos=True
            )
            answers.append(answer)
            await answer.ended.wait()

    tasks = [asyncio.create_task(ask(page)) for page in pages]
    await asyncio.sleep(8)  # until the pages are spread over the answers of all slots
    words, began = _words(answers), time.perf_counter()
    await asyncio.sleep(seconds)
    rate = (_words(answers) - words) / (time.perf_counter() - began)
    over.set()
    await asyncio.gather(*tasks)
    return rate


def _words(answers: Iterable[Answer]) -> int:
    """Return the words received so far; the scripted engine makes one of each token."""
    return sum(len(answer.text.split()) for answer in answers)


async def _throughput(fleet: Fleet, seconds: float, slots: int) -> float:
    """Print the rates of two hosts and of one; return their ratio."""
    async with fleet.running(), contextlib.AsyncExitStack() as stack:
        cookies = await asyncio.to_thread(fleet.create_users, 6 * slots)
        pages = [await stack.enter_async_context(Page(fleet.url, one)) for one in cookies]
        two = await _tokens_per_second(fleet, pages, seconds)
        await fleet.stop(f"inference-{fleet.machines[1]}")
        one = await _tokens_per_second(fleet, pages, seconds)
        most = slots * 1000 / _DELAY_MS
        print(
            f"one host {one:.1f} tokens/s, two hosts {two:.1f} tokens/s: {two / one:.2f} times"
            f" ({most:g} tokens/s are the most that the engine of a host gives)"
        )
        return two / one


# Cost of the web server.


async def _cost(fleet: Fleet, sockets: Sequence[int], seconds: float, streams: int) -> None:
    """Print the CPU time per token of a web server that holds that many sockets.

    ``streams`` of them follow an answer at any time; the others are open pages. What the
    server needs without streams (pings, timeouts) is measured before, and is no cost of tokens.
    """
    async with fleet.running():
        cookies = await asyncio.to_thread(fleet.create_users, max(sockets))
        for count in sockets:
            async with contextlib.AsyncExitStack() as stack:
                pages = [
                    await stack.enter_async_context(Page(fleet.url, one)) for one in cookies[:count]
                ]
                await asyncio.sleep(_SETTLE_SECONDS)
                web = fleet.members["daphne-one"].running
                before = web.cpu_times()
                idle_began = time.perf_counter()
                await asyncio.sleep(seconds)
                idle = _cpu(web.cpu_times()) - _cpu(before)
                idle_rate = idle / (time.perf_counter() - idle_began)
                answers = [
                    await page.ask(
                        f"@tokens 100000 @delay-ms {_DELAY_MS}",
                        model=MODEL,
                        max_tokens=3000,
                        ignore_eos=True,
                    )
                    for page in pages[:streams]
                ]
                await asyncio.sleep(3)
                words = _words(answers)
                start, began = web.cpu_times(), time.perf_counter()
                await asyncio.sleep(seconds)
                used, took = _cpu(web.cpu_times()) - _cpu(start), time.perf_counter() - began
                words = _words(answers) - words
                for page, answer in zip(pages, answers, strict=False):
                    await page.stop(answer)
                per_token = (used - idle_rate * took) / words
                print(
                    f"{count:>5} sockets: {1e6 * per_token:.0f} µs per token"
                    f" ({words / took:.0f} tokens/s on {len(answers)} streams),"
                    f" {1e6 * idle_rate / count:.0f} µs per second and socket without streams",
                    flush=True,
                )


def _cpu(times: Any) -> float:
    return float(times.user + times.system)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("chaos", "throughput", "cost"))
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--users", type=int, default=200)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--sockets", default="10,100,1000")
    parser.add_argument("--logs", type=Path, metavar="FOLDER", help="copy all logs there")
    parser.add_argument(
        "--model",
        type=Path,
        default=os.environ.get("CHATSITE_TEST_MODEL", "build/starter/smollm2-135m.gguf"),
    )
    options = parser.parse_args()
    if options.what == "chaos":
        seed = random.SystemRandom().randrange(10**6) if options.seed is None else options.seed
        print(f"seed {seed}", flush=True)
        report = chaos(
            seconds=options.minutes * 60,
            users=options.users,
            seed=seed,
            model=options.model,
            logs=options.logs,
        )
        print(report.table())
        for violation in report.violations:
            print(f"VIOLATION: {violation}")
        late = report.p95 >= LEASE_SECONDS
        return 1 if report.violations or late else 0
    with _place() as (folder, database):
        if options.what == "throughput":
            slots = 4
            fleet = Fleet(folder, database, **_settings(CHATSITE_SLOTS=str(slots)))
            fleet.prepare(options.model)
            return int(asyncio.run(_throughput(fleet, options.seconds, slots)) < _GROWTH)
        sockets = [int(word) for word in options.sockets.split(",")]
        fleet = Fleet(folder, database, machines=("one",), **_settings())
        fleet.prepare(options.model)
        asyncio.run(_cost(fleet, sockets, options.seconds, 10))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
