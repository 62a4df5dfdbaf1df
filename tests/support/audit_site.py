"""A database with the audit log only, whose writers and drainers are killed.

    python -m tests.support.audit_site

runs in the environment of a data folder and prints what came of it, as JSON. It is a process of
its own, since it forks children that are killed at any moment.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

os.environ["DJANGO_SETTINGS_MODULE"] = "chatsite.settings"

import django

django.setup()

from django.conf import settings  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.db import connection, connections  # noqa: E402

from chatsite.audit import chain, drain, spool  # noqa: E402
from chatsite.audit import record as recording  # noqa: E402
from chatsite.audit.models import Event, SpoolFile  # noqa: E402

WRITERS, ROUNDS = 3, 10
SOURCE = random.Random(11)


def fork(work: Callable[[], None]) -> int:
    connections.close_all()
    if connection.vendor == "postgresql":
        connection.close_pool()  # type: ignore[attr-defined]  # its threads do not survive a fork
    pid = os.fork()
    if pid == 0:
        try:
            work()
        finally:
            os._exit(0)
    return pid


def end(pid: int, after: float) -> None:
    time.sleep(after)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def write(name: str, acknowledge: int) -> None:
    """Record until killed; acknowledge each event after `record` has returned."""
    for number in range(1_000_000):
        recording.record("share.opened", user=name, number=number)
        os.write(acknowledge, f"{name} {number}\n".encode())


def killed_writers() -> set[tuple[str, int]]:
    read_end, write_end = os.pipe()
    os.set_blocking(read_end, False)
    pids = [fork(partial(write, f"writer{n}", write_end)) for n in range(WRITERS)]
    data = b""
    deadline = time.monotonic() + 0.04
    while time.monotonic() < deadline:
        try:
            data += os.read(read_end, 1 << 20)
        except BlockingIOError:
            time.sleep(0.001)
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    os.close(write_end)
    while part := os.read(read_end, 1 << 20):
        data += part
    lines = data.decode().split("\n")[:-1]
    return {(line.split()[0], int(line.split()[1])) for line in lines}


def drained_by_the_dying() -> int:
    """Kill drainers until nothing is left; return how many died."""
    killed = 0
    for _round in range(ROUNDS):
        end(fork(_drain_all), SOURCE.uniform(0.01, 0.15))
        killed += 1
    return killed


def _drain_all() -> None:
    while not drain.drain(wait=5):
        pass


def two_machines(folders: list[Path]) -> None:
    """Drain the spools of two machines into one chain at the same time, twice each."""
    for folder in folders:
        settings.DATA_DIR = folder
        own = spool.Spool(spool.folder(folder))
        recording.spool = lambda own=own: own  # type: ignore[assignment]
        for number in range(300):
            recording.record("share.opened", user=folder.name, number=number)
        own.close()

    def drain_of(folder: Path) -> None:
        settings.DATA_DIR = folder
        _drain_all()

    pids = [fork(partial(drain_of, folder)) for folder in folders * 2]
    for pid in pids:
        os.waitpid(pid, 0)


def stored() -> list[tuple[str, int]]:
    rows = Event.objects.order_by("sequence").values_list("actor_name", "details")
    return [(name, json.loads(details)["number"]) for name, details in rows]


def main() -> dict[str, Any]:
    call_command("migrate", "audit", verbosity=0)
    acknowledged = killed_writers()
    killed = drained_by_the_dying()
    drain.drain(wait=5)
    found = stored()
    first = chain.verify()
    folder = spool.folder(Path(settings.DATA_DIR))
    left = len(list(folder.glob("*.jsonl")))
    two_machines([Path(settings.DATA_DIR) / "one", Path(settings.DATA_DIR) / "two"])
    both = [row for row in stored() if row[0] in {"one", "two"}]
    second = chain.verify()
    return {
        "acknowledged": len(acknowledged),
        "killed_drainers": killed,
        "lost": len(acknowledged - set(found)),
        "repeated": sum(count - 1 for count in Counter(found).values()),
        "intact": first.ok,
        "files_left": left,
        "offsets_left": SpoolFile.objects.count(),
        "two_machines": len(both),
        "two_machines_repeated": len(both) - len(set(both)),
        "still_intact": second.ok,
        "order_kept": all(
            [number for name, number in both if name == one]
            == sorted(number for name, number in both if name == one)
            for one in ("one", "two")
        ),
    }


if __name__ == "__main__":
    json.dump(main(), sys.stdout)
