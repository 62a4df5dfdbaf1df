"""Downloads over real connections that are cut, resumed, stalled and sent wrong data."""

from __future__ import annotations

import fcntl
import hashlib
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from asgiref.sync import async_to_sync
from django.utils import timezone

from chatsite.accounts.models import User
from chatsite.api.ollama import jobs, pull
from models_admin.config import custom
from models_admin.jobs import job_log, states
from models_admin.jobs.requests import Download
from models_admin.models import Job, JobState, ModelName, ModelVersion
from models_admin.sources import updates
from models_admin.store import disk, partial, versions
from tests.support.gguf import gguf, split_gguf
from tests.support.hub import Hub, names_in
from tests.support.jobs import CONTENT, DIGEST, PIECE, ask, done, partial_bytes, said, whole

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("data_dir", "redis_url", "sent"),
]


def test_a_model_arrives_in_parts_over_several_connections(hub: Hub):
    hub.pace = 0.0005
    job = done(ask())
    assert (job.state, job.error) == (JobState.DONE, {})
    assert whole()
    assert names_in(disk.folder()) == {f"sha256-{DIGEST}"}
    assert hub.most_at_once > 1
    starts = sorted(int(part[6:].partition("-")[0]) for part in hub.parts_asked() if part)
    assert starts == list(range(0, len(CONTENT), PIECE))
    assert said(job) == ["asked", "started", "found", "verified", "installed"]
    assert all(job_log.text(line) for line in job.lines.all())


@pytest.mark.parametrize("name", ["tiny:1b", "hf.co/org/tiny:1b"])
def test_both_kinds_of_source(hub: Hub, name):
    hub.needs_token = True
    assert done(ask(name)).state == JobState.DONE
    tokens = {path.partition("?")[0]: token for path, _range, token in hub.asked}
    # The hub's token stays with the hub, whose content has the same origin here.
    assert {*tokens.values()} - {None} == (
        {"Bearer given"} if name == "tiny:1b" else {"Bearer mine"}
    )


@pytest.mark.parametrize(
    "faults",
    [
        ["cut", "busy", "cut"],
        ["busy"],
        ["stall"],
        ["", "stall", "cut"],
        ["expired"],
        ["", "", "expired"],
        ["", "", "", "cut"],
    ],
    ids="-".join,
)
def test_a_broken_download_resumes_where_it_ended(hub: Hub, faults):
    hub.faults[:] = faults
    job = done(ask())
    assert (job.state, job.error) == (JobState.DONE, {})
    assert whole()
    assert len(hub.parts_asked()) <= len(CONTENT) // PIECE + 1 + 2 * len(faults)


@pytest.mark.parametrize("fault", ["wrong_content", "wrong_range", "longer"])
def test_content_that_was_not_published_gets_no_name(hub: Hub, fault):
    hub.faults[:] = [fault]
    hub.ranges = fault != "longer"
    job = done(ask())
    assert job.state == JobState.FAILED
    assert job.error["code"] == "transfer_refused"
    assert not ModelName.objects.exists()
    assert not [name for name in names_in(disk.folder()) if name.startswith("sha256-")]
    # Resume from a source without faults: all content is correct.
    states.resume(job.pk)
    hub.ranges = True
    assert done(job).state == JobState.DONE
    assert whole()


def test_a_source_that_gives_files_only_whole(hub: Hub):
    hub.ranges = False
    hub.faults[:] = ["cut"]
    job = done(ask())
    assert job.state == JobState.DONE
    assert whole()
    assert {"single", "unlike"} <= set(said(job))


def test_a_file_that_changes_meanwhile_is_downloaded_from_the_start(hub: Hub):
    hub.faults[:] = ["", "", "cut"] + ["busy"] * 40
    job = done(ask())
    assert job.state == JobState.QUEUED
    assert 0 < partial_bytes() < len(CONTENT)
    hub.tag = '"two"'
    hub.faults.clear()
    states.resume(job.pk)
    job = done(job)
    assert job.state == JobState.DONE
    assert whole()
    assert "unlike" in said(job)


def test_a_missing_model_is_reported(hub: Hub):
    job = done(ask("tiny:9b"))
    assert (job.state, job.error["code"]) == (JobState.FAILED, "source_not_found")


def test_stored_content_is_not_downloaded_again(hub: Hub):
    done(ask())
    hub.asked.clear()
    job = done(states.ask(Download("hf.co/org/tiny:1b"), "again:1")[0])
    assert job.state == JobState.DONE
    assert hub.parts_asked() == []
    assert "present" in said(job)


def test_a_file_that_another_process_writes_is_waited_for(hub: Hub):
    partial.folder()
    with (partial.folder() / f"{DIGEST}.part").open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        job = done(ask())
    assert (job.state, job.error["code"]) == (JobState.QUEUED, "partial_busy")


def test_a_full_disk_is_reported_before_the_download(hub: Hub, monkeypatch):
    monkeypatch.setattr(disk, "RESERVE", 1 << 60)
    job = done(ask())
    assert job.error["code"] == "disk_full"
    assert hub.parts_asked() == []
    assert names_in(disk.folder()) == set()


def test_a_new_version_is_switched_to_and_back(hub: Hub):
    done(ask())
    newer = gguf(fill=b"\5", tensors=(("output.weight", 2 * PIECE),))
    digest = hub.publish("tiny", "1b", newer)
    assert "switched" in said(done(ask()))
    model = ModelName.objects.get(name="tiny:1b")
    assert (model.version_id, model.previous_id) == (digest, DIGEST)
    assert versions.rollback("tiny:1b").version_id == DIGEST
    newest = gguf(fill=b"\6", tensors=(("output.weight", PIECE),))
    hub.publish("tiny", "1b", newest)
    done(ask())
    # One earlier version is kept; older ones are deleted with their files.
    assert set(ModelVersion.objects.values_list("digest", flat=True)) == {
        DIGEST,
        hashlib.sha256(newest).hexdigest(),
    }
    assert len(names_in(disk.folder())) == 2


