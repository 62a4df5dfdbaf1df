"""The remote engines in use, as the database has them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from chatsite.inference.remote.contract import Capability, Kind, RemoteModel, Server, Timeouts
from chatsite.secrets import UnreadableSecret
from models_admin.engines.models import Engine
from models_admin.models import ModelName

_CAPABILITIES: Final = frozenset(one.value for one in Capability)
# The first byte of an answer may take longer than the pauses within it: the engine may queue.
_FIRST_SECONDS: Final = 300.0


@dataclass(frozen=True)
class EngineFacts:
    """An engine, with its models by their digest in the catalogue.

    ``problem`` is why it can't be contacted, empty if it can.
    """

    id: int
    name: str
    server: Server
    concurrency: int
    models: Mapping[str, RemoteModel]
    problem: str = ""

    def slots(self, digest: str) -> int:
        """Return how many requests to one of its models may run at once."""
        own = self.models[digest].slots
        return min(self.concurrency, own) if own else self.concurrency


@dataclass(frozen=True)
class Known:
    """All engines in use, and the digests of the remote models that users can choose, by name."""

    engines: tuple[EngineFacts, ...] = ()
    names: Mapping[str, str] = field(default_factory=dict)


def load() -> Known:
    """Read the engines and their models."""
    engines = Engine.objects.filter(enabled=True).order_by("pk").prefetch_related("models")
    found = ModelName.objects.filter(enabled=True, version__quarantined="")
    names = found.exclude(version__remote={}).values_list("name", "version")
    return Known(tuple(map(_facts, engines)), dict(names))


def server_of(engine: Engine) -> Server:
    """Return how to reach the engine. Raises `UnreadableSecret`."""
    stall = float(engine.timeout_seconds)
    return Server(
        kind=Kind(engine.kind),
        url=engine.url,
        key=engine.read_key(),
        context=engine.context or 0,
        timeouts=Timeouts(stall=stall, first=max(_FIRST_SECONDS, stall)),
    )


def _facts(engine: Engine) -> EngineFacts:
    problem = ""
    try:
        server = server_of(engine)
    except UnreadableSecret:
        server = Server(Kind(engine.kind), engine.url)
        problem = "its key was encrypted with another secret key; enter it again"
    models = {
        row.version_id: RemoteModel(
            name=row.name,
            context_length=row.context,
            capabilities=frozenset(
                Capability(name) for name in row.capabilities if name in _CAPABILITIES
            ),
            slots=row.slots,
        )
        for row in engine.models.all()
        if row.present and row.version_id
    }
    return EngineFacts(engine.pk, engine.name, server, engine.concurrency, models, problem)
