"""PgBouncer in transaction mode before a PostgreSQL of `tests.support.postgres`."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

import psycopg

from tests.support.postgres import unprivileged
from tests.support.stack import free_port

_START_SECONDS = 10.0


def program() -> str | None:
    return shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")


@contextlib.contextmanager
def pooled(database: str) -> Iterator[str]:
    """Yield a `DATABASE_URL` through PgBouncer, which has two connections to the server."""
    parts = urlsplit(database)
    folder = Path(tempfile.mkdtemp(prefix="chatsite-pgbouncer-"))
    account = unprivileged()
    port = free_port()
    server = unquote(parts.netloc.rpartition("@")[2].partition(":")[0])
    config = folder / "pgbouncer.ini"
    config.write_text(
        f"[databases]\npostgres = host={server} port={parts.port} user={parts.username}\n"
        f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n"
        "auth_type = any\npool_mode = transaction\ndefault_pool_size = 2\n"
    )
    if account:
        os.chown(folder, account.pw_uid, account.pw_gid)
        folder.chmod(0o755)
    process = subprocess.Popen(
        [program() or "pgbouncer", str(config)],
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        user=account.pw_uid if account else None,
        group=account.pw_gid if account else None,
        extra_groups=[] if account else None,
    )
    url = f"postgres://{parts.username}@127.0.0.1:{port}/postgres"
    try:
        deadline = time.monotonic() + _START_SECONDS
        while True:
            try:
                psycopg.connect(url).close()
                break
            except psycopg.OperationalError:
                assert time.monotonic() < deadline, "PgBouncer does not answer"
                time.sleep(0.05)
        yield url
    finally:
        process.kill()
        process.wait(10)
        shutil.rmtree(folder, ignore_errors=True)
