"""Job requests as stored, and the rows of the previous release."""

from __future__ import annotations

import importlib
from typing import Any
from uuid import UUID

import pytest
from django.apps import apps
from django.db import connection

from models_admin.config.custom import Configuration
from models_admin.jobs import cleaning, requests, states
from models_admin.models import Job, JobKind, JobState
from models_admin.store import disk

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("data_dir", "redis_url", "sent"),
]
migration = importlib.import_module("models_admin.migrations.0008_tagged_job_requests")

ID = UUID("0b5a3e44-96f5-4b7e-8c07-0d6a3a2a3f10")
ONE, TWO = "ab" * 32, "cd" * 32
ADDRESS = f"https://example.org/a.gguf#sha256={ONE}"
BRIEF = Configuration(parent="a:1", parameters={"top_k": 3}, messages=(("user", "Hi."),))
TOLD = {"parent": "a:1", "parameters": {"top_k": 3}, "messages": [["user", "Hi."]]}

EVERY = [
    requests.Download("hf.co/o/r:Q4_K_M"),
    requests.ImportFile("a.gguf", available=False),
    requests.ImportUpload(ID, "a.gguf"),
    requests.CreateModel((ONE, TWO), BRIEF, "Q8_0"),
    requests.Quantize("a:1", "Q4_0", BRIEF),
    requests.Quantize("a:1", "Q4_0"),
    requests.Export(("a:1", "b:1")),
]
# Kind, source and options as stored by commit 3d4959b, the request they mean, and its text for
# users.
STORED: list[tuple[str, str, dict[str, Any], requests.AnyRequest, str]] = [
    ("download", "tiny:1b", {}, requests.Download("tiny:1b"), "tiny:1b"),
    ("download", ADDRESS, {"digests": [ONE]}, requests.Download(ADDRESS), ADDRESS),
    ("import", "file:a: b.gguf", {}, requests.ImportFile("a: b.gguf"), "a: b.gguf"),
    ("import", "file:a", {"hidden": True}, requests.ImportFile("a", available=False), "a"),
    (
        "import",
        f"upload:{ID}",
        {"file": "Own.gguf"},
        requests.ImportUpload(ID, "Own.gguf"),
        "Own.gguf",
    ),
    (
        "import",
        f"blob:{ONE}",
        {"files": [ONE, TWO], "configuration": TOLD, "kind": ""},
        requests.CreateModel((ONE, TWO), BRIEF),
        f"sha256:{ONE[:12]}, sha256:{TWO[:12]}",
    ),
    ("quantize", "a:1", {"kind": "Q4_0"}, requests.Quantize("a:1", "Q4_0"), "a:1"),
    (
        "quantize",
        "a:1",
        {"kind": "Q4_0", "configuration": TOLD},
        requests.Quantize("a:1", "Q4_0", BRIEF),
        "a:1",
    ),
    ("export", "a:1, b:1", {"names": ["a:1", "b:1"]}, requests.Export(("a:1", "b:1")), "a:1, b:1"),
]


@pytest.mark.parametrize("request_", EVERY, ids=lambda one: type(one).__name__)
def test_a_request_is_stored_and_decoded_unchanged(request_):
    job, new = states.ask(request_, "made:1")
    assert new
    job.refresh_from_db()
    assert requests.of(job) == request_
    assert (job.kind, job.source) == (request_.kind, request_.source_text)
    assert states.ask(request_, "MADE:1") == (job, False)


def test_every_kind_of_job_has_a_request():
    assert {one.kind for one in EVERY} == set(JobKind)
    assert {type(one) for one in EVERY} == set(requests.JobRequest.__subclasses__())


@pytest.mark.parametrize(
    ("kind", "source", "options", "wanted", "shown"), STORED, ids=lambda one: str(one)[:20]
)
def test_rows_of_the_previous_release_are_converted(kind, source, options, wanted, shown):
    job = Job.objects.create(kind=kind, target="made:1", source=source, options=options)
    with connection.schema_editor() as editor:
        migration.convert(apps, editor)
    job.refresh_from_db()
    assert (requests.of(job), job.source) == (wanted, shown)
    assert job.partial_files == options.get("digests", [])
    assert set(job.options) == set(requests.encode(wanted))


def test_files_of_open_jobs_are_kept_whatever_their_kind():
    kept = [disk.folder() / "partial" / f"{ONE}.part", disk.folder() / "partial" / f"{TWO}.part"]
    for file in kept:
        file.parent.mkdir(exist_ok=True)
        file.touch()
    job = states.claim(states.ask(requests.Download("a:1"), "a:1")[0].pk)
    assert job
    states.own_partial_files(job, [ONE])
    assert cleaning.clean() == [f"{TWO}.part"]
    assert states.ask(requests.Download("a:1"), "a:1") == (job, False)
    states.finish(job, JobState.CANCELLED)
    assert cleaning.clean() == [f"{ONE}.part"]
