"""CPU time of the site's processes: in total, and attributed to tokens, requests and idling."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import psutil
from django.conf import settings

from chatsite.engine.contract.messages import Stats
from chatsite.hosts import status
from chatsite.redis_client import connect
from chatsite.supervisor.leftovers import Register

_SETTLE_SECONDS = 5.0
# Text in the command line that identifies each process; `manage.py up` itself is the default.
_ROLES = {
    "redis-server": "redis",
    "valkey-server": "redis",
    "daphne": "daphne",
    "celery": "celery",
    " inference": "inference",
    "chatsite.engine": "engine",
    "chatsite.template_renderer": "renderer",
}


@dataclass(frozen=True)
class Used:
    """CPU ``seconds`` by kind of process over ``wall`` seconds, which generated ``tokens``."""

    seconds: Mapping[str, float]
    wall: float
    tokens: int = 0


def split(idle: Used, short: Used, long: Used, requests: int) -> dict[str, float]:
    """Attribute CPU time by kind of process; each figure also has its sum under ``_all``.

    ``idle_ms_NAME`` is per second without work, ``streamed_us_NAME`` per additional token of an
    answer, ``request_ms_NAME`` the rest of one request. ``short`` and ``long`` had ``requests``
    answers each and differ only in their number of tokens.
    """
    figures: dict[str, float] = {}
    for name in idle.seconds:
        rate = idle.seconds[name] / idle.wall
        brief, lasting = (used.seconds[name] - rate * used.wall for used in (short, long))
        token = (lasting - brief) / max(long.tokens - short.tokens, 1)
        figures[f"idle_ms_{name}"] = rate * 1e3
        figures[f"streamed_us_{name}"] = token * 1e6
        figures[f"request_ms_{name}"] = (brief - token * short.tokens) / requests * 1e3
    for kind in ("idle_ms", "streamed_us", "request_ms") if figures else ():
        parts = [value for name, value in figures.items() if name.startswith(kind)]
        figures[f"{kind}_all"] = sum(parts)
    return figures


class Cpu:
    """CPU seconds of the site's processes during the block, by kind.

    Of an engine child it counts only its thread's time outside of the model and sampling.
    """

    def __init__(self, model: str) -> None:
        self._model = model
        self._before: Counter[str] = Counter()
        self._began = self.wall = 0.0
        self.seconds: dict[str, float] = {}

    async def __aenter__(self) -> Cpu:
        self._engine = await self._own_seconds()
        self._before, self._began = _used(), time.perf_counter()
        return self

    async def __aexit__(self, *_: object) -> None:
        used, self.wall = _used(), time.perf_counter() - self._began
        used.subtract(self._before)
        self.seconds = {name: seconds for name, seconds in used.items() if name != "engine"}
        if used:
            self.seconds["engine"] = await self._own_seconds() - self._engine

    def used(self, tokens: int = 0) -> Used:
        """Return what was used during the block, in which ``tokens`` were generated."""
        return Used(self.seconds, self.wall, tokens)

    async def _own_seconds(self) -> float:
        """Return the engines' own seconds once they are idle and their counters are stable."""
        async with asyncio.timeout(_SETTLE_SECONDS), connect() as redis:
            told: list[Stats] = []
            while True:
                found = [
                    model.stats
                    for host in await status.alive(redis)
                    for model in host.models
                    if model.name == self._model and model.stats
                ]
                if found == told and not any(one.running for one in found):
                    return sum(one.own_seconds for one in found)
                told = found
                await asyncio.sleep(1.5 * status.ANNOUNCE_SECONDS)


def processes() -> Iterator[tuple[str, psutil.Process]]:
    """Yield the kind and the process of each that belongs to the site on this data directory."""
    for process in _site():
        try:
            line = " ".join(process.cmdline())
        except psutil.NoSuchProcess:
            continue
        yield next((role for word, role in _ROLES.items() if word in line), "up"), process


def _used() -> Counter[str]:
    used: Counter[str] = Counter()
    for name, process in processes():
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        used[name] += times.user + times.system
    return used


def _site() -> Iterator[psutil.Process]:
    """Yield the supervisor of the site on this data directory, and all its descendants."""
    for child in Register(settings.ENV.data_dir / "run" / "children.json").alive():
        supervisor = child.parent()
        if supervisor is not None:
            yield supervisor
            yield from supervisor.children(recursive=True)
        return
