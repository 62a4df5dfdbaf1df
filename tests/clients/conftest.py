"""Official clients against the running product with scripted answers."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from openai import AsyncOpenAI, OpenAI

from tests.support.stack import Stack

# LangChain's standard tests of other models: vision, audio, spontaneous tool calls, recordings.
_OF_OTHER_MODELS = re.compile(
    "test_(tool|structured|unicode|agent|bind|image|audio|pdf|anthropic|json_mode|stream_time)"
)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect the standard tests that do not apply to a scripted model."""
    left_out = [
        item
        for item in items
        if item.path.name == "test_langchain.py"
        and item.parent is not None
        and isinstance(item.parent, pytest.Class)
        and _OF_OTHER_MODELS.match(item.name)
    ]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


@pytest.fixture(scope="session")
def api_stack(starter_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Yield one product for all client tests."""
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
        stack.discard()


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
async def async_client(api_stack: Stack, key: str) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=f"{api_stack.url}/v1", api_key=key, max_retries=0) as client:
        yield client
