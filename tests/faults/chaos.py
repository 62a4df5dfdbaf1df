"""Chaos run: the product under load while its processes, disk and servers fail at random.

    python -m tests.faults.chaos --minutes 20 [--seed N] [--postgres] [--model FILE.gguf]

Starts its own site in a temporary directory. Two users stream through the page's socket and two
through the API, continuously, while faults are injected one after the other. At the end, when
nothing is open any more, no answer may be lost, duplicated or wrong: see `Report.violations`. See
`docs/explanation/faults.md`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import psutil
import psycopg
from redis import Redis
from redis.exceptions import RedisError

from chatsite.bench.chat_client import Answer, ChatClient, Refused
from tests.support.postgres import private_postgres
from tests.support.stack import MODEL, Stack

# Longer than a fault, a restart and the reaper's interval together.
_ANSWER_SECONDS = 240.0
_QUIET_SECONDS = 150.0
_COLLECTED_SECONDS = 60.0
_ROLES = ("engine", "inference", "daphne", "celery", "redis")
_DISK_BYTES = 4 << 30


class SupervisorEnded(Exception):
    """The supervisor ended, so the run can't continue."""


class NotPossible(Exception):
    """The fault can't be injected at present."""


# The victim is just being restarted, or the server can't be locked now.
_NOT_POSSIBLE = (
    *(NotPossible, psutil.NoSuchProcess, IndexError),
    *(sqlite3.Error, psycopg.Error, RedisError),
)


@dataclass
class Span:
    """One fault; times are seconds of `time.perf_counter`."""

    kind: str
    began: float
    ended: float = 0.0


@dataclass
class Report:
    """The result of a run. ``violations`` must be empty at the end."""

    faults: list[Span] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    outcomes: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)
    # Start and end of intervals without text in an open answer.
    gaps: list[tuple[float, float]] = field(default_factory=list)

    def add_gaps(self, stamps: list[float]) -> None:
        self.gaps += [(a, b) for a, b in pairwise(stamps) if b - a > 0.5]

    def table(self) -> str:
        lines = [f"{'fault':24}{'count':>7}{'longest (s)':>13}{'longest gap of text (s)':>26}"]
        for kind in sorted({span.kind for span in self.faults}):
            spans = [span for span in self.faults if span.kind == kind]
            longest = max(span.ended - span.began for span in spans)
            gaps = [b - a for a, b in self.gaps for s in spans if a < s.ended + 1 and b > s.began]
            lines.append(f"{kind:24}{len(spans):>7}{longest:>13.1f}{max(gaps, default=0):>26.1f}")
        lines += [f"{kind:24}skipped: {why}" for kind, why in self.skipped.items()]
        lines += ["", *(f"{name:40}{count:>6}" for name, count in sorted(self.outcomes.items()))]
        return "\n".join(lines)


class Site(Stack):
    """`Stack` on SQLite or PostgreSQL."""

    def __init__(self, data_dir: Path, database: str, scripted: bool) -> None:
        env = {"CHATSITE_MEMORY_MB": "4096", "CHATSITE_HANG_SECONDS": "60"}
        if scripted:
            env["CHATSITE_BACKEND"] = "scripted"
        if database:
            env["DATABASE_URL"] = database
        super().__init__(data_dir, **env)
        self.database = database

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        if not self.database:
            return self.query(sql)
        with psycopg.connect(self.database) as connection:
            return connection.execute(sql).fetchall()

    def saved(self) -> dict[str, tuple[str, str]]:
        """Return the state and text of each answer by the ID of its generation."""
        rows = self.rows(
            "SELECT g.id, g.state, m.content FROM chat_generation g"
            " JOIN chat_message m ON m.id = g.message_id"
        )
        return {str(id).replace("-", ""): (state, text) for id, state, text in rows}

    def open_generations(self) -> int:
        sql = "SELECT count(*) FROM chat_generation WHERE state IN ('queued', 'running')"
        return int(self.rows(sql)[0][0])

    def redis(self) -> Redis:
        return Redis(unix_socket_path=str(self.data_dir / "run" / "redis.sock"), socket_timeout=5)


