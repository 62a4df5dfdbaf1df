"""A private PostgreSQL on a Unix socket in a temporary directory, during a block.

    python -m tests.support.postgres COMMAND…

runs a command with its URL in CHATSITE_TEST_DATABASE_URL, which `tests/settings.py` reads.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import quote

_USER = "chatsite"
_UNPRIVILEGED = ("postgres", "nobody")


class NoPostgres(Exception):
    """PostgreSQL is not installed; the message says what to install."""


def binaries() -> Path:
    """Return the directory of the newest installed PostgreSQL's programs."""
    found = shutil.which("initdb")
    if found:
        return Path(found).resolve().parent
    # Debian keeps each version's programs in a directory outside PATH.
    folders = sorted(
        Path("/usr/lib/postgresql").glob("*/bin"), key=lambda folder: int(folder.parent.name)
    )
    if not folders:
        raise NoPostgres("PostgreSQL is not installed: apt-get install postgresql")
    return folders[-1]


def unprivileged() -> pwd.struct_passwd | None:
    """Return the account for the server if this process is root, as which PostgreSQL won't run."""
    if os.geteuid() != 0:
        return None
    for name in _UNPRIVILEGED:
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    raise NoPostgres(f"root needs one of the accounts {', '.join(_UNPRIVILEGED)}")


@contextlib.contextmanager
def private_postgres(*, durable: bool = False) -> Iterator[str]:
    """Yield the `DATABASE_URL` of an empty database.

    With ``durable`` a commit survives the death of the server's processes, as by default.
    """
    folder = Path(tempfile.mkdtemp(prefix="chatsite-pg-"))
    account = unprivileged()
    if account:
        os.chown(folder, account.pw_uid, account.pw_gid)

    def run(program: str, *arguments: str) -> None:
        subprocess.run(
            [str(binaries() / program), *arguments],
            check=True,
            cwd=folder,
            stdout=subprocess.DEVNULL,
            user=account.pw_uid if account else None,
            group=account.pw_gid if account else None,
            extra_groups=[] if account else None,
        )

    data = str(folder / "data")
    # Nothing has to survive a crash of the machine, so never wait for the disk.
    server = f"-k {folder} -c listen_addresses= -c fsync=off"
    if not durable:
        # Plans must not depend on when statistics were last gathered in the background.
        server += " -c synchronous_commit=off -c autovacuum=off"
    try:
        run("initdb", "-D", data, "-U", _USER, "-A", "trust", "-E", "UTF8", "--no-sync")
        run("pg_ctl", "-D", data, "-w", "-s", "-l", str(folder / "log"), "-o", server, "start")
        try:
            yield f"postgres://{_USER}@{quote(str(folder), safe='')}:5432/postgres"
        finally:
            run("pg_ctl", "-D", data, "-m", "immediate", "-s", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def main(command: Sequence[str]) -> int:
    with private_postgres() as url:
        environment = {**os.environ, "CHATSITE_TEST_DATABASE_URL": url}
        return subprocess.run(list(command), check=False, env=environment).returncode


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
