"""Fair slots for expensive work."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from chatsite.errors import ServerBusy
from chatsite.fair_slots import FairSlots

Release = Callable[[], None]


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_m7_one_place_for_each_user_and_turns_in_fair_order() -> None:
    places, order = FairSlots(2), list[str]()
    releases: dict[str, Release] = {}

    async def want(owner: str, name: str) -> None:
        releases[name] = await places.acquire(owner)
        order.append(name)

    tasks = [asyncio.create_task(want("alice", f"alice {n}")) for n in range(4)]
    await settle()
    assert order == ["alice 0"], "the second place is not hers too"
    tasks += [asyncio.create_task(want(who, who)) for who in ("bob", "carol", "dan")]
    await settle()
    assert order == ["alice 0", "bob"]
    releases["alice 0"]()
    await settle()
    assert order == ["alice 0", "bob", "alice 1"], "she has waited longest"
    releases["alice 1"]()
    await settle()
    assert order[3:] == ["carol"], "others go before her next one"
    for name in ("bob", "carol", "dan", "alice 2", "alice 3"):
        await settle()
        releases[name]()
    assert set(order) >= {"dan", "alice 2", "alice 3"}
    await asyncio.gather(*tasks)


async def test_a_place_comes_back_once_however_its_holder_ends() -> None:
    places = FairSlots(1)
    with pytest.raises(ValueError, match="inside"):
        async with places.hold(1):
            raise ValueError("inside")
    release = await places.acquire(1)
    waiting = asyncio.create_task(places.acquire(2))
    gone = asyncio.create_task(places.acquire(3))
    await settle()
    gone.cancel()
    await settle()
    release()
    release()
    second = await asyncio.wait_for(waiting, 60)
    third = asyncio.create_task(places.acquire(4))
    await settle()
    assert not third.done(), "it was given back twice and counted once"
    second()
    (await asyncio.wait_for(third, 60))()
    (await asyncio.wait_for(places.acquire(3), 60))()


async def test_a_turn_that_is_cancelled_as_it_comes_is_not_lost() -> None:
    places = FairSlots(1)
    release = await places.acquire(1)
    waiting = asyncio.create_task(places.acquire(2))
    await settle()
    release()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    (await asyncio.wait_for(places.acquire(3), 60))()


async def test_a_wait_that_is_too_long_is_an_error() -> None:
    places = FairSlots(1, seconds=0)
    async with places.hold(1):
        with pytest.raises(ServerBusy, match="Try again"):
            await places.acquire(2)
    async with places.hold(2):
        pass
