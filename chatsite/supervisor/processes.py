"""What `manage.py up` runs: one spec per process, made from the settings."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from chatsite.env import Environment
from chatsite.supervisor import probes
from chatsite.supervisor.redis_binary import RedisBinary

_ROOT = Path(__file__).resolve().parents[2]
# A character is at most 4 bytes of UTF-8, or 12 when a client escapes it in JSON; clients
# escape few. The rest is the command around the text.
_BYTES_PER_CHAR = 4
_COMMAND_BYTES = 4096


@dataclass(frozen=True)
class ProcessSpec:
    """A process to keep running.

    Stages start in rising order and end in falling order; those of one stage do so together.
    A stage starts when all before it are ``ready``. ``stop_seconds`` is what SIGTERM may take
    before SIGKILL. ``env`` is added to the supervisor's own environment.
    """

    name: str
    command: tuple[str, ...]
    stage: int
    stop_seconds: float
    env: Mapping[str, str] = field(default_factory=dict)
    ready: Callable[[], Awaitable[bool]] | None = None


def product(environment: Environment, redis: RedisBinary | None) -> tuple[ProcessSpec, ...]:
    """All processes of one box; no Redis of our own when ``redis`` is None."""
    programs = (_inference(), _celery(environment), _daphne(environment))
    return programs if redis is None else (_redis(environment, redis), *programs)


def _redis(environment: Environment, binary: RedisBinary) -> ProcessSpec:
    socket = environment.redis_socket
    folder = environment.data_dir / "redis"
    options = {
        "port": "0",
        "unixsocket": str(socket),
        "unixsocketperm": "700",
        "dir": str(folder),
        "appendonly": "yes",
        "appendfsync": "everysec",
        "save": "",
        # Full memory must refuse new work, never forget what was accepted.
        "maxmemory-policy": "noeviction",
        "loglevel": "warning",
        "daemonize": "no",
    }
    arguments = [word for key, value in options.items() for word in (f"--{key}", value)]
    return ProcessSpec(
        name="redis",
        command=(binary.path, *arguments),
        stage=0,
        stop_seconds=1.5,
        ready=lambda: probes.redis_answers(socket),
    )


def _inference() -> ProcessSpec:
    return ProcessSpec(
        name="inference",
        command=(sys.executable, str(_ROOT / "manage.py"), "inference"),
        stage=1,
        stop_seconds=5,
    )


def _celery(environment: Environment) -> ProcessSpec:
    return ProcessSpec(
        name="celery",
        command=(
            *(sys.executable, "-m", "celery", "-q", "-A", "chatsite.celery", "worker"),
            *("-B", "--schedule", str(environment.data_dir / "run" / "celerybeat-schedule")),
            # One is left for short tasks when as many long jobs run as may.
            *("-c", str(environment.jobs + 1), "-l", environment.log_level),
            # One worker has nobody to talk to; waiting for answers costs a second at start.
            *("--without-gossip", "--without-mingle", "--without-heartbeat"),
        ),
        stage=1,
        stop_seconds=5,
    )


def _daphne(environment: Environment) -> ProcessSpec:
    message_bytes = str(environment.max_message_chars * _BYTES_PER_CHAR + _COMMAND_BYTES)
    return ProcessSpec(
        name="daphne",
        command=(
            *(sys.executable, "-m", "chatsite.daphne"),
            *("-b", environment.host, "-p", str(environment.port)),
            *("-v", "0", "--no-server-name"),
            # A day is daphne's default: then a page that stays open would reconnect for nothing.
            *("--websocket_timeout", "-1", "--websocket_connect_timeout", "10"),
            *("--ping-interval", "20", "--ping-timeout", "30"),
            *("--websocket-max-message-size", message_bytes),
            *("--websocket-max-frame-size", message_bytes),
            *("--application-close-timeout", "5"),
            "chatsite.asgi:application",
        ),
        stage=2,
        stop_seconds=1.5,
    )
