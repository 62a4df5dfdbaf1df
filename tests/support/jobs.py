"""Jobs that tests do themselves, against a hub of their own."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from chatsite.celery import app as celery
from models_admin import partial, transfer
from models_admin.jobs import run, states
from models_admin.models import Job, JobKind, ModelName
from tests.support.gguf import gguf
from tests.support.hub import serve

# The real weights where `make test` names them, else a header with as many pieces behind it.
_model = os.environ.get("CHATSITE_TEST_MODEL")
PIECE = 8 << 20 if _model else 1 << 16
CONTENT = (
    Path(_model).read_bytes()
    if _model
    else gguf(fill=b"\7", tensors=(("output.weight", 10 * PIECE + 4096),))
)
DIGEST = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def hub(settings, monkeypatch):
    monkeypatch.setattr(partial, "PIECE_BYTES", PIECE)
    monkeypatch.setattr(transfer, "PAUSES", (0.01, 0.01, 0.01))
    monkeypatch.setattr(transfer, "STALL_SECONDS", 0.5)
    with serve() as hub:
        settings.ENV = settings.ENV.model_copy(
            update={
                "ollama_registry": hub.address,
                "hf_endpoint": hub.address,
                "hf_token": "mine",
                # Their files have headers alone.
                "backend": "scripted",
            }
        )
        hub.publish("tiny", "1b", CONTENT)
        yield hub


@pytest.fixture
def sent(monkeypatch):
    """The hints to workers: there is none here, the tests do its work themselves."""
    hints: list[str] = []
    monkeypatch.setattr(celery, "send_task", lambda _name, args, **_options: hints.append(args[0]))
    return hints


def ask(name: str = "tiny:1b", **options) -> Job:
    return states.ask(JobKind.DOWNLOAD, name, name, **options)[0]


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
        # Left as it is: the end of the block would remove it.
        file.remove = lambda: None  # type: ignore[method-assign]
        file.save()
    return arrived
