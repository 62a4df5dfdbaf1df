"""The installation of release 3d4959b, opened by this code: one running product per module."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from subprocess import CompletedProcess

import httpx
import pytest

from tests.support.gguf import VOCABULARY, gguf
from tests.support.hub import Hub, serve
from tests.support.release import Release, restored
from tests.support.stack import Stack

COMMIT = "3d4959b"
# The file that the stored jobs were downloading; its digest is part of the fixture.
SLOW = gguf({"general.name": "slow"}, tensors=(("output.weight", 5 << 20),), extra=(VOCABULARY,))


@dataclass(frozen=True)
class Upgraded:
    """``migrations`` are the results of `manage.py migrate` before the start, twice."""

    stack: Stack
    release: Release
    hub: Hub
    migrations: tuple[CompletedProcess[str], CompletedProcess[str]]

    def page(self, user: str | None = None) -> httpx.Client:
        """Return a browser-like client, signed in as ``user``."""
        cookie = {"Cookie": self.stack.sign_in(user)} if user else {}
        return httpx.Client(base_url=self.stack.url, headers=cookie)

    def api(self, key: str) -> httpx.Client:
        """Return a client with one of the stored keys."""
        headers = {"Authorization": f"Bearer {self.release.facts['keys'][key]}"}
        return httpx.Client(base_url=self.stack.url, headers=headers, timeout=60)


@pytest.fixture(scope="module")
def upgraded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Upgraded]:
    folder = tmp_path_factory.mktemp("upgrade") / "data"
    with restored(COMMIT, folder) as release, serve() as hub:
        stack = Stack(
            folder,
            CHATSITE_BACKEND="scripted",
            CHATSITE_MEMORY_MB="4096",
            CHATSITE_OLLAMA_REGISTRY=hub.address,
            **release.env,
        )
        assert hub.publish("slow", "1b", SLOW) == hashlib.sha256(SLOW).hexdigest()
        hub.publish("next", "1b", gguf({"general.name": "next"}, extra=(VOCABULARY,)))
        first = stack.manage("migrate", check=False)
        migrations = (first, stack.manage("migrate", check=False))
        try:
            stack.start()
            yield Upgraded(stack, release, hub, migrations)
        finally:
            stack.stop()
