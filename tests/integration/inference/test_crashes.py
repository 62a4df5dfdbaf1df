"""Engine children that crash while computing: answers resume, and poison requests are given up."""

from __future__ import annotations

import asyncio

import pytest

from chatsite.bench.chat_client import Answer, ChatClient, Refused
from chatsite.conversations import schema
from tests.support.chatting import error_of
from tests.support.stack import MODEL, Stack


@pytest.fixture(scope="module")
def cookies(scripted_stack: Stack) -> str:
    scripted_stack.create_user("alice")
    return scripted_stack.sign_in("alice")


async def ended(answer: Answer) -> schema.Generation:
    async with asyncio.timeout(90):
        await answer.ended.wait()
    return answer.generated


async def asked_until(client: ChatClient, state: str) -> schema.Generation:
    """Ask until an answer ends with ``state``: hosts look up names only every few seconds."""
    async with asyncio.timeout(90):
        while (generation := await ended(await client.ask("hello", model=MODEL))).state != state:
            await asyncio.sleep(0.5)
        return generation


async def test_crashing_requests_and_a_crashing_model(scripted_stack: Stack, cookies: str) -> None:
    """One test, since each part needs the state left by the one before."""
    async with ChatClient(scripted_stack.url, cookies) as client:
        assert (await ended(await client.ask("hello", model=MODEL))).state == "done"

        # A crash in the middle: a second child resumes where the first one was.
        once = await client.ask("@crash-once 5 @tokens 20 @delay-ms 20", model=MODEL)
        assert (await ended(once)).state == "done"
        assert once.attempts == [1, 2]
        assert once.text.split() == [f"w{number}" for number in range(1, 21)]

        # A poison request is given up after three children, the last of which ran it alone. Its
        # text is kept, and the answer that ran beside it in the first two is complete.
        poison = await client.ask("@crash 5 @tokens 60 @delay-ms 20", model=MODEL)
        other = await client.ask("@tokens 40 @delay-ms 20", model=MODEL)
        generation = await ended(poison)
        assert generation.state == "interrupted"
        assert error_of(generation)["code"] == "interrupted"
        assert poison.text == scripted_stack.saved_text(poison.message_id)
        assert poison.text.split() == [f"w{number}" for number in range(1, 16)]
        assert (await ended(other)).state == "done"
        assert other.text.split() == [f"w{number}" for number in range(1, 41)]
        assert (await ended(await client.ask("hello again", model=MODEL))).state == "done"


async def test_a_model_that_does_not_fit_is_refused_with_the_figures(
    scripted_stack: Stack, cookies: str
) -> None:
    """With 64 concurrent answers it would take more than this stack's 4 GB."""
    scripted_stack.manage("models", "set", MODEL, "--context", "8192", "--slots", "64")
    try:
        async with ChatClient(scripted_stack.url, cookies) as client:
            generation = await asked_until(client, "failed")
            error = error_of(generation)
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
        assert generation.state == "failed"
        # Either may detect it first.
        assert error_of(generation)["code"] in {"model_unavailable", "model_quarantined"}
        with pytest.raises(Refused) as caught:
            await client.ask("hello", model=MODEL)
        assert caught.value.args[0]["code"] == "model_quarantined"
    rows = stack.query("SELECT quarantined FROM models_admin_modelversion")
    assert "SIGABRT" in str(rows[0][0])
