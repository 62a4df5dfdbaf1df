"""Leases of engines in Redis: one host at a time serves an engine, so its concurrency holds.

A host takes engines that share a model with one that it serves, so that requests for the model are
routed in one place. Others are spread evenly over the hosts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from redis.asyncio import Redis

from chatsite.redis_keys import engine_key

# A free engine is taken by any host after this time, if the host whose turn it is does not.
_PATIENCE_SECONDS: Final = 3.0
_HOLD: Final = (Path(__file__).parent / "hold.lua").read_text()
_RELEASE: Final = (
    'for _, key in ipairs(KEYS) do if redis.call("GET", key) == ARGV[1] then '
    'redis.call("DEL", key) end end'
)

Models = Mapping[int, frozenset[str]]


@dataclass
class Leases:
    """The engines that the host ``host`` holds, each for ``lease_ms`` after `hold`."""

    redis: Redis
    host: str
    lease_ms: int
    owners: dict[int, str] = field(default_factory=dict)
    _free_since: dict[int, float] = field(default_factory=dict)

    @property
    def held(self) -> set[int]:
        return {id for id, owner in self.owners.items() if owner == self.host}

    async def hold(self, models: Models, alive: frozenset[str], now: float) -> None:
        """Renew leases and take free engines; ``models`` are the digests of each engine's models.

        ``alive`` are the IDs of all hosts. `owners` is up to date afterwards, with "" for none.
        """
        free = {id for id in models if not self.owners.get(id)}
        self._free_since = {id: self._free_since.get(id, now) for id in free}
        overdue = {id for id, since in self._free_since.items() if now - since > _PATIENCE_SECONDS}
        wanted = to_hold(self.host, models, self.owners, alive, overdue)
        ids = [*wanted, *(id for id in models if id not in wanted)]
        if not ids:
            self.owners = {}
            return
        answers: list[bytes] = await self.redis.eval(  # type: ignore[misc]
            _HOLD,
            len(ids),
            *map(engine_key, ids),
            self.host,
            str(self.lease_ms),
            str(len(wanted)),
        )
        self.owners = {id: owner.decode() for id, owner in zip(ids, answers, strict=True)}

    async def release(self) -> None:
        """Give up all leases, in an orderly shutdown."""
        if keys := [engine_key(id) for id in self.held]:
            call: Any = self.redis.eval(_RELEASE, len(keys), *keys, self.host)
            await call
        self.owners = {}


def to_hold(
    host: str,
    models: Models,
    owners: Mapping[int, str],
    alive: frozenset[str],
    overdue: Set[int] = frozenset(),
) -> Sequence[int]:
    """Return the engines that ``host`` should hold: its own, related ones, and one more if fair."""
    mine = [id for id in sorted(models) if owners.get(id) == host]
    counts = Counter(dict.fromkeys(alive | {host}, 0))
    counts.update(owner for id, owner in owners.items() if owner and id in models)
    wanted, taken = list(mine), False
    for id in sorted(models):
        if owners.get(id):
            continue
        related = {
            owner
            for other, owner in owners.items()
            if owner and other in models and models[other] & models[id]
        }
        if host in related:
            wanted.append(id)
        elif taken or (related and id not in overdue):
            continue
        elif id in overdue or counts[host] == min(counts.values()):
            wanted.append(id)
            # One at a time: its relatives should follow it, also if another host is faster.
            taken = True
    return wanted
