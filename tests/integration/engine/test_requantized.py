"""A real copy with faster weights answers like its file."""

from __future__ import annotations

import asyncio

import pytest

from chatsite.engine.client import EngineClient
from chatsite.engine.contract.messages import (
    ChatMessage,
    Finished,
    Generate,
    Load,
    SamplingParams,
    Step,
)
from chatsite.engine.contract.tuning import Tuning
from chatsite.engine.tuning.requantized import Copy

FILE = Tuning(use_extra_bufts=False, flash_attention=False, threads=1)
TEXT = "Write a long story about a sailor, a storm and a lighthouse."
TOKENS = 48


async def written(path: str) -> tuple[list[int], list[dict[int, float]]]:
    """Return the answer's tokens, and the log probabilities of the ten likeliest per place."""
    client = EngineClient("x")
    await client.start(Load("x", path, FILE, 512, 2, 200))
    params = SamplingParams(temperature=0.0, max_tokens=TOKENS, top_logprobs=10)
    try:
        await client.send(Generate("r", "o", (ChatMessage("user", TEXT),), params))
        tokens, odds = [], []
        async for frame in client:
            match frame:
                case Step(deltas):
                    for one in (one for delta in deltas for one in delta.logprobs):
                        tokens.append(one.token)
                        odds.append({token: logprob for token, _, logprob in one.top})
                case Finished():
                    return tokens, odds
        raise AssertionError("the child ended")
    finally:
        await client.stop()


async def test_a_copy_has_the_log_probabilities_of_its_file(starter_model, tmp_path):
    copy = Copy(tmp_path / "copies", "d")
    assert await copy.make(starter_model, 2) == ""
    assert [path.name for path in copy.folder.iterdir()] == ["d-Q8_0.gguf"]
    assert copy.path.stat().st_mode & 0o077 == 0
    tokens, odds = await written(str(starter_model))
    copied_tokens, copied_odds = await written(str(copy.path))
    pairs = zip(tokens, copied_tokens, strict=True)
    same = next((at for at, (a, b) in enumerate(pairs) if a != b), TOKENS)
    assert same >= 5
    # As long as both texts agree, the log probabilities differ only by rounding.
    apart = [
        abs(a[token] - b[token])
        for a, b in zip(odds[:same], copied_odds[:same], strict=True)
        for token in a.keys() & b.keys()
    ]
    assert len(apart) >= 8 * same
    assert sum(apart) / len(apart) < 0.25


async def test_an_invalid_model_leaves_no_copy(tmp_path):
    source = tmp_path / "junk.gguf"
    source.write_bytes(b"GGUF" + b"\xff" * 4096)
    copy = Copy(tmp_path / "copies", "d")
    assert await copy.make(source, 1)
    assert list(copy.folder.iterdir()) == []


async def test_a_copy_that_is_not_waited_for_is_not_left_behind(starter_model, tmp_path):
    copy = Copy(tmp_path / "copies", "d")
    making = asyncio.create_task(copy.make(starter_model, 1))
    part = copy.path.with_suffix(".part")
    while not part.exists():
        await asyncio.sleep(0.01)
    making.cancel()
    with pytest.raises(asyncio.CancelledError):
        await making
    assert list(copy.folder.iterdir()) == []
