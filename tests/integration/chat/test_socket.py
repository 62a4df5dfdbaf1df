"""The chat socket of the running product, with the scripted engine: limits, errors, fairness.

Invalid commands get an error on the socket, change nothing, and leave the socket usable.
"""

from __future__ import annotations

import asyncio
import json
import re
import uuid
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Origin

from chatsite.bench.chat_client import ChatClient, Refused
from tests.support.chatting import counts, ended, error_of, measured, refused, tokens_of
from tests.support.stack import MODEL, Stack


@pytest.fixture(scope="module")
def alice_cookies(scripted_stack: Stack) -> str:
    scripted_stack.create_user("alice")
    return scripted_stack.sign_in("alice")


@pytest.fixture(scope="module")
def bob_cookies(scripted_stack: Stack) -> str:
    scripted_stack.create_user("bob")
    return scripted_stack.sign_in("bob")


@pytest.fixture
async def alice(scripted_stack: Stack, alice_cookies: str) -> AsyncIterator[ChatClient]:
    async with ChatClient(scripted_stack.url, alice_cookies) as client:
        yield client


@pytest.fixture
async def bob(scripted_stack: Stack, bob_cookies: str) -> AsyncIterator[ChatClient]:
    async with ChatClient(scripted_stack.url, bob_cookies) as client:
        yield client


async def test_a_conversation_of_two_turns(alice: ChatClient) -> None:
    first = await alice.ask("one two three", model=MODEL)
    assert (await ended(first)).state == "done"
    assert first.text.strip() == "one two three"
    second = await alice.ask("four five", model=MODEL, after=first)
    generation = await ended(second)
    assert second.text.strip() == "four five"
    assert second.conversation == first.conversation
    assert (generation.usage.cached_tokens or 0) > 0
    assert generation.timings["ttft"] > 0
    again = await alice.regenerate(second, model=MODEL)
    await ended(again)
    assert again.text == second.text
    assert again.message
    assert second.message
    assert again.message.parent == second.message.parent


async def test_the_context_is_measured_before_sending(alice: ChatClient, bob: ChatClient) -> None:
    first = await alice.ask("one two three", model=MODEL)
    await ended(first)
    ask = {"type": "measure", "model": MODEL, "content": "four five"}
    draft = await measured(alice, ask)
    assert (draft.message, draft.estimated) == (2, False)
    assert draft.system is None
    branch = {"branch": True, "conversation": first.conversation, "parent": first.message_id}
    whole = await measured(alice, ask | branch)
    assert whole.system is not None
    assert whole.history is not None
    assert 0 < whole.system <= whole.history < whole.context
    second = await ended(await alice.ask("four five", model=MODEL, after=first))
    total = whole.system + whole.history + whole.message
    assert second.usage.prompt_tokens == total
    assert (await refused(bob, ask | branch))["code"] == "not_found"
    assert (await refused(bob, ask | {"model": "absent:1b"}))["code"] == "model_not_found"


async def test_the_oldest_turns_may_be_left_out(alice: ChatClient) -> None:
    long = " ".join(f"word{number}" for number in range(1500))
    first = await alice.ask(f"@say ok {long}", model=MODEL)
    await ended(first)
    refused_answer = await alice.ask(long, model=MODEL, after=first)
    assert error_of(await ended(refused_answer))["code"] == "context_length_exceeded"
    command = {"type": "regenerate", "message": refused_answer.message_id, "model": MODEL}
    again = await ended(await alice.command({**command, "keep_latest": True}))
    assert (again.state, again.left_out) == ("done", 2)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"content": "x" * 100_001}, "message_too_long"),
        ({"content": " \n\t "}, "empty_message"),
        ({"model": "nobody/has-this:1b"}, "model_not_found"),
        ({"model": "../../etc/passwd"}, "model_not_found"),
        ({"conversation": str(uuid.uuid4())}, "not_found"),
        ({"conversation": "not-an-id"}, "bad_request"),
        ({"params": {"temperature": 99}}, "bad_request"),
        ({"params": {"top_k": -1}}, "bad_request"),
        ({"unknown": 1}, "bad_request"),
        ({"content": 5}, "bad_request"),
        ({"type": "sudo"}, "bad_request"),
    ],
)
async def test_bad_commands_are_answered_and_change_nothing(
    scripted_stack: Stack, alice: ChatClient, change: dict[str, Any], code: str
) -> None:
    before = counts(scripted_stack)
    command = {"type": "send", "content": "hello", "model": MODEL} | change
    assert (await refused(alice, command))["code"] == code
    assert counts(scripted_stack) == before
    # The same socket still works.
    assert (await ended(await alice.ask("still here", model=MODEL))).state == "done"


