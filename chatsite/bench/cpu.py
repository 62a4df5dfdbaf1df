"""Processor time of the site's processes: of all in a stretch of time, and what of it a token, a
request and the mere being there take."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import psutil
from django.conf import settings

from chatsite.dispatch.connection import connect
from chatsite.engine.messages import Stats
from chatsite.inference import status
from chatsite.supervisor.leftovers import Register

_SETTLE_SECONDS = 5.0
# What a command line shows of each process; `manage.py up` itself is the rest.
_ROLES = {
    "redis-server": "redis",
    "daphne": "daphne",
    "celery": "celery",
    " inference": "inference",
    "chatsite.engine": "engine",
}


@dataclass(frozen=True)
class Used:
    """Processor ``seconds`` by kind of process in a stretch of ``wall`` seconds, which gave
    ``tokens``."""

    seconds: Mapping[str, float]
    wall: float
    tokens: int = 0


def split(idle: Used, short: Used, long: Used, requests: int) -> dict[str, float]:
    """What the kinds of process take: ``idle_ms_NAME`` in a second without work,
    ``streamed_us_NAME`` for one more token of an answer, ``request_ms_NAME`` for the rest of one,
    each with its sum behind ``_all``. ``short`` and ``long`` had ``requests`` answers each, of
    different length: what they differ in is tokens alone."""
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
    """Processor seconds of the site's processes during the block, by kind; of an engine child
    only what its thread does outside of model and sampling."""

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
        """After the block, which gave ``tokens``."""
        return Used(self.seconds, self.wall, tokens)

    async def _own_seconds(self) -> float:
        """As the engines that serve the model tell it when nothing runs any more."""
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


def _used() -> Counter[str]:
    used: Counter[str] = Counter()
    for process in _site():
        try:
            line, times = " ".join(process.cmdline()), process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        name = next((role for word, role in _ROLES.items() if word in line), "up")
        used[name] += times.user + times.system
    return used


def _site() -> Iterator[psutil.Process]:
    """The processes of the site on this data folder: the supervisor and all below it."""
    for child in Register(settings.ENV.data_dir / "run" / "children.json").alive():
        supervisor = child.parent()
        if supervisor is not None:
            yield supervisor
            yield from supervisor.children(recursive=True)
        return
