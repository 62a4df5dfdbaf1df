"""The life of a job: asked for, joined, paused, cancelled, taken over, given up."""

from __future__ import annotations

import threading
import time
from datetime import timedelta
from unittest.mock import Mock

import pytest
from django.db import InterfaceError, connections
from django.utils import timezone

from chatsite.errors import ChatsiteError
from models_admin import disk
from models_admin.jobs import asking, cleaning, control, run, states
from models_admin.live import snapshot
from models_admin.models import Job, JobKind, JobState
from tests.support.hub import Hub, names_in
from tests.support.jobs import CONTENT, ask, done, partial_bytes, said, whole
from tests.support.races import at_once, on_postgresql

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("data_dir", "redis_url", "sent"),
]


def test_a_source_that_is_down_is_asked_again_later(hub: Hub, sent):
    hub.faults[:] = ["busy"] * 8
    job = done(ask())
    assert job.state == JobState.QUEUED
    assert job.error["code"] == "fetch_failed"
    assert job.not_before is not None
    assert job.not_before > timezone.now()
    assert run.run(job.pk) is None  # not due
    Job.objects.update(not_before=timezone.now())
    sent.clear()
    hub.faults.clear()
    states.sweep()
    assert sent == [str(job.pk)]
    assert done(job).state == JobState.DONE


def test_it_is_given_up_in_the_end(hub: Hub):
    hub.faults[:] = ["busy"] * 1000
    job = ask()
    for _try in range(8):
        Job.objects.update(not_before=None)
        job = done(job)
    assert job.state == JobState.FAILED
    assert "429" in job.error["message"]


def test_two_who_ask_for_one_model_have_one_job(hub: Hub, django_user_model):
    first = ask(by=django_user_model.objects.create(username="ann"))
    second, new = states.ask(
        JobKind.DOWNLOAD, "TINY:1b", "tiny:1b", by=django_user_model.objects.create(username="bo")
    )
    assert (second, new) == (first, False)
    assert said(first) == ["asked", "joined"]
    with pytest.raises(states.JobRefused, match="something else"):
        states.ask(JobKind.DOWNLOAD, "tiny:1b", "hf.co/org/tiny:1b")


def while_it_runs(hub: Hub, job: Job) -> threading.Thread:
    """The work in a thread, once some of it has arrived."""
    hub.pace = 0.2

    def work() -> None:
        run.run(job.pk)
        connections.close_all()  # PostgreSQL drops no database that a thread still has open

    worker = threading.Thread(target=work)
    worker.start()
    for _wait in range(200):
        if hub.parts_asked():
            break
        time.sleep(0.02)
    return worker


def test_pause_and_go_on(hub: Hub):
    job = ask()
    worker = while_it_runs(hub, job)
    states.pause(job.pk)
    worker.join(10)
    job.refresh_from_db()
    assert (job.state, job.lease_until) == (JobState.PAUSED, None)
    assert cleaning.clean() == []  # it belongs to a job
    arrived = partial_bytes()
    assert 0 < arrived < len(CONTENT)
    hub.pace = 0
    hub.asked.clear()
    states.resume(job.pk)
    job = done(job)
    assert job.state == JobState.DONE
    assert "resumed" in said(job)
    assert whole()


def test_cancel_leaves_nothing_behind(hub: Hub):
    job = ask()
    worker = while_it_runs(hub, job)
    states.cancel(job.pk)
    worker.join(10)
    job.refresh_from_db()
    assert job.state == JobState.CANCELLED
    assert names_in(disk.folder()) == set()
    with pytest.raises(states.JobRefused):
        states.pause(job.pk)


def test_a_job_of_a_dead_worker_is_taken_up_and_a_late_one_writes_nothing(hub: Hub, sent):
    job = ask()
    taken = states.claim(job.pk)
    assert taken is not None
    assert states.claim(job.pk) is None
    states.sweep()
    assert states.claim(job.pk) is None  # its worker, this process, lives
    Job.objects.update(worker="elsewhere:1:0", lease_until=timezone.now() - timedelta(seconds=1))
    sent.clear()
    states.sweep()
    assert str(job.pk) in sent
    assert done(job).state == JobState.DONE
    assert not states.finish(taken, JobState.FAILED)
    assert states.beat(taken, stage="", done=0, total=0) is None
    job.refresh_from_db()
    assert job.state == JobState.DONE


def test_a_pause_that_comes_as_the_work_fails_is_not_lost(hub: Hub):
    job = states.claim(ask().pk)
    assert job
    states.pause(job.pk)
    assert not states.put_off(job, 60, failures=1, error={})
    Job.objects.update(lease_until=timezone.now())
    states.sweep()
    job.refresh_from_db()
    assert (job.state, job.wanted) == (JobState.PAUSED, "")


def test_more_jobs_than_are_shown_besides(hub: Hub):
    for number in range(snapshot._SHOWN + 1):
        ask(f"tiny:{number}")
    assert len(snapshot.jobs()) == snapshot._SHOWN + 1


def test_the_lease_is_kept_when_the_database_was_away(hub: Hub, monkeypatch):
    job = states.claim(ask().pk)
    assert job
    watched = control.Control(job)
    monkeypatch.setattr(states, "beat", Mock(side_effect=InterfaceError))
    watched._beat()
    monkeypatch.undo()
    watched._beat()
    assert not watched.leaving.is_set()


@pytest.mark.parametrize(
    "address", ["https://x:y/a.gguf", "https://x/\x00.gguf", f"https://x/{'y' * 1000}.gguf"]
)
def test_an_address_that_is_none_is_refused_at_once(hub: Hub, address):
    with pytest.raises(ChatsiteError):
        asking.download(address, "any")
    assert not Job.objects.exists()


def test_a_job_that_ends_its_worker_each_time_is_given_up(hub: Hub):
    job = ask()
    for _death in range(11):
        assert states.claim(job.pk)
        Job.objects.update(lease_until=timezone.now() - timedelta(seconds=1))
        states.sweep()
    job.refresh_from_db()
    assert (job.state, job.error["code"], job.attempt) == (JobState.FAILED, "worker_died", 11)


def test_no_more_run_at_once_than_may(hub: Hub, settings):
    settings.ENV = settings.ENV.model_copy(update={"jobs": 1})
    first, second = ask("tiny:1b"), ask("hf.co/org/tiny:1b")
    assert states.claim(first.pk)
    assert states.claim(second.pk) is None


@on_postgresql
def test_no_more_are_claimed_at_once_than_may_run(hub: Hub, settings):
    settings.ENV = settings.ENV.model_copy(update={"jobs": 2})
    asked = [ask(f"hf.co/org/tiny:{number}") for number in range(6)]
    found = at_once(6, lambda number: states.claim(asked[number].pk))
    assert len([job for job in found if job is not None]) == 2


@pytest.mark.parametrize("name", ["../../etc/passwd", "x" * 300, "模型", "a b", ""])
def test_names_that_are_none_are_refused_before_anything(hub: Hub, name):
    with pytest.raises(ValueError, match=r"name|tag|model|host"):
        ask(name)
    assert not Job.objects.exists()
