"""PostgreSQL behind PgBouncer in transaction mode."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import pooler
from tests.support.postgres import private_postgres
from tests.support.stack import ROOT, Stack

pytestmark = [
    pytest.mark.stack,
    pytest.mark.skipif(pooler.program() is None, reason="needs pgbouncer (Debian: pgbouncer)"),
]

# Two migrations at once. A lock of the session would be held by a server connection that the
# second client may be given, too.
_LOCKED = """
import json, threading, time
from django.db import connection
from chatsite.supervisor import prepare

seen = []

def migrate(name):
    with prepare._migration_lock():
        seen.append(name)
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
        time.sleep(0.3)
        seen.append(name)
    connection.close()

threads = [threading.Thread(target=migrate, args=(number,)) for number in range(3)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
with connection.cursor() as cursor:
    cursor.execute("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'")
    [left] = cursor.fetchone()
with connection.chunked_cursor() as cursor:
    cursor.execute("SELECT generate_series(1, 5000)")
    rows = len(cursor.fetchall())
print(json.dumps([seen, left, rows]))
"""


@pytest.fixture(scope="module")
def database() -> Iterator[str]:
    with private_postgres() as direct, pooler.pooled(direct) as url:
        yield url


def test_a_pooler_that_is_not_declared_is_an_error(database: str, tmp_path: Path) -> None:
    stack = Stack(tmp_path, DATABASE_URL=database)
    done = stack.manage("check", "--database", "default", check=False)
    assert "chatsite.E006" in done.stderr
    up = subprocess.run(
        [sys.executable, "manage.py", "up"],
        cwd=ROOT,
        env={**stack.env, "CHATSITE_REDIS_URL": ""},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert up.returncode != 0
    assert "CHATSITE_DATABASE_POOLER is not set. Set it to the pool_mode" in up.stdout + up.stderr


def test_migrations_and_large_results_work_in_transaction_mode(
    database: str, tmp_path: Path
) -> None:
    stack = Stack(tmp_path, DATABASE_URL=database, CHATSITE_DATABASE_POOLER="transaction")
    done = stack.manage("shell", "--verbosity", "0", "-c", _LOCKED)
    seen, left, rows = json.loads(done.stdout.splitlines()[-1])
    assert seen[0::2] == seen[1::2]  # one after the other
    assert left == 0
    assert rows == 5000
