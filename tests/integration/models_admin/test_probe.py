"""Files are test-loaded in a child before they become models; broken ones are refused."""

from __future__ import annotations

import asyncio
import io
import random
from pathlib import Path

import pytest

from chatsite.engine.load_test import CheckFailed, check
from models_admin.gguf import header
from models_admin.jobs import load_test
from models_admin.store.versions import ImportRefused
from tests.support import tiny_model

MUTANTS = 200
TOGETHER = 4


@pytest.fixture
def llama(settings) -> None:
    settings.ENV = settings.ENV.model_copy(update={"backend": "llama"})


def test_a_complete_model_is_accepted(tmp_path, llama):
    assert load_test.check(tiny_model.write(tmp_path / "model"))


def test_a_file_that_llama_cpp_can_not_load_is_refused_with_its_reason(tmp_path, llama):
    head = tiny_model.header().replace(b"ffn_gate", b"ffn_gaze")
    path = tmp_path / "model"
    path.write_bytes(head + tiny_model.weights())
    with pytest.raises(ImportRefused, match=r"blk\.0\.ffn_gate\.weight"):
        load_test.check(path)
    with pytest.raises(ImportRefused, match="not a GGUF file"):
        load_test.check(Path(__file__))


async def test_a_child_that_dies_is_a_reason(tmp_path):
    """A vocabulary without words makes llama.cpp abort."""
    head = tiny_model.header()
    path = tmp_path / "model"
    path.write_bytes(_without_words(head) + tiny_model.weights())
    with pytest.raises(CheckFailed, match=r"killed by SIGABRT: .*GGML_ASSERT"):
        await check(path)


async def test_weights_that_do_not_fit_memory_are_not_read(tmp_path):
    found = await check(tiny_model.write(tmp_path / "model"), compute=False)
    assert (found.architecture, found.generates) == ("llama", True)


async def test_a_child_that_does_not_answer_is_ended(tmp_path):
    with pytest.raises(CheckFailed, match="no answer"):
        await check(tiny_model.write(tmp_path / "model"), seconds=0.01)


async def test_two_hundred_mutated_headers(tmp_path):
    """Each loads, or is refused by the reader or by a child, with a reason."""
    source = random.Random(20)
    head, weights = tiny_model.header(), tiny_model.weights()
    refused: list[str] = []
    readable: list[Path] = []
    for number in range(MUTANTS):
        data = _mutant(head, source) + weights
        try:
            header.check_model(io.BytesIO(data), len(data))
        except header.BadGGUF as error:
            refused.append(str(error))
        else:
            readable.append(tmp_path / str(number))
            readable[-1].write_bytes(data)
    assert all(refused)
    assert 20 <= len(readable) <= 40
    gate = asyncio.Semaphore(TOGETHER)

    async def outcome(path: Path) -> str:
        async with gate:
            try:
                return (await check(path, seconds=15)).architecture
            except CheckFailed as error:
                return str(error)

    found = await asyncio.gather(*map(outcome, readable))
    assert all(found)
    assert not [reason for reason in found if "no answer" in reason or "nonsense" in reason]
    assert len({reason for reason in found if "can't load" in reason}) >= 5


def _without_words(head: bytes) -> bytes:
    """Replace the tokenizer by `none`, whose name is one letter shorter."""
    key = b"tokenizer.ggml.model"
    at = head.index(key) + len(key) + 4
    was = head[at : at + 13]
    assert was == b"\x05\0\0\0\0\0\0\0llama"
    changed = head[:at] + b"\x04\0\0\0\0\0\0\0none" + head[at + 13 :]
    changed = changed.rstrip(b"\0")
    return changed + b"\0" * (len(head) - len(changed))


def _mutant(head: bytes, source: random.Random) -> bytes:
    data = bytearray(head)
    at = source.randrange(len(data) - 32)
    match source.randrange(8):
        case 0:
            for _ in range(source.randrange(1, 4)):
                data[source.randrange(len(data))] ^= 1 << source.randrange(8)
        case 1:
            extremes = [b"\xff" * 8, b"\0" * 8, b"\0\0\0\0\1\0\0\0", b"\xff\xff\xff\x7f\0\0\0\0"]
            data[at : at + 8] = source.choice(extremes)
        case 2:
            del data[at : at + source.randrange(1, 32)]
        case 3:
            data[at:at] = source.randbytes(source.randrange(1, 64))
        case 4:
            data[at : at + 32] = source.randbytes(32)
        case _:
            del data[at:]
    return bytes(data)
