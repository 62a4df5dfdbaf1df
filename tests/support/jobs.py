"""Jobs that tests run themselves, against their own hub."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import pytest

from chatsite.celery import app as celery
from models_admin.jobs import run, states
from models_admin.jobs.requests import Download
from models_admin.models import Job, ModelName
from models_admin.sources import transfer
from models_admin.store import partial
from tests.support.gguf import gguf
from tests.support.hub import Hub, serve

# A header and several pieces: large weights arrive in the browser's tests.
PIECE = 1 << 16
CONTENT = gguf(fill=b"\7", tensors=(("output.weight", 10 * PIECE + 4096),))
DIGEST = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def hub(settings: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    monkeypatch.setattr(partial, "PIECE_BYTES", PIECE)
    monkeypatch.setattr(transfer, "PAUSES", (0.01, 0.01, 0.01))
    monkeypatch.setattr(transfer, "STALL_SECONDS", 0.5)
    with serve() as hub:
        settings.ENV = settings.ENV.model_copy(
            update={
                "ollama_registry": hub.address,
                "hf_endpoint": hub.address,
                "hf_token": "mine",
                # Their files have only headers.
                "backend": "scripted",
            }
        )
        hub.publish("tiny", "1b", CONTENT)
        yield hub


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the hints to workers; no worker runs, the tests do its work."""
    hints: list[str] = []
    monkeypatch.setattr(celery, "send_task", lambda _name, args, **_options: hints.append(args[0]))
    return hints


def ask(name: str = "tiny:1b", **options: Any) -> Job:
    return states.ask(Download(name), name, **options)[0]


def done(job: Job) -> Job:
    ended = run.run(job.pk)
    assert ended is not None
    return ended


def said(job: Job) -> list[str]:
    return [line.code for line in job.lines.all()]


def whole() -> bool:
    model = ModelName.objects.get(name="tiny:1b")
    return model.version.path.read_bytes() == CONTENT


def partial_bytes() -> int:
    with partial.hold(DIGEST, len(CONTENT)) as file:
        arrived = file.arrived
        # Kept: leaving the block would delete it.
        file.remove = lambda: None  # type: ignore[method-assign]
        file.save()
    return arrived
