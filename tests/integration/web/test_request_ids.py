"""IDs of requests and answers in the log of the running product, from the browser to the engine."""

from __future__ import annotations

import httpx
import pytest

from chatsite.bench.chat_client import ChatClient
from tests.support.chatting import ended
from tests.support.stack import MODEL, Stack, wait_until


@pytest.fixture(scope="module")
def cookies(scripted_stack: Stack) -> str:
    scripted_stack.create_user("ida")
    return scripted_stack.sign_in("ida")


def lines(stack: Stack, *texts: str) -> list[str]:
    return [line for line in stack.output if all(text in line for text in texts)]


async def test_an_answer_is_traced_from_the_command_to_the_engine(
    scripted_stack: Stack, cookies: str
) -> None:
    async with ChatClient(scripted_stack.url, cookies) as client:
        answer = await client.ask("@fail", model=MODEL)
        assert (await ended(answer)).state == "failed"
    [(request,)] = scripted_stack.query(
        "SELECT request_id FROM chat_generation WHERE message_id = ?",
        answer.message_id.replace("-", ""),
    )
    assert request
    ids = (f"generation={answer.generation}", f"request_id={request}")
    # The first line is the engine child's own, the second the host's.
    for text in ("Request failed", "Generation ended"):
        wait_until(lambda text=text: bool(lines(scripted_stack, text, *ids)), text)  # type: ignore[misc]
    assert all(" inference " in line for line in lines(scripted_stack, *ids))


async def test_each_response_has_an_id(scripted_stack: Stack, cookies: str) -> None:
    async with httpx.AsyncClient(base_url=scripted_stack.url) as client:
        page = await client.get("/accounts/login/")
        own = await client.get("/healthz/live", headers={"X-Request-ID": "abc-1"})
        forged = await client.get("/healthz/live", headers={"X-Request-ID": "a b\tc"})
        api = await client.get("/v1/models", headers={"X-Request-ID": "abc-2"})
    assert page.headers["X-Request-ID"].startswith("req_")
    assert own.headers["X-Request-ID"] == "abc-1"
    assert forged.headers["X-Request-ID"].startswith("req_")
    assert api.headers["X-Request-ID"] == "abc-2"


async def test_health_jobs_pass_through_queue_and_celery(scripted_stack: Stack) -> None:
    async with httpx.AsyncClient(base_url=scripted_stack.url) as client:
        for part in ("live", "ready", "queue", "celery"):
            response = await client.get(f"/healthz/{part}")
            assert (response.status_code, response.json()["status"]) == (200, "ok"), part