class Chaos:
    """One run.

    ``expected`` is the text of an answer of so many tokens, None if a real model writes it.
    ``longest_stop`` limits, in seconds, how long a process is suspended.
    """

    def __init__(
        self, site: Site, report: Report, rng: random.Random, longest_stop: float, scripted: bool
    ) -> None:
        self.site, self.report, self.rng = site, report, rng
        self.longest_stop = longest_stop
        self.scripted = scripted
        self.over = asyncio.Event()
        self.answers: list[Answer] = []
        self.expected: dict[str, str] = {}

    # Load.

    def _question(self, tokens: int) -> str:
        directives = f" @tokens {tokens} @delay-ms 15" if self.scripted else ""
        return f"Write a long story about a lighthouse keeper and the sea.{directives}"

    def _text(self, tokens: int) -> str:
        return " ".join(f"w{number + 1}" for number in range(tokens))

    async def page(self, cookies: str, rng: random.Random) -> None:
        async with ChatClient(self.site.url, cookies) as client:
            while not self.over.is_set():
                tokens = rng.randint(60, 250)
                try:
                    async with asyncio.timeout(_ANSWER_SECONDS):
                        answer = await client.ask(
                            self._question(tokens), model=MODEL, max_tokens=tokens, ignore_eos=True
                        )
                except Refused as refused:
                    self._count("page refused", refused.args[0].get("code", "?"))
                    await asyncio.sleep(0.5)
                    continue
                except TimeoutError:
                    self._violate("page: a message was neither accepted nor refused")
                    continue
                self.answers.append(answer)
                if self.scripted:
                    self.expected[answer.generation] = self._text(tokens)
                try:
                    async with asyncio.timeout(_ANSWER_SECONDS):
                        await answer.ended.wait()
                except TimeoutError:
                    self._violate(f"page: generation {answer.generation} has no end")
                self.report.add_gaps(answer.stamps)

    async def api(self, key: str, rng: random.Random) -> None:
        while not self.over.is_set():
            tokens, stream = rng.randint(60, 250), rng.random() < 0.7
            body = {
                "model": MODEL,
                "messages": [{"role": "user", "content": self._question(tokens)}],
                "max_tokens": tokens,
                "ignore_eos": True,
                "stream": stream,
                "stream_options": {"include_usage": True} if stream else None,
            }
            try:
                async with (
                    asyncio.timeout(_ANSWER_SECONDS),
                    httpx.AsyncClient(timeout=_ANSWER_SECONDS, trust_env=False) as client,
                    client.stream(
                        "POST",
                        f"{self.site.url}/v1/chat/completions",
                        json={name: value for name, value in body.items() if value is not None},
                        headers={"Authorization": f"Bearer {key}"},
                    ) as response,
                ):
                    if response.status_code != 200:
                        await response.aread()
                        self._count("api error", str(response.status_code))
                        await asyncio.sleep(0.5)
                    elif stream:
                        await self._streamed(response, tokens)
                    else:
                        await self._whole(response, tokens)
            except (httpx.HTTPError, json.JSONDecodeError):
                # The client library raises an error, so the user knows.
                self._count("api error", "connection broken")
                await asyncio.sleep(0.3)
            except TimeoutError:
                self._violate("api: a request has no end")

    async def _streamed(self, response: httpx.Response, tokens: int) -> None:
        text, done, failed, reason, used, stamps = "", False, False, None, None, []
        async for line in response.aiter_lines():
            if not line.startswith("data: "):
                continue
            if line == "data: [DONE]":
                done = True
                continue
            event = json.loads(line.removeprefix("data: "))
            failed = failed or "error" in event
            used = (event.get("usage") or {}).get("completion_tokens", used)
            for choice in event.get("choices", ()):
                piece = choice["delta"].get("content") or ""
                text += piece
                reason = choice.get("finish_reason") or reason
                if piece:
                    stamps.append(time.perf_counter())
        self.report.add_gaps(stamps)
        if failed:
            self._count("api error", "event in the stream")
        elif not done:
            self._violate(
                f"api: a stream ended without [DONE] and without an error: {text[-60:]!r}"
            )
        else:
            self._check(text, reason, used, tokens)

    async def _whole(self, response: httpx.Response, tokens: int) -> None:
        answer = json.loads(await response.aread())
        choice = answer["choices"][0]
        used = answer["usage"]["completion_tokens"]
        self._check(choice["message"]["content"] or "", choice["finish_reason"], used, tokens)

    def _check(self, text: str, reason: str | None, used: int | None, tokens: int) -> None:
        whole = text == self._text(tokens) if self.scripted else bool(text)
        if whole and reason in {"stop", "length"} and used in {tokens, tokens + 1}:
            self._count("api answer", "whole")
        else:
            self._violate(
                f"api: status 200, {reason!r}, {used} of {tokens} tokens, {len(text)} characters: "
                f"{text[-60:]!r}"
            )

    def _count(self, kind: str, what: str) -> None:
        self.report.outcomes[f"{kind}: {what}"] += 1

    def _violate(self, what: str) -> None:
        self.report.violations.append(what)

    # Faults.

    async def inflict(self, until: float) -> None:
        kinds = self._kinds()
        loop = asyncio.get_running_loop()
        # Every kind occurs once before any occurs again.
        bag: list[str] = []
        while loop.time() < until:
            if self.site.process is None or self.site.process.poll() is not None:
                self._violate("the supervisor ended")
                raise SupervisorEnded
            if not bag:
                bag = list(kinds)
                self.rng.shuffle(bag)
            kind = bag.pop()
            span = Span(kind, time.perf_counter())
            print(f"{time.strftime('%H:%M:%S')} {kind}", flush=True)
            try:
                await kinds[kind]()
            except _NOT_POSSIBLE:
                self._count("fault not possible", kind)
            finally:
                span.ended = time.perf_counter()
                self.report.faults.append(span)
            await asyncio.sleep(self.rng.uniform(2, 6))

    def _kinds(self) -> dict[str, Callable[[], Awaitable[None]]]:
        kinds: dict[str, Callable[[], Awaitable[None]]] = {}
        for role in _ROLES:
            kinds[f"kill -9 {role}"] = self._bind(self._kill, role)
            kinds[f"SIGSTOP {role}"] = self._bind(self._stop, role)
        kinds["Redis paused"] = self._pause_redis
        if os.path.ismount(self.site.data_dir):
            kinds["disk full"] = self._fill_disk
        if self.site.database:
            kinds["PostgreSQL locked"] = self._lock_postgres
            kinds["PostgreSQL paused"] = self._pause_postgres
            kinds["PostgreSQL restarted"] = self._restart_postgres
        else:
            kinds["SQLite locked"] = self._lock_sqlite
        return kinds

    def _bind(
        self, fault: Callable[[str], Awaitable[None]], role: str
    ) -> Callable[[], Awaitable[None]]:
        return lambda: fault(role)

    def _some(self, low: float, high: float) -> float:
        return self.rng.uniform(low, min(high, max(low, self.longest_stop)))

    def _victim(self, role: str) -> psutil.Process:
        return self.rng.choice(self.site.find(role))

    async def _kill(self, role: str) -> None:
        self._victim(role).kill()

    async def _stop(self, role: str) -> None:
        victim = self._victim(role)
        await self._suspended([victim], self._some(5, 40))

    async def _suspended(self, victims: list[psutil.Process], seconds: float) -> None:
        for victim in victims:
            victim.suspend()
        try:
            await asyncio.sleep(seconds)
        finally:
            for victim in victims:
                with contextlib.suppress(psutil.NoSuchProcess):
                    victim.resume()

    async def _pause_redis(self) -> None:
        seconds = self._some(5, 25)
        with self.site.redis() as client:
            client.execute_command("CLIENT", "PAUSE", int(seconds * 1000), "ALL")
        await asyncio.sleep(seconds)

    async def _lock_sqlite(self) -> None:
        database = sqlite3.connect(self.site.data_dir / "chatsite.sqlite3", timeout=10)
        try:
            database.execute("BEGIN EXCLUSIVE")
            await asyncio.sleep(self._some(5, 25))
            database.rollback()
        finally:
            database.close()

    async def _lock_postgres(self) -> None:
        async with await psycopg.AsyncConnection.connect(self.site.database) as connection:
            await connection.execute("SET lock_timeout = '10s'")
            await connection.execute(
                "LOCK TABLE chat_generation, chat_message, chat_conversation"
                " IN ACCESS EXCLUSIVE MODE"
            )
            await asyncio.sleep(self._some(5, 25))
            await connection.rollback()

    def _postmaster(self) -> psutil.Process:
        with psycopg.connect(self.site.database) as connection:
            [[folder]] = connection.execute("SHOW data_directory").fetchall()
        return psutil.Process(int((Path(folder) / "postmaster.pid").read_text().split()[0]))

    async def _pause_postgres(self) -> None:
        postmaster = self._postmaster()
        family = [postmaster, *postmaster.children(recursive=True)]
        await self._suspended(family, self._some(5, 25))

    async def _restart_postgres(self) -> None:
        # When one of its processes dies, PostgreSQL closes all connections and recovers.
        self.rng.choice(self._postmaster().children()).kill()

    async def _fill_disk(self) -> None:
        # Shrinking a file system to its contents makes it full without using memory. Other
        # processes write to it meanwhile, so the smallest possible size has to be found.
        folder = self.site.data_dir
        for room in range(20):
            if _remount(folder, shutil.disk_usage(folder).used + room * 4096):
                break
        else:
            raise NotPossible
        try:
            await asyncio.sleep(self._some(5, 15))
        finally:
            _remount(folder, _DISK_BYTES)

    # The end.

    async def settle(self) -> None:
        """Wait until no generation is open in SQL, at most as long as the reaper may take."""
        deadline = time.monotonic() + _QUIET_SECONDS
        while (left := await asyncio.to_thread(self.site.open_generations)) > 0:
            if time.monotonic() > deadline:
                self._violate(f"{left} generations stay open: ghosts")
                return
            await asyncio.sleep(1)

    def verify(self) -> None:
        saved = self.site.saved()
        for answer in self.answers:
            state, text = saved.pop(answer.generation.replace("-", ""), ("missing", ""))
            self._count("page answer", state)
            where = f"page: generation {answer.generation} ({state}, attempts {answer.attempts})"
            shown = answer.message.content if answer.message else None
            if answer.text != text:
                self._violate(f"{where}: streamed {_difference(answer.text, text)}")
            elif shown is not None and shown != text:
                self._violate(f"{where}: shown at its end {_difference(shown, text)}")
            expected = self.expected.get(answer.generation)
            if expected is not None and (
                text != expected if state == "done" else not expected.startswith(text)
            ):
                self._violate(f"{where}: saved {_difference(text, expected)}")
        self.processes()

    def processes(self) -> None:
        for role, most in (("redis", 1), ("daphne", 1), ("inference", 1), ("engine", 1)):
            found = self.site.find(role)
            if len(found) != 1 or len(found) > most:
                self._violate(f"{len(found)} processes of {role}, not 1")
        # One that has just ended is a zombie until its parent collects it.
        deadline = time.monotonic() + _COLLECTED_SECONDS
        while (halted := self._halted()) and time.monotonic() < deadline:
            time.sleep(0.5)
        for process, status in halted:
            with contextlib.suppress(psutil.NoSuchProcess):
                parent = process.parent()
                of = " ".join(parent.cmdline()) if parent else "no parent"
                self._violate(f"process {process.pid} ({process.name()}) of {of} is {status}")

    def _halted(self) -> list[tuple[psutil.Process, str]]:
        """Return the processes that are stopped, or ended and not collected by their parent."""
        found = []
        for process in self.site.family():
            with contextlib.suppress(psutil.NoSuchProcess):
                if (status := process.status()) in {psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE}:
                    found.append((process, status))
        return found


