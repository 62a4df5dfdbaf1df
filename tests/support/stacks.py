"""Fixtures of the running product, one per test module."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.stack import Stack


def _run(folder: Path, model: Path, **env: str) -> Iterator[Stack]:
    stack = Stack(folder, **env)
    try:
        stack.prepare(model)
        stack.start()
        yield stack
    finally:
        stack.discard()


@pytest.fixture(scope="module")
def stack(starter_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Yield a stack in which everything is real: the starter model answers."""
    yield from _run(tmp_path_factory.mktemp("stack"), starter_model)


@pytest.fixture(scope="module")
def scripted_stack(
    starter_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stack]:
    """Yield a stack in which only llama.cpp is replaced: a scripted backend answers."""
    yield from _run(
        tmp_path_factory.mktemp("scripted"),
        starter_model,
        CHATSITE_BACKEND="scripted",
        CHATSITE_MEMORY_MB="4096",
    )


@pytest.fixture
def fresh_scripted_stack(starter_model: Path, tmp_path: Path) -> Iterator[Stack]:
    """Yield a stack for one test, which may leave it in a bad state."""
    yield from _run(tmp_path, starter_model, CHATSITE_BACKEND="scripted")
