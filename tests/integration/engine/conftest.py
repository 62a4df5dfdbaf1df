"""Real engine children over the scripted backend."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from chatsite.engine.client import EngineClient
from tests.support.children import load


@pytest.fixture
async def clients() -> AsyncIterator[list[EngineClient]]:
    made: list[EngineClient] = []
    yield made
    for client in made:
        await client.stop()


@pytest.fixture
async def client(clients: list[EngineClient]) -> EngineClient:
    client = EngineClient("scripted", backend="scripted")
    clients.append(client)
    await client.start(load())
    return client


@pytest.fixture
def model(tmp_path: Path) -> Callable[[str], str]:
    def write(directives: str) -> str:
        path = tmp_path / "model"
        path.write_text(f"scripted\n{directives}\n")
        return str(path)

    return write
