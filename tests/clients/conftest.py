"""Official clients against the running product, whose answers are scripted."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from openai import AsyncOpenAI, OpenAI

from tests.support.stack import Stack


@pytest.fixture(scope="session")
def api_stack(starter_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """One product for all tests of clients."""
    stack = Stack(
        tmp_path_factory.mktemp("api"),
        CHATSITE_BACKEND="scripted",
        CHATSITE_SLOTS="16",
        CHATSITE_QUEUE_MAX_PER_PERSON="400",
    )
    try:
        stack.prepare(starter_model)
        stack.create_user("alice")
        stack.start()
        yield stack
    finally:
        stack.stop()


def new_key(stack: Stack, *options: str) -> str:
    return stack.manage("apikey", "create", "alice", *options).stdout.strip()


@pytest.fixture(scope="session")
def key(api_stack: Stack) -> str:
    return new_key(api_stack, "--name", "tests")


@pytest.fixture
def client(api_stack: Stack, key: str) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{api_stack.url}/v1", api_key=key, max_retries=0) as client:
        yield client


@pytest.fixture
async def async_client(api_stack: Stack, key: str):
    async with AsyncOpenAI(base_url=f"{api_stack.url}/v1", api_key=key, max_retries=0) as client:
        yield client
