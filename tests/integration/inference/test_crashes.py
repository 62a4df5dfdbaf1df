"""Engine children that die by what they compute: answers go on, poison is given up."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from chatsite.bench.client import Answer, ChatClient, Refused
from tests.support.stack import MODEL, Stack


@pytest.fixture(scope="module")
def cookies(scripted_stack: Stack) -> str:
    scripted_stack.create_user("alice")
    return scripted_stack.sign_in("alice")


async def ended(answer: Answer) -> dict[str, Any]:
    async with asyncio.timeout(40):
        await answer.ended.wait()
    assert answer.message
    generation: dict[str, Any] = answer.message["generation"]
    return generation


async def asked_until(client: ChatClient, state: str) -> dict[str, Any]:
    """The first answer that ends so: hosts look every few seconds at what a name stands for."""
    async with asyncio.timeout(30):
        while (generation := await ended(await client.ask("hello", model=MODEL)))["state"] != state:
            await asyncio.sleep(0.5)
        return generation


async def test_crashing_requests_and_a_crashing_model(scripted_stack: Stack, cookies: str) -> None:
    """One test, since each part needs the state that the one before left."""
    async with ChatClient(scripted_stack.url, cookies) as client:
        assert (await ended(await client.ask("hello", model=MODEL)))["state"] == "done"

        # A crash in the middle: a second child goes on where the first one was.
        once = await client.ask("@crash-once 5 @tokens 20 @delay-ms 20", model=MODEL)
        assert (await ended(once))["state"] == "done"
        assert once.attempts == [1, 2]
        assert once.text.split() == [f"w{number}" for number in range(1, 21)]

        # Poison: given up after three children, the last of which it had for itself. Its text
        # is kept, and the answer that was under way in the other two is whole.
        poison = await client.ask("@crash 5 @tokens 60 @delay-ms 20", model=MODEL)
        other = await client.ask("@tokens 40 @delay-ms 20", model=MODEL)
        generation = await ended(poison)
        assert generation["state"] == "interrupted"
        assert generation["error"]["code"] == "interrupted"
        assert poison.text == scripted_stack.saved_text(poison.message_id)
        assert poison.text.split() == [f"w{number}" for number in range(1, 16)]
        assert (await ended(other))["state"] == "done"
        assert other.text.split() == [f"w{number}" for number in range(1, 41)]
        assert (await ended(await client.ask("hello again", model=MODEL)))["state"] == "done"


async def test_a_model_that_does_not_fit_is_refused_with_the_figures(
    scripted_stack: Stack, cookies: str
) -> None:
    """It would, with 64 answers at once, take more than the 4 GB of this stack."""
    scripted_stack.manage("models", "set", MODEL, "--context", "8192", "--slots", "64")
    try:
        async with ChatClient(scripted_stack.url, cookies) as client:
            generation = await asked_until(client, "failed")
            error = generation["error"]
            assert error["code"] == "model_does_not_fit"
            assert (error["room_mb"], error["context"]) == (4096, 8192)
            # 64 × 8192 tokens of 22.5 KiB, and the rest.
            assert error["needed_mb"] == pytest.approx(11520 + 260, abs=100)
            assert "4096 MB" in error["message"]
    finally:
        scripted_stack.manage("models", "set", MODEL, "--context", "default", "--slots", "default")
    async with ChatClient(scripted_stack.url, cookies) as client:
        await asked_until(client, "done")


async def test_a_model_that_never_answers_is_quarantined(
    fresh_scripted_stack: Stack,
) -> None:
    stack = fresh_scripted_stack
    stack.create_user("alice")
    async with ChatClient(stack.url, stack.sign_in("alice")) as client:
        generation = await ended(await client.ask("@crash 0", model=MODEL))
        assert generation["state"] == "failed"
        # Which of the two sees it first is a matter of chance.
        assert generation["error"]["code"] in {"model_unavailable", "model_quarantined"}
        with pytest.raises(Refused) as caught:
            await client.ask("hello", model=MODEL)
        assert caught.value.args[0]["code"] == "model_quarantined"
    rows = stack.query("SELECT quarantined FROM models_admin_modelversion")
    assert "SIGABRT" in str(rows[0][0])