async def test_a_prompt_beyond_the_context_fails_with_its_figures(alice: ChatClient) -> None:
    answer = await alice.ask("word " * 5000, model=MODEL)
    generation = await ended(answer)
    assert generation.state == "failed"
    assert error_of(generation)["code"] == "context_length_exceeded"
    assert error_of(generation)["context"] == 4096
    assert "4096" in error_of(generation)["message"]
    assert error_of(generation)["prompt_tokens"] > 5000


async def test_other_users_objects_look_missing(alice: ChatClient, bob: ChatClient) -> None:
    answer = await alice.ask("@tokens 3000 @delay-ms 20", model=MODEL)
    async with asyncio.timeout(60):
        await answer.has(1)
    theirs = [
        {"type": "send", "content": "x", "model": MODEL, "conversation": answer.conversation},
        {"type": "regenerate", "message": answer.message_id, "model": MODEL},
        {"type": "edit", "message": answer.message_id, "content": "x", "model": MODEL},
        {"type": "stop", "generation": answer.generation},
    ]
    for command in theirs:
        assert (await refused(bob, command))["code"] == "not_found"
    await bob.follow(answer.generation, answer.message_id, answer.conversation)
    async with asyncio.timeout(60):
        while not (unasked := [error for error in bob.errors if error.id is None]):
            await asyncio.sleep(0.01)
    assert unasked[0].error["code"] == "not_found"
    assert unasked[0].generation == answer.generation
    assert not answer.ended.is_set()
    await alice.stop(answer)
    assert (await ended(answer)).state == "cancelled"


async def test_stop_ends_the_work_and_keeps_the_text(
    scripted_stack: Stack, alice: ChatClient
) -> None:
    answer = await alice.ask("@tokens 2000 @delay-ms 20", model=MODEL)
    async with asyncio.timeout(60):
        await answer.has(30)
    await alice.stop(answer)
    generation = await ended(answer)
    assert generation.state == "cancelled"
    assert tokens_of(generation) < 2000
    assert answer.text == scripted_stack.saved_text(answer.message_id)
    assert len(answer.text) >= 30
    # Stopping an ended answer is no error.
    await alice.stop(answer)


async def test_page_8_an_administrator_stops_a_running_answer_on_the_socket(
    scripted_stack: Stack, alice: ChatClient
) -> None:
    scripted_stack.create_user("root", admin=True)
    cookies = await asyncio.to_thread(scripted_stack.sign_in, "root")
    token = re.search(r"csrf\w*=(\w+)", cookies)
    assert token
    answer = await alice.ask("@tokens 2000 @delay-ms 20", model=MODEL)
    async with asyncio.timeout(60):
        await answer.has(30)
    page = f"{scripted_stack.url}/admin/chat/generation/"
    async with httpx.AsyncClient(headers={"Cookie": cookies, "Referer": page}) as client:
        form = {"stop": answer.generation, "csrfmiddlewaretoken": token[1]}
        assert (await client.post(page, data=form)).status_code == 302
    generation = await ended(answer)
    assert (generation.state, generation.finish_reason) == ("cancelled", "administrator")
    assert len(answer.text) >= 30
    assert answer.text == scripted_stack.saved_text(answer.message_id)
    more = await alice.command({"type": "continue", "message": answer.message_id})
    await alice.stop(more)
    assert (await ended(more)).finish_reason == "cancelled"


