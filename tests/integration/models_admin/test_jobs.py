"""The lifecycle of a job: requested, joined, paused, cancelled, taken over, given up."""

from __future__ import annotations

import threading
import time
from datetime import timedelta
from unittest.mock import Mock

import msgspec
import pytest
from django.db import InterfaceError, connections
from django.utils import timezone, translation
from redis import Redis

from chatsite.errors import ChatsiteError
from chatsite.hosts.status import HostStatus
from chatsite.redis_keys import host_hints
from models_admin.adminsite.live import snapshot
from models_admin.jobs import cleaning, enqueue, job_context, job_log, run, states
from models_admin.jobs.requests import Download
from models_admin.models import Job, JobState, ModelName
from models_admin.store import disk
from tests.support.hub import Hub, names_in
from tests.support.jobs import CONTENT, ask, done, partial_bytes, said, whole
from tests.support.races import at_once, on_postgresql

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("data_dir", "redis_url", "sent"),
]


def test_a_source_that_is_down_is_retried_later(hub: Hub, sent):
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


def test_two_requests_for_one_model_share_a_job(hub: Hub, django_user_model):
    first = ask(by=django_user_model.objects.create(username="ann"))
    bo = django_user_model.objects.create(username="bo")
    second, new = states.ask(Download("tiny:1b"), "TINY:1b", by=bo)
    assert (second, new) == (first, False)
    assert said(first) == ["asked", "joined"]
    with pytest.raises(states.JobRefused, match="different source"):
        states.ask(Download("hf.co/org/tiny:1b"), "tiny:1b")


def while_it_runs(hub: Hub, job: Job) -> threading.Thread:
    """Run the job in a thread, and return once some content has arrived."""
    hub.pace = 0.2

    def work() -> None:
        run.run(job.pk)
        connections.close_all()  # PostgreSQL drops no database that a thread still uses

    worker = threading.Thread(target=work)
    worker.start()
    for _wait in range(200):
        if hub.parts_asked():
            break
        time.sleep(0.02)
    return worker


def test_pause_and_resume(hub: Hub):
    job = ask()
    worker = while_it_runs(hub, job)
    states.pause(job.pk)
    worker.join(60)
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
    worker.join(60)
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
    assert states.claim(job.pk) is None  # its worker, this process, is alive
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
    for number in range(snapshot.SHOWN + 1):
        ask(f"tiny:{number}")
    assert len(snapshot.jobs()) == snapshot.SHOWN + 1


def test_the_lease_survives_a_database_outage(hub: Hub, monkeypatch):
    job = states.claim(ask().pk)
    assert job
    watched = job_context.Control(job)
    monkeypatch.setattr(states, "beat", Mock(side_effect=InterfaceError))
    watched.beat()
    monkeypatch.undo()
    watched.beat()
    assert not watched.stop_requested.is_set()


@pytest.mark.parametrize(
    "address", ["https://x:y/a.gguf", "https://x/\x00.gguf", f"https://x/{'y' * 1000}.gguf"]
)
def test_an_invalid_address_is_refused_immediately(hub: Hub, address):
    with pytest.raises(ChatsiteError):
        enqueue.download(address, "any")
    assert not Job.objects.exists()


def test_a_job_that_ends_its_worker_each_time_is_given_up(hub: Hub):
    job = ask()
    for _death in range(11):
        assert states.claim(job.pk)
        Job.objects.update(lease_until=timezone.now() - timedelta(seconds=1))
        states.sweep()
    job.refresh_from_db()
    assert (job.state, job.error["code"], job.attempt) == (JobState.FAILED, "worker_died", 11)


def test_concurrent_jobs_are_limited(hub: Hub, settings):
    settings.ENV = settings.ENV.model_copy(update={"jobs": 1})
    first, second = ask("tiny:1b"), ask("hf.co/org/tiny:1b")
    assert states.claim(first.pk)
    assert states.claim(second.pk) is None


@on_postgresql
def test_concurrent_claims_are_limited(hub: Hub, settings):
    settings.ENV = settings.ENV.model_copy(update={"jobs": 2})
    asked = [ask(f"hf.co/org/tiny:{number}") for number in range(6)]
    found = at_once(6, lambda number: states.claim(asked[number].pk))
    assert len([job for job in found if job is not None]) == 2


@pytest.mark.parametrize("name", ["../../etc/passwd", "x" * 300, "模型", "a b", ""])
def test_invalid_names_are_refused_first(hub: Hub, name):
    with pytest.raises(ValueError, match=r"name|tag|model|host"):
        ask(name)
    assert not Job.objects.exists()


