"""When a host loads or fetches a model that others serve."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from redis.asyncio import Redis

from chatsite.errors import ModelFileMissing, ModelUnavailable
from chatsite.hosts import status
from chatsite.hosts.status import HostStatus, ModelStatus
from chatsite.inference import replicas
from chatsite.inference.replicas import Replicas

DIGEST = "d" * 64
MISSING = ModelFileMissing("m:1", DIGEST, 1000)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Recorder:
    def __init__(self) -> None:
        self.fetched: list[Sequence[str]] = []

    def fetch(self, model: str, digest: str, size: int, urls: Sequence[str]) -> None:
        assert (model, digest, size) == ("m:1", DIGEST, 1000)
        self.fetched.append(urls)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def fetcher() -> Recorder:
    return Recorder()


@pytest.fixture
def mine(redis: Redis, clock: Clock, fetcher: Recorder) -> Replicas:
    return Replicas("me", redis, fetcher, clock)  # type: ignore[arg-type]


def host(id: str = "other", *, busy: int = 0, draining: bool = False, url: str = "") -> HostStatus:
    model = ModelStatus("m:1", DIGEST, "ready", slots=2, busy=busy)
    return HostStatus(id, id, 1, (model,), draining=draining, files=(DIGEST,), files_url=url)


async def test_requests_wait_a_moment_for_a_free_slot_elsewhere(
    redis: Redis, mine: Replicas, clock: Clock
) -> None:
    await status.announce(redis, host(busy=1))
    mine.set_waiting_models(["m:1"])
    assert await mine.served_elsewhere("m:1")
    clock.now += replicas.LOAD_SECONDS
    mine.set_waiting_models(["m:1"])
    assert not await mine.served_elsewhere("m:1")
    mine.set_waiting_models([])  # the queue was empty: the demand has ended
    mine.set_waiting_models(["m:1"])
    assert await mine.served_elsewhere("m:1")


@pytest.mark.parametrize("other", [host(busy=2), host(draining=True), host("me")])
async def test_they_do_not_wait_for_a_host_that_takes_none(
    redis: Redis, mine: Replicas, other: HostStatus
) -> None:
    await status.announce(redis, other)
    mine.set_waiting_models(["m:1"])
    assert not await mine.served_elsewhere("m:1")


async def test_a_file_is_fetched_by_demand_or_for_a_wanted_model(
    redis: Redis, mine: Replicas, clock: Clock, fetcher: Recorder
) -> None:
    await status.announce(redis, host(url="http://other:8010"))
    mine.set_waiting_models(["m:1"])
    assert await mine.fetch(MISSING) is None
    assert fetcher.fetched == []
    assert await mine.fetch(MISSING, now=True) is None
    clock.now += replicas.FETCH_SECONDS
    assert await mine.fetch(MISSING) is None
    assert fetcher.fetched == [["http://other:8010"]] * 2


async def test_a_host_that_serves_no_files_is_named(
    redis: Redis, mine: Replicas, caplog: pytest.LogCaptureFixture
) -> None:
    await status.announce(redis, host())
    assert await mine.fetch(MISSING, now=True) is None
    assert "set CHATSITE_FILES_ADDRESS" in caplog.text


async def test_requests_are_refused_only_if_no_host_has_the_file_for_a_while(
    redis: Redis, mine: Replicas, clock: Clock
) -> None:
    mine.set_waiting_models(["m:1"])
    assert await mine.fetch(MISSING) is None
    clock.now += replicas.NO_SOURCE_SECONDS - 1
    assert await mine.fetch(MISSING) is None
    clock.now += 1
    assert isinstance(await mine.fetch(MISSING), ModelUnavailable)