async def test_page_8_a_loop_is_stopped_and_can_be_continued(alice: ChatClient) -> None:
    answer = await alice.ask("over and over " * 450, model=MODEL)
    generation = await ended(answer)
    assert (generation.state, generation.finish_reason) == ("done", "repetition")
    assert 1024 < tokens_of(generation) < 1100
    more = await alice.command({"type": "continue", "message": answer.message_id})
    await ended(more)
    assert more.text.startswith(answer.text)
    assert len(more.text) > len(answer.text)


async def test_a_stopped_answer_continues_after_its_text(
    scripted_stack: Stack, alice: ChatClient
) -> None:
    answer = await alice.ask("@tokens 60 @delay-ms 80", model=MODEL)
    async with asyncio.timeout(60):
        await answer.has(10)
    await alice.stop(answer)
    await ended(answer)
    more = await alice.command({"type": "continue", "message": answer.message_id})
    assert (more.message_id, more.conversation) == (answer.message_id, answer.conversation)
    assert more.generation != answer.generation
    generation = await ended(more)
    assert more.text.startswith(answer.text)
    assert more.text.split() == [f"w{number}" for number in range(1, 61)]
    assert more.text == scripted_stack.saved_text(answer.message_id)
    # Only new tokens are counted; those of the earlier attempt are kept separately.
    assert 0 < tokens_of(generation) <= 60 - len(answer.text.split()) + 1
    body = await refused(alice, {"type": "continue", "message": answer.message_id})
    assert body["code"] == "nothing_to_continue"


async def test_a_conversation_takes_no_second_message_while_the_first_is_answered(
    alice: ChatClient,
) -> None:
    answer = await alice.ask("@tokens 3000 @delay-ms 20", model=MODEL)
    async with asyncio.timeout(60):
        await answer.has(1)
    command = {"type": "send", "content": "x", "model": MODEL}
    command |= {"conversation": answer.conversation, "parent": answer.message_id}
    assert (await refused(alice, command))["code"] == "busy"
    await alice.stop(answer)
    await ended(answer)


async def test_one_request_sent_twice_makes_one_turn(
    scripted_stack: Stack, alice: ChatClient, alice_cookies: str
) -> None:
    before = counts(scripted_stack)
    text = json.dumps({"type": "send", "id": "twice", "content": "once only", "model": MODEL})
    address = scripted_stack.url.replace("http", "ws") + "/ws/chat/"
    headers = {"Cookie": alice_cookies}
    replies: list[dict[str, Any]] = []
    async with connect(
        address,
        origin=Origin(scripted_stack.url),
        additional_headers=headers,
        proxy=None,
    ) as socket:
        await asyncio.gather(socket.send(text), socket.send(text))
        async with asyncio.timeout(60):
            while len(replies) < 2:
                event = json.loads(await socket.recv())
                if event.get("id") == "twice":
                    replies.append(event)
    messages = [reply["assistant_message"] for reply in replies]
    assert messages[0]["id"] == messages[1]["id"]
    reply = replies[0]
    answer = await alice.follow(
        messages[0]["generation"]["id"], messages[0]["id"], reply["conversation"]["id"]
    )
    await ended(answer)
    assert counts(scripted_stack) == tuple(n + d for n, d in zip(before, (1, 2, 1), strict=True))


async def test_eight_stream_concurrently_and_the_ninth_is_queued(
    scripted_stack: Stack, alice: ChatClient, bob: ChatClient
) -> None:
    for n in range(3):
        await ended(await alice.ask(f"measured {n}", model=MODEL))
    running = [await alice.ask(f"@tokens 3000 @delay-ms 20 {n}", model=MODEL) for n in range(8)]
    async with asyncio.timeout(60):
        await asyncio.gather(*(answer.has(10) for answer in running))
    assert not any(answer.ended.is_set() for answer in running)
    ninth = await bob.ask("me too", model=MODEL)
    tenth = await bob.ask("and me", model=MODEL)
    async with asyncio.timeout(60):
        while not all(one.waits and one.waits[-1].seconds is not None for one in (ninth, tenth)):
            await asyncio.sleep(0.02)
    assert ninth.waits[-1].ahead == 0
    assert tenth.waits[-1].ahead == 1
    assert ninth.waits[-1].model == "ready"
    assert ninth.waits[-1].seconds is not None
    await alice.stop(running[0])
    assert (await ended(ninth)).state == "done"
    await ended(tenth)
    for answer in running[1:]:
        await alice.stop(answer)
        await ended(answer)


