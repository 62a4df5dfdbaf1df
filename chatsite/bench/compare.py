"""The site's API and a llama-server on the same file, in turn, with the same load."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from asgiref.sync import sync_to_async

from chatsite.accounts import keys
from chatsite.accounts.models import User
from chatsite.bench import load
from chatsite.bench.api import chat_completions, llama_server
from chatsite.bench.load import Shape
from chatsite.inference.assemble import resolve

# Both directions read as "times better" than 1.
_HIGHER = ("tokens_per_s",)
_LOWER = ("ttft_p50_ms", "ttft_p95_ms", "gap_max_ms")


@sync_to_async
def new_key() -> tuple[User, str]:
    """A person for the time of a measurement, whom the caller deletes, and a key of theirs."""
    user = User(username=f"bench-{secrets.token_hex(4)}")
    user.set_unusable_password()
    user.save()
    return user, keys.create(user, name="bench", days=1)[1]


async def compare(
    url: str, model: str, shapes: Sequence[Shape], runs: int, program: Path, flags: Sequence[str]
) -> list[dict[str, Any]]:
    """Medians of ``runs`` for each shape: ``site``, ``peer``, and ``ratios`` (site / peer) of
    what was measured pair by pair."""
    spec = await resolve(model)
    user, key = await new_key()
    try:
        return [
            await _compare_one(url, model, key, shape, runs, program, spec.path, flags)
            for shape in shapes
        ]
    finally:
        await user.adelete()


async def _compare_one(
    url: str,
    model: str,
    key: str,
    shape: Shape,
    runs: int,
    program: Path,
    path: Path,
    flags: Sequence[str],
) -> dict[str, Any]:
    site: list[dict[str, Any]] = []
    peer: list[dict[str, Any]] = []
    warm = Shape(1, turns=1, words=5, tokens=4, think=0)
    for seed in range(runs):
        async with chat_completions(url, model, shape, key=key) as turn:
            await load.run(warm, turn, seed=-1)
            site.append((await load.run(shape, turn, seed)).summary())
        with llama_server(program, path, flags) as address:
            async with chat_completions(address, model, shape) as turn:
                await load.run(warm, turn, seed=-1)
                peer.append((await load.run(shape, turn, seed)).summary())
        await asyncio.sleep(1)
    pairs = [
        {name: round(ours[name] / (theirs[name] or 1), 3) for name in (*_HIGHER, *_LOWER)}
        for ours, theirs in zip(site, peer, strict=True)
    ]
    return {
        "users": shape.users,
        "runs": runs,
        "site": load.median(site),
        "peer": load.median(peer),
        "ratios": load.median(pairs),
        "pairs": pairs,
    }
