"""Helpers for tests that talk to engine children."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

from chatsite.engine.client import EngineClient
from chatsite.engine.contract.messages import (
    ChatMessage,
    Embed,
    Embedded,
    Failed,
    Finished,
    Generate,
    Load,
    Step,
)
from chatsite.engine.contract.tuning import Tuning

PLAIN = Tuning(use_extra_bufts=False, flash_attention=False, threads=1)
MakeClient = Callable[..., Awaitable[EngineClient]]


def load(path: str = "/nowhere", slots: int = 4, context: int = 512) -> Load:
    return Load("scripted", path, PLAIN, context=context, slots=slots, step_target_ms=200)


def ask(id: str, text: str, owner: str = "ann", **options: object) -> Generate:
    return Generate(id, owner, (ChatMessage("user", text),), **options)  # type: ignore[arg-type]


def of_process(client: EngineClient, name: str) -> str:
    return Path(f"/proc/{client.pid}/{name}").read_text()


async def answer(client: EngineClient, id: str) -> tuple[str, Finished | Failed | None]:
    """Return the text and the end of a request; None as the end if the child ended first."""
    text = ""
    async for frame in client:
        match frame:
            case Step(deltas):
                text += "".join(delta.text for delta in deltas if delta.id == id)
            case Finished() | Failed() if frame.id == id:
                return text, frame
    return text, None


async def vectors(client: EngineClient, request: Embed) -> Embedded | Failed | None:
    await client.send(request)
    async for frame in client:
        match frame:
            case Embedded() | Failed():
                return frame
            case _:
                pass
    return None
