"""What `manage.py up` runs: one spec per process, built from the settings."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from chatsite.capacity import machine
from chatsite.env import Environment
from chatsite.supervisor import heartbeat, probes
from chatsite.supervisor.parts import PARTS
from chatsite.supervisor.redis_binary import RedisBinary
from chatsite.supervisor.redis_repair import Repair
from chatsite.supervisor.watchdog import Asking, Beating, Sign

_ROOT = Path(__file__).resolve().parents[2]
# A character is at most 4 bytes of UTF-8, or 12 if a client escapes it in JSON; clients escape
# few. The rest is for the command around the text.
_BYTES_PER_CHAR = 4
_COMMAND_BYTES = 4096
# Share of the machine's memory, from what models leave free; see `capacity.machine`.
_REDIS_SHARE = 16
_REDIS_MB_LEAST, _REDIS_MB_MOST = 256, 4096
# The longest time between two heartbeats of a live loop; beat sleeps until a task is due.
_PAUSE_SECONDS = 5 * heartbeat.SECONDS
_BEAT_PAUSE_SECONDS = 20.0


@dataclass(frozen=True)
class ProcessSpec:
    """A process to keep running.

    Stages start in ascending order and end in descending order; processes of one stage do so
    together. A stage starts when all earlier ones are ``ready``. SIGKILL follows SIGTERM after
    ``stop_seconds``. ``env`` is added to the supervisor's environment; a process that is not
    ``trusted`` with secrets gets only its harmless variables. ``watch`` creates the liveness check
    of a new process. ``repair`` is called when the process failed before it was ``ready``, with the
    number of consecutive such failures; it returns a description of the repair, or None.
    """

    name: str
    command: tuple[str, ...]
    stage: int
    stop_seconds: float
    env: Mapping[str, str] = field(default_factory=dict)
    ready: Callable[[], Awaitable[bool]] | None = None
    trusted: bool = True
    watch: Callable[[], Sign] | None = None
    repair: Callable[[int], str | None] | None = None


def product(
    environment: Environment, redis: RedisBinary | None, parts: Collection[str] = PARTS
) -> tuple[ProcessSpec, ...]:
    """Return the specs of the processes of ``parts``; without Redis if ``redis`` is None."""
    specs = []
    if redis is not None and "redis" in parts:
        specs.append(_redis(environment, redis))
    if "inference" in parts:
        specs.append(_inference(environment))
    if "worker" in parts:
        specs.append(_celery(environment))
    if "web" in parts:
        specs.append(_daphne(environment))
    return tuple(specs)


def _redis(environment: Environment, binary: RedisBinary) -> ProcessSpec:
    socket = environment.redis_socket
    folder = environment.data_dir / "redis"
    options = {
        "unixsocketperm": "700",
        "appendonly": "yes",
        "appendfsync": "everysec",
        "save": "",
        # Full memory must refuse new work, never evict accepted work; without a limit the kernel's
        # OOM killer chooses a process.
        "maxmemory": f"{environment.redis_mb or redis_mb_for(machine.memory().total)}mb",
        "maxmemory-policy": "noeviction",
        "loglevel": "warning",
        "daemonize": "no",
    }
    if binary.is_valkey and binary.version >= (9,):
        # Otherwise it refuses data files of Redis 7.4 and newer, from an earlier installation.
        options["rdb-version-check"] = "relaxed"
    words = [word for key, value in options.items() for word in (f"--{key}", value)]
    command = (binary.path, *words)
    return ProcessSpec(
        name="redis",
        command=(*command, "--port", "0", "--unixsocket", str(socket), "--dir", str(folder)),
        stage=0,
        stop_seconds=1.5,
        ready=lambda: probes.redis_answers(socket),
        trusted=False,
        watch=lambda: Asking(lambda: probes.redis_lives(socket)),
        repair=Repair(folder, command),
    )


def redis_mb_for(total: int) -> int:
    """Return the MiB for Redis on a machine with ``total`` bytes."""
    return max(_REDIS_MB_LEAST, min(_REDIS_MB_MOST, (total >> 20) // _REDIS_SHARE))


def _inference(environment: Environment) -> ProcessSpec:
    beats = {heartbeat.INFERENCE: _PAUSE_SECONDS}
    return ProcessSpec(
        name="inference",
        command=(sys.executable, str(_ROOT / "manage.py"), "inference"),
        stage=1,
        stop_seconds=5 + environment.drain_seconds,
        watch=lambda: Beating(environment.data_dir, beats),
    )


def _celery(environment: Environment) -> ProcessSpec:
    beats = {heartbeat.CELERY: _PAUSE_SECONDS, heartbeat.BEAT: _BEAT_PAUSE_SECONDS}
    # Celery's loops block while its broker is down.
    redis = partial(probes.redis_url_answers, environment.effective_redis_url)
    return ProcessSpec(
        name="celery",
        command=(
            *(sys.executable, "-m", "celery", "-q", "-A", "chatsite.celery", "worker"),
            *("-B", "--schedule", str(environment.data_dir / "run" / "celerybeat-schedule")),
            # Beside jobs: documents, their vectors, and one that stays free for short tasks.
            *("-c", str(environment.jobs + 3), "-l", environment.log_level),
            # A single worker has no peers; waiting for their replies costs a second at start.
            *("--without-gossip", "--without-mingle", "--without-heartbeat"),
        ),
        stage=1,
        stop_seconds=5,
        watch=lambda: Beating(environment.data_dir, beats, redis),
    )


def _daphne(environment: Environment) -> ProcessSpec:
    message_bytes = str(environment.max_message_chars * _BYTES_PER_CHAR + _COMMAND_BYTES)
    return ProcessSpec(
        name="daphne",
        command=(
            *(sys.executable, "-m", "chatsite.web.daphne"),
            *("-b", environment.host, "-p", str(environment.port)),
            *("-v", "0", "--no-server-name"),
            # Daphne's default is a day, after which open pages would reconnect needlessly.
            *("--websocket_timeout", "-1", "--websocket_connect_timeout", "10"),
            *("--ping-interval", "20", "--ping-timeout", "30"),
            *("--websocket-max-message-size", message_bytes),
            *("--websocket-max-frame-size", message_bytes),
            *("--application-close-timeout", "5"),
            "chatsite.web.asgi:application",
        ),
        stage=2,
        stop_seconds=1.5 + environment.drain_seconds,
        watch=lambda: Asking(lambda: probes.web_answers(environment.host, environment.port)),
    )