def _difference(found: str, wanted: str) -> str:
    at = next(
        (n for n, (a, b) in enumerate(zip(found, wanted, strict=False)) if a != b),
        min(len(found), len(wanted)),
    )
    return (
        f"{len(found)} characters, not {len(wanted)}; they differ at {at}: "
        f"{found[max(0, at - 20) : at + 20]!r}, not {wanted[max(0, at - 20) : at + 20]!r}"
    )


def _remount(folder: Path, size: int) -> bool:
    command = ["mount", "-o", f"remount,size={size}", str(folder)]
    return subprocess.run(command, check=False, capture_output=True).returncode == 0


@contextlib.contextmanager
def data_folder(report: Report) -> Iterator[Path]:
    """Yield a temporary directory, on its own file system if mounting one is possible."""
    folder = Path(tempfile.mkdtemp(prefix="chatsite-chaos-"))
    mounted = False
    if sys.platform == "linux" and os.geteuid() == 0:
        command = ["mount", "-t", "tmpfs", "-o", f"size={_DISK_BYTES},mode=700"]
        result = subprocess.run(
            [*command, "tmpfs", str(folder)], check=False, capture_output=True, text=True
        )
        mounted = result.returncode == 0
        if not mounted:
            report.skipped["disk full"] = f"no file system can be mounted: {result.stderr.strip()}"
    else:
        report.skipped["disk full"] = "only root may mount a file system that is filled"
    try:
        yield folder
    finally:
        if mounted:
            subprocess.run(["umount", "-l", str(folder)], check=False)
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _database(url: str | None) -> Iterator[str]:
    """Yield PostgreSQL's URL, of a private server for "private"; empty for SQLite."""
    if url == "private":
        with private_postgres(durable=True) as address:
            yield address
    else:
        yield url or ""