def test_the_sources_parameters_become_the_models_configuration(hub: Hub):
    plain = gguf(fill=b"\3", tensors=(("output.weight", PIECE),))
    hub.publish(
        "told",
        "1b",
        plain,
        system=b"Be brief.",
        params=b'{"temperature": 0.3, "stop": ["<|end|>"], "top_k": "many"}',
        license=b"MIT",
        messages=b'[{"role": "evil", "content": "Ha."}]',
        template=b"{{ .System }}{{ .Prompt }}{{ .Response }}",
        projector=b"eyes",
    )
    job = done(ask("told:1b"))
    assert job.state == JobState.DONE
    made = custom.configuration("told:1b")
    assert (made.system, made.licenses) == ("Be brief.", ("MIT",))
    assert made.parameters == {"temperature": 0.3, "stop": ["<|end|>"]}
    assert made.template.startswith("{{ .System }}")
    assert made.messages == ()
    assert [line.values["part"] for line in job.lines.filter(code="left_out")] == [
        "projector",
        "top_k",
        "messages",
    ]


@pytest.mark.parametrize(
    "location",
    ["http://169.254.169.254/latest/meta-data", "file:///etc/passwd", "https://127.0.0.1/x"],
)
def test_a_source_that_redirects_to_an_internal_address_is_refused(hub: Hub, location, caplog):
    hub.location = location
    job = done(ask("hf.co/org/tiny:1b"))
    assert (job.state, job.error["code"]) == (JobState.FAILED, "fetch_refused")
    assert "Outgoing request refused" in caplog.text
    assert not ModelName.objects.exists()


def test_a_split_model_becomes_one_file(hub: Hub):
    tensors = [(f"blk.{n}.weight", bytes([n]) * 40_000) for n in range(3)]
    for number, part in enumerate(([], tensors[:2], tensors[2:])):
        content = split_gguf(part, part=number, parts=3, first=number == 0)
        hub.publish("split", f"Q8_0-0000{number + 1}-of-00003", content)
    job = done(ask("hf.co/org/split:Q8_0"))
    assert (job.state, job.error) == (JobState.DONE, {})
    model = ModelName.objects.get(name="hf.co/org/split:Q8_0")
    assert model.version.path.read_bytes() == split_gguf(tensors)
    assert names_in(disk.folder()) == {model.version.path.name}
    assert not model.has_update
    assert updates.check([model]) == ([], [])
    hub.publish("split", "Q8_0-00002-of-00003", split_gguf([], part=1, parts=3, first=False))
    assert updates.check([model]) == ([model], [])


def test_concurrent_connections_write_the_journal_safely(hub: Hub):
    with (
        partial.hold("ab" * 32, 1 << 20) as file,
        ThreadPoolExecutor(4, thread_name_prefix="transfer") as pool,
    ):
        saved = [pool.submit(file.save) for _one in range(100)]
        assert [one.exception() for one in saved] == [None] * 100


def statuses(job: Job) -> list[str]:
    """Return the status lines that a client of Ollama's API receives."""

    async def read() -> list[str]:
        return [step["status"] async for step in pull.statuses(job)]

    return async_to_sync(read)()


def test_d6_a_pull_that_can_not_reach_its_source_ends_with_the_reason(hub: Hub, settings):
    away = {"ollama_registry": "http://127.0.0.1:9"}
    settings.ENV = settings.ENV.model_copy(update=away)
    job = done(pull.asked("tiny:1b", User.objects.create_user("ann")))
    assert job.state == JobState.QUEUED
    with pytest.raises(pull.PullFailed) as failed:
        statuses(job)
    assert str(failed.value).startswith("pull model manifest: ")
    assert "no connection to 127.0.0.1" in str(failed.value)
    assert "will retry automatically" in str(failed.value)


def test_d6_pulling_again_retries_immediately(hub: Hub, settings):
    ann = User.objects.create_user("ann")
    reachable = settings.ENV
    away = {"ollama_registry": "http://127.0.0.1:9"}
    settings.ENV = settings.ENV.model_copy(update=away)
    job = done(pull.asked("tiny:1b", ann))
    settings.ENV = reachable
    again = pull.asked("tiny:1b", ann)
    assert (again.pk, again.not_before) == (job.pk, None)
    assert statuses(done(again))[-1] == "success"


def test_d6_an_installed_model_whose_source_is_unreachable(hub: Hub, settings):
    ann = User.objects.create_user("ann")
    done(pull.asked("tiny:1b", ann))
    settings.ENV = settings.ENV.model_copy(update={"ollama_registry": "http://127.0.0.1:9"})
    job = done(pull.asked("tiny:1b", ann))
    with pytest.raises(pull.PullFailed):
        statuses(job)
    assert whole()


def test_d6_a_download_that_broke_off_in_the_middle_is_waited_for():
    soon = timezone.now() + timedelta(seconds=30)
    error = {"code": "fetch_failed", "message": "It broke off."}
    broken = Job(state=JobState.QUEUED, not_before=soon, error=error, failures=1, done=10)
    assert not jobs.is_put_off(broken)
    broken.failures = 2
    assert jobs.is_put_off(broken)
