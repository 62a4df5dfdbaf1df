"""A large site is moved between the databases and restored, while it is killed again and again.

    python -m tests.faults.large_move [--messages 100000] [--kills 3]

Moves a site from SQLite to PostgreSQL and back, backs it up and restores it. Each command is killed
with SIGKILL several times, at random moments, and then run to its end. Every database must then be
equal to the first one, row by row. Prints the times; the exit code is 1 if a database differs.
Needs PostgreSQL; about five minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from chatsite.supervisor import data_dir
from tests.support.backup_site import KEY_FILE
from tests.support.postgres import private_postgres
from tests.support.stack import ROOT, Stack

# Tables that a restore itself changes: it ends open answers, and stores the events of the spool.
_CHANGED = {
    *("audit_event", "audit_eventterms", "audit_chain", "audit_spoolfile"),
    *("chat_generation", "policy_consumption", "policy_reservation"),
    *("accounts_apikey", "accounts_user"),
}


def _program(stack: Stack, *arguments: str, **env: str) -> str:
    return subprocess.run(
        [sys.executable, "-m", "tests.support.backup_site", *arguments],
        cwd=ROOT,
        env={**stack.env, **env},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout


def _tables(stack: Stack, **env: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(_program(stack, "facts", **env))["tables"]
    return found


def _killed(stack: Stack, after: float, *command: str, **env: str) -> bool:
    """Run a command of `manage.py` and kill it, with its children, after ``after`` seconds.

    Return whether it was still running.
    """
    process = subprocess.Popen(
        [sys.executable, "manage.py", *command],
        cwd=ROOT,
        env={**stack.env, **env},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        process.wait(after)
    except subprocess.TimeoutExpired:
        children = psutil.Process(process.pid).children(recursive=True)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        psutil.wait_procs(children, timeout=30)
        return True
    return False


def _completed(stack: Stack, kills: int, *command: str, **env: Any) -> str:
    """Kill a command ``kills`` times, run it to its end, and return a line about it."""
    seconds = random.uniform(5, 8)
    cut = 0
    for _ in range(kills):
        cut += _killed(stack, seconds, *command, **env)
        seconds *= random.uniform(1, 1.5)
    began = time.monotonic()
    stack.manage(*command, check=True, **env)
    return f"{command[0]:14} killed {cut} times, then {time.monotonic() - began:6.1f} s"


def _differences(found: dict[str, Any], wanted: dict[str, Any], what: str) -> list[str]:
    names = sorted(name for name in wanted if found.get(name) != wanted[name])
    print(f"{what}: {'equal' if not names else 'DIFFERENT in ' + ', '.join(names)}", flush=True)
    return names


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=100_000)
    parser.add_argument("--kills", type=int, default=3)
    options = parser.parse_args()
    wrong: list[str] = []
    with (
        tempfile.TemporaryDirectory(prefix="chatsite-move-") as folder,
        private_postgres() as postgres,
    ):
        site = Stack(Path(folder) / "site")
        data_dir.prepare(site.data_dir)
        site.prepare(None)
        _program(site, "fill")
        _program(site, "messages", str(options.messages))
        _tables(site)  # uses a key and a session, which are then marked as used
        began = time.monotonic()
        before = _tables(site)
        rows = sum(count for count, _digest in before.values())
        print(f"{rows} rows, compared in {time.monotonic() - began:.1f} s", flush=True)

        print(_completed(site, options.kills, "move-database", postgres), flush=True)
        on_postgres = _tables(site, DATABASE_URL=postgres)
        wrong += _differences(on_postgres, before, "SQLite to PostgreSQL")

        back = f"sqlite:///{Path(folder) / 'back.sqlite3'}"
        line = _completed(site, options.kills, "move-database", back, DATABASE_URL=postgres)
        print(line, flush=True)
        wrong += _differences(_tables(site, DATABASE_URL=back), on_postgres, "PostgreSQL to SQLite")

        archive = Path(folder) / "backup.zip"
        began = time.monotonic()
        site.manage("backup", str(archive))
        print(f"backup         {time.monotonic() - began:6.1f} s", flush=True)
        other = Stack(Path(folder) / "other")
        data_dir.prepare(other.data_dir)
        print(_completed(other, options.kills, "restore", str(archive)), flush=True)
        (other.data_dir / KEY_FILE).write_text((site.data_dir / KEY_FILE).read_text())
        kept = {name: found for name, found in _tables(site).items() if name not in _CHANGED}
        wrong += _differences(_tables(other), kept, "backup and restore")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