async def test_twenty_requests_of_one_user_do_not_delay_another(
    alice: ChatClient, bob: ChatClient
) -> None:
    mine = [await alice.ask("@tokens 100 @delay-ms 40", model=MODEL) for _ in range(20)]
    before = sum(answer.ended.is_set() for answer in mine)
    theirs = await bob.ask("just one", model=MODEL)
    await ended(theirs)
    # Eight of alice's were running when bob came. None of those queued ran before his.
    assert sum(answer.ended.is_set() for answer in mine) - before <= 8
    for answer in mine:
        await alice.stop(answer)
        await ended(answer)


async def test_the_queue_of_one_user_is_bounded(scripted_stack: Stack, alice: ChatClient) -> None:
    # The queue drops an ended job shortly after the page was notified.
    await asyncio.sleep(1)
    answers = [await alice.ask("@tokens 2000 @delay-ms 20", model=MODEL) for _ in range(50)]
    before = counts(scripted_stack)
    body = await refused(alice, {"type": "send", "content": "one more", "model": MODEL})
    assert body["code"] == "too_many_requests"
    assert counts(scripted_stack) == before
    for answer in reversed(answers):
        await alice.stop(answer)
    for answer in answers:
        assert (await ended(answer)).state == "cancelled"


async def send_huge(socket: ClientConnection) -> None:
    """The server may close the socket during or just after the transfer."""
    await socket.send("x" * 5_000_000)
    await asyncio.wait_for(socket.recv(), 60)


async def test_malformed_frames_are_answered_and_huge_ones_close_one_socket(
    scripted_stack: Stack, alice_cookies: str, bob: ChatClient
) -> None:
    address = scripted_stack.url.replace("http", "ws") + "/ws/chat/"
    arguments: dict[str, Any] = {
        "origin": scripted_stack.url,
        "additional_headers": {"Cookie": alice_cookies},
        "proxy": None,
    }
    async with connect(address, **arguments) as socket:
        for bad in ("{", "[]", "null", '"x"', "\x00", '{"type":"send","id":"known"}', b"\xff\xfe"):
            await socket.send(bad)
            event = json.loads(await asyncio.wait_for(socket.recv(), 60))
            assert event["type"] == "error"
            assert event["error"]["code"] == "bad_request"
            assert event["id"] == ("known" if isinstance(bad, str) and "known" in bad else None)
        with pytest.raises(ConnectionClosed):
            await send_huge(socket)
    assert (await ended(await bob.ask("unharmed", model=MODEL))).state == "done"


async def test_a_socket_without_session_gets_an_error(scripted_stack: Stack) -> None:
    address = scripted_stack.url.replace("http", "ws") + "/ws/chat/"
    async with connect(address, origin=scripted_stack.url, proxy=None) as socket:  # type: ignore[arg-type]
        with pytest.raises(ConnectionClosed) as caught:
            await asyncio.wait_for(socket.recv(), 60)
    assert caught.value.rcvd
    assert caught.value.rcvd.code == 4401


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "http://127.0.0.1:1", "https://127.0.0.1", None]
)
async def test_pages_of_other_sites_get_no_socket(
    scripted_stack: Stack, alice_cookies: str, origin: Any
) -> None:
    address = scripted_stack.url.replace("http", "ws") + "/ws/chat/"
    with pytest.raises(InvalidStatus) as caught:
        async with connect(
            address, origin=origin, additional_headers={"Cookie": alice_cookies}, proxy=None
        ):
            pass
    assert caught.value.response.status_code == 403


async def test_signing_out_closes_open_sockets(scripted_stack: Stack) -> None:
    scripted_stack.create_user("carol")
    cookies = scripted_stack.sign_in("carol")
    async with ChatClient(scripted_stack.url, cookies) as carol:
        await ended(await carol.ask("hello", model=MODEL))
        scripted_stack.end_sessions("carol")
        with pytest.raises((Refused, TimeoutError)):
            async with asyncio.timeout(3):
                await carol.ask("still me?", model=MODEL)
