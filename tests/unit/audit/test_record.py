from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from django.test import RequestFactory

from chatsite.audit import record as recording
from chatsite.audit.record import record
from chatsite.audit.spool import Spool


class Person:
    pk = 7

    def get_username(self) -> str:
        return "alice"


@pytest.fixture
def spool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Spool:
    spool = Spool(tmp_path / "audit")
    monkeypatch.setattr(recording, "spool", lambda: spool)
    return spool


def events(spool: Spool) -> list[dict[str, Any]]:
    return [
        json.loads(line)
        for file in sorted(spool.path.glob("*.jsonl"))
        for line in file.read_text().splitlines()
    ]


def test_an_event_has_actor_client_and_target(spool: Spool) -> None:
    request = RequestFactory().get("/", HTTP_USER_AGENT="Firefox", REMOTE_ADDR="10.1.2.3")
    request.user = Person()  # type: ignore[assignment]
    record("model.deleted", request=request, target=("model", "4", "tiny:1b"), forced=True)
    (event,) = events(spool)
    assert event | {"time": 0} == {
        "v": 1,
        "time": 0,
        "kind": "model.deleted",
        "outcome": "ok",
        "actor_id": "7",
        "actor_name": "alice",
        "via": "page",
        "address": "10.1.2.3",
        "agent": "Firefox",
        "request_id": "",
        "target_type": "model",
        "target_id": "4",
        "target_name": "tiny:1b",
        "details": {"forced": True},
    }


def test_an_unknown_user_is_a_name_and_the_cli_acts_as_the_system_user(spool: Spool) -> None:
    record("auth.login_failed", user="mallory", outcome="denied")
    record("model.deleted", via="cli")
    record("server.started", via="system")
    named, cli, system = events(spool)
    assert (named["actor_id"], named["actor_name"]) == ("", "mallory")
    assert cli["actor_name"] == recording.system_user() != ""
    assert system["actor_name"] == "system"


def test_values_are_bounded_and_printable(spool: Spool) -> None:
    fields: dict[str, Any] = {f"field{number}": "y" * 1000 for number in range(100)}
    record(
        "auth.login_failed",
        user="x" * 10_000,
        outcome="denied",
        typed="a\x00b\nc\ud800",
        many=[str(number) * 100 for number in range(1000)],
        **fields,
    )
    (event,) = events(spool)
    assert len(event["actor_name"]) == 200
    assert event["details"]["typed"] == "a\ufffdb\ufffdc\ufffd"
    assert event["details"]["truncated"] is True
    assert len(json.dumps(event)) < 6000


def test_record_never_raises(spool: Spool) -> None:
    class Broken:
        @property
        def pk(self) -> int:
            raise RuntimeError

    record("auth.login", user=Broken())
    record("auth.login", target=object())  # type: ignore[arg-type]
    record("auth.login", user=Person())
    assert [event["actor_name"] for event in events(spool)] == ["alice"]


def test_a_lazy_user_is_not_looked_up(spool: Spool) -> None:
    from django.utils.functional import SimpleLazyObject

    def query() -> Any:
        raise AssertionError("a query")

    request = RequestFactory().get("/")
    request.user = SimpleLazyObject(query)  # type: ignore[assignment]
    record("auth.login", request=request)
    assert events(spool)[0]["actor_name"] == ""


def test_an_undeclared_kind_is_recorded_all_the_same(spool: Spool) -> None:
    record("no.such", user=Person())
    assert events(spool)[0]["kind"] == "no.such"


def test_a_forked_process_has_its_own_file(spool: Spool) -> None:
    record("auth.login", user="parent")
    pid = os.fork()
    if pid == 0:
        record("auth.login", user="child")
        os._exit(0)
    os.waitpid(pid, 0)
    record("auth.login", user="parent")
    assert len(list(spool.path.glob("*.jsonl"))) == 2
    assert sorted(event["actor_name"] for event in events(spool)) == ["child", "parent", "parent"]