@contextlib.asynccontextmanager
async def _load(chaos: Chaos, site: Site) -> AsyncIterator[None]:
    """Run two users of the page and two API clients until the block ends; then let them finish."""
    clients = []
    for number in range(2):
        await asyncio.to_thread(site.create_user, f"page{number}")
        await asyncio.to_thread(site.create_user, f"api{number}")
        cookies = await asyncio.to_thread(site.sign_in, f"page{number}")
        made = await asyncio.to_thread(site.manage, "apikey", "create", f"api{number}")
        clients += [
            chaos.page(cookies, random.Random(chaos.rng.random())),
            chaos.api(made.stdout.strip(), random.Random(chaos.rng.random())),
        ]
    tasks = [asyncio.create_task(client) for client in clients]
    try:
        yield
    except SupervisorEnded:
        for task in tasks:
            task.cancel()
        raise
    finally:
        chaos.over.set()
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(result, Exception):
                chaos.report.violations.append(f"a client failed: {result!r}")


async def _run(
    site: Site, report: Report, seconds: float, seed: int, longest_stop: float, scripted: bool
) -> None:
    chaos = Chaos(site, report, random.Random(seed), longest_stop, scripted)
    try:
        async with _load(chaos, site):
            await asyncio.sleep(2)
            await chaos.inflict(asyncio.get_running_loop().time() + seconds)
    except SupervisorEnded:
        return
    await chaos.settle()
    await asyncio.to_thread(chaos.verify)


