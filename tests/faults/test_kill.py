"""kill -9 of each process in the middle of an answer: no text is duplicated or lost.

Each test follows an answer with a client that applies the page's cursor rule, kills a process once
text has arrived, and compares the client's text with the one in SQL.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from functools import partial

import pytest

from chatsite.bench.chat_client import Answer, ChatClient
from tests.support.stack import MODEL, Stack, wait_until

QUESTION = "Write a long story about a lighthouse keeper and the sea. @tokens 300 @delay-ms 20"


@pytest.fixture(scope="module", params=["scripted_stack", "stack"])
def subject(request: pytest.FixtureRequest) -> Stack:
    """Return a stack of each kind.

    The scripted engine shows that nothing depends on the speed of a model; SmolLM2 shows that a
    real model continues in the middle of a sentence. (To SmolLM2 the directives are ordinary
    words.)
    """
    chosen: Stack = request.getfixturevalue(request.param)
    return chosen


@pytest.fixture(scope="module")
def cookies(subject: Stack) -> str:
    subject.create_user("faulty")
    return subject.sign_in("faulty")


def _runs(stack: Stack, role: str) -> bool:
    return bool(stack.find(role))


@pytest.fixture(autouse=True)
def all_running(subject: Stack) -> Iterator[None]:
    yield
    for role in ("daphne", "inference", "celery", "redis"):
        wait_until(partial(_runs, subject, role), f"{role} is back")


async def begin(client: ChatClient) -> tuple[Answer, str]:
    """Return a running answer, and its text on the page before the fault."""
    answer = await client.ask(QUESTION, model=MODEL, max_tokens=300, ignore_eos=True)
    async with asyncio.timeout(60):
        await answer.has(80)
    assert not answer.ended.is_set()
    return answer, answer.text


async def finish(stack: Stack, answer: Answer, shown: str) -> None:
    async with asyncio.timeout(90):
        await answer.ended.wait()
    saved = stack.saved_text(answer.message_id)
    assert answer.text == saved
    assert saved.startswith(shown)
    assert len(saved) > len(shown)
    assert answer.message is not None
    assert answer.message.content == saved
    assert answer.generated.state == "done"
    assert answer.generated.usage.completion_tokens == 300


@pytest.mark.parametrize("role", ["daphne", "inference", "engine", "redis", "celery"])
async def test_an_answer_survives_kill_9(subject: Stack, cookies: str, role: str) -> None:
    async with ChatClient(subject.url, cookies) as client:
        answer, shown = await begin(client)
        await asyncio.to_thread(subject.kill, role)
        await finish(subject, answer, shown)
        if role in {"inference", "engine"}:
            assert answer.attempts == [1, 2]
        if role == "daphne":
            assert client.reconnects >= 1


async def test_an_answer_survives_three_faults_in_a_row(subject: Stack, cookies: str) -> None:
    async with ChatClient(subject.url, cookies) as client:
        answer, shown = await begin(client)
        for role in ("engine", "daphne", "inference"):
            await asyncio.to_thread(subject.kill, role)
            length = len(answer.text)
            async with asyncio.timeout(60):
                await answer.has(length + 60)
        await finish(subject, answer, shown)


async def test_another_page_reads_the_same_from_the_first_character(
    subject: Stack, cookies: str
) -> None:
    async with ChatClient(subject.url, cookies) as one, ChatClient(subject.url, cookies) as two:
        answer, shown = await begin(one)
        other = await two.follow(answer.generation, answer.message_id, answer.conversation)
        await finish(subject, answer, shown)
        async with asyncio.timeout(30):
            await other.ended.wait()
        assert other.text == answer.text


async def test_an_answer_is_completed_though_every_page_is_closed(
    subject: Stack, cookies: str
) -> None:
    async with ChatClient(subject.url, cookies) as client:
        answer, shown = await begin(client)
    async with ChatClient(subject.url, cookies) as later:
        again = await later.follow(answer.generation, answer.message_id, answer.conversation)
        await finish(subject, again, shown)


async def test_a_command_that_meets_a_dead_server_makes_one_turn(
    subject: Stack, cookies: str
) -> None:
    async with ChatClient(subject.url, cookies) as client:
        await asyncio.to_thread(subject.kill, "daphne")
        answer = await client.ask("Say hello once.", model=MODEL, max_tokens=8)
        async with asyncio.timeout(60):
            await answer.ended.wait()
    rows = subject.query(
        "SELECT count(*) FROM chat_message WHERE conversation_id = ?",
        answer.conversation.replace("-", ""),
    )
    assert rows == [(2,)]