def test_page_2_the_model_of_a_job_can_become_the_default(hub: Hub, admin_client):
    job = done(ask())
    ModelName.objects.update(configuration={"template": "{{ .Prompt }}"})
    (shown,) = snapshot.job_rows(snapshot.jobs(), {})
    assert shown.can == ["default", "remove"]
    answer = admin_client.post(f"/admin/jobs/{job.pk}/default/")
    assert (answer.status_code, answer.json()["job"]["can"]) == (200, ["remove"])
    assert ModelName.objects.get().is_default
    (shown,) = snapshot.job_rows(snapshot.jobs(), {})
    assert shown.can == ["remove"]


def test_page_48_a_host_is_asked_to_measure_what_a_job_installed(hub: Hub, redis_url):
    job = ask()
    with Redis.from_url(redis_url) as redis, redis.pubsub(ignore_subscribe_messages=True) as heard:
        idle = HostStatus("h1", "host", 1)
        redis.sadd("cs:hosts", "h1")
        redis.set("cs:host:h1", msgspec.json.encode(idle))
        heard.subscribe(host_hints("h1"))
        assert done(job).state == JobState.DONE
        messages = [heard.get_message(timeout=30) for _ in range(2)]
        redis.delete("cs:hosts", "cs:host:h1")
    assert [m["data"] for m in messages if m] == [b"tune tiny:1b"]


def test_page_48_a_job_is_done_without_a_host(hub: Hub, settings):
    settings.REDIS_URL = "unix:///nowhere"
    assert done(ask()).state == JobState.DONE


def test_page_46_a_forbidden_source_is_refused_in_the_form(hub: Hub, admin_client):
    page = admin_client.post(
        "/admin/jobs/", {"source": "https://elsewhere.example/model.gguf"}, follow=True
    ).content.decode()
    assert "Downloads from elsewhere.example are not allowed. Add the host to" in page
    assert not Job.objects.exists()
    page = admin_client.post("/admin/jobs/", {"source": "elsewhere.example/a/b:c"}, follow=True)
    assert "Downloads from elsewhere.example are not allowed." in page.content.decode()
    assert not Job.objects.exists()


def test_page_46_no_success_is_reported_for_a_job_that_may_still_fail(hub: Hub, admin_client):
    page = admin_client.post("/admin/jobs/", {"source": "tiny:1b"}, follow=True)
    assert [str(one) for one in page.context["messages"]] == []
    again = admin_client.post("/admin/jobs/", {"source": "tiny:1b"}, follow=True)
    assert [one.level_tag for one in again.context["messages"]] == ["info"]


def shown_actions(job: Job) -> list[str]:
    found: list[str] = snapshot.job_row(job, None).can
    return found


def test_page_46_only_temporary_failures_are_retried(hub: Hub, admin_client):
    missing = done(ask("absent:1b"))
    assert (missing.state, shown_actions(missing)) == (JobState.FAILED, ["remove"])
    hub.faults[:] = ["busy"] * 1000
    busy = ask()
    for _try in range(8):
        Job.objects.update(not_before=None)
        busy = done(busy)
    assert shown_actions(busy) == ["retry", "remove"]
    answer = admin_client.post(f"/admin/jobs/{busy.pk}/retry/")
    assert (answer.status_code, answer.json()["job"]["state"]) == (200, "queued")


def test_page_46_an_ended_job_is_removed_and_an_open_one_stays(hub: Hub, admin_client):
    job = ask()
    assert admin_client.post(f"/admin/jobs/{job.pk}/remove/").status_code == 409
    done(job)
    answer = admin_client.post(f"/admin/jobs/{job.pk}/remove/")
    assert (answer.status_code, answer.json()) == (200, {"job": None})
    assert not Job.objects.exists()
    assert whole()  # the model stays
    assert admin_client.post(f"/admin/jobs/{job.pk}/remove/").status_code == 404


def test_page_66_a_saved_error_is_worded_in_the_readers_language(hub: Hub):
    with translation.override("zh-hans"):
        job = ask("absent:1b")
    job = done(job)
    with translation.override("en"):
        assert snapshot.job_row(job, None).error.startswith("The source has no such model.")
        failed = job_log.text(job.lines.get(code="failed"))
        assert failed.startswith("Failed: The source has no such model.")
    assert set(job.error["texts"]) == {"en", "zh-hans"}