def run(
    *,
    seconds: float,
    seed: int,
    model: Path,
    database: str | None = None,
    scripted: bool = True,
    longest_stop: float = 40.0,
    log: Path | None = None,
) -> Report:
    """Run the product under faults and return the report.

    ``database`` is None for SQLite, "private" for a PostgreSQL started for the run, or the URL of
    an empty database.
    """
    report = Report()
    with data_folder(report) as folder, _database(database) as address:
        site = Site(folder, address, scripted)
        try:
            site.prepare(model)
            site.start()
            asyncio.run(_run(site, report, seconds, seed, longest_stop, scripted))
            _stop_in_order(site, report)
        finally:
            if log is not None:
                log.write_text("\n".join(site.output))
            if site.process is not None and site.process.poll() is None:
                site.stop()
    return report


def _stop_in_order(site: Site, report: Report) -> None:
    assert site.process
    if site.process.poll() is not None:
        return  # reported by `Chaos.inflict`
    family = site.family()
    site.process.send_signal(signal.SIGINT)
    try:
        site.process.wait(30)
    except subprocess.TimeoutExpired:
        report.violations.append("the supervisor does not end")
    if left := [process for process in family if process.is_running()]:
        report.violations.append(f"processes outlive the supervisor: {left}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--postgres", action="store_true", help="on a private PostgreSQL")
    parser.add_argument("--database", metavar="URL", help="on this empty PostgreSQL database")
    parser.add_argument("--real", action="store_true", help="let the model answer, not a script")
    parser.add_argument("--longest-stop", type=float, default=40.0, metavar="SECONDS")
    parser.add_argument(
        "--model",
        type=Path,
        default=os.environ.get("CHATSITE_TEST_MODEL", "build/starter/smollm2-135m.gguf"),
    )
    parser.add_argument("--log", type=Path, metavar="FILE", help="write the site's log there")
    options = parser.parse_args()
    seed = random.SystemRandom().randrange(10**6) if options.seed is None else options.seed
    print(f"seed {seed}", flush=True)
    report = run(
        seconds=options.minutes * 60,
        seed=seed,
        model=options.model,
        database=options.database or ("private" if options.postgres else None),
        scripted=not options.real,
        longest_stop=options.longest_stop,
        log=options.log,
    )
    print(report.table())
    for violation in report.violations:
        print(f"VIOLATION: {violation}")
    return 1 if report.violations else 0


if __name__ == "__main__":
    raise SystemExit(main())
