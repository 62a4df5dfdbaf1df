"""Parts of the product that are started apart, and what systemd is told."""

from __future__ import annotations

import asyncio
import os
import socket
from pathlib import Path

import pytest

from chatsite.env import Environment
from chatsite.management.commands.up import needs_redis
from chatsite.supervisor import heartbeat, parts, probes, service_manager


def test_parts_are_parsed() -> None:
    assert parts.parse(None) == {"redis", "inference", "worker", "web"}
    assert parts.parse("web, worker") == {"web", "worker"}
    for bad in ("daphne", "web,celery", "", ","):
        with pytest.raises(parts.UnknownPart, match=r"redis, inference, worker, web"):
            parts.parse(bad)


def test_files_of_runs_do_not_collide() -> None:
    assert parts.suffix(parts.parse(None)) == ""
    assert parts.suffix(parts.parse("worker,web")) == "-web-worker"


def test_an_external_redis_is_checked_and_not_run(tmp_path: Path) -> None:
    own = Environment(data_dir=tmp_path, redis_url="")
    other = Environment(data_dir=tmp_path, redis_url="redis://redis.example.org:6379/0")
    assert needs_redis(own, parts.parse(None))
    assert not needs_redis(own, parts.parse("web"))
    assert needs_redis(other, parts.parse("web"))
    with pytest.raises(probes.CannotStart, match="CHATSITE_REDIS_URL"):
        needs_redis(other, parts.parse("redis"))


def test_a_part_without_the_web_server_is_ready_at_its_first_heartbeat(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    environment = Environment(data_dir=tmp_path, redis_url="")
    since = heartbeat.prepare(tmp_path)

    def ready() -> bool:
        return asyncio.run(probes.parts_run(environment, {"worker", "inference"}, since))

    assert not ready()
    for name in (heartbeat.CELERY, heartbeat.INFERENCE):
        assert not ready()
        os.utime(heartbeat.path(tmp_path, name), ns=(1, 1))
    assert ready()


@pytest.mark.parametrize("abstract", [False, True])
def test_systemd_is_notified(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, abstract: bool
) -> None:
    name = f"@chatsite-{tmp_path.name}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(name.replace("@", "\0", 1))
        monkeypatch.setenv("NOTIFY_SOCKET", name)
        service_manager.notify("READY=1")
        assert manager.recv(100) == b"READY=1"
    service_manager.notify("READY=1")  # a closed socket is no error
    monkeypatch.delenv("NOTIFY_SOCKET")
    service_manager.notify("READY=1")
