"""The whole product, started as its users start it: `manage.py up` with its own data directory."""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import weakref
from collections.abc import Callable
from functools import cache
from http.cookiejar import CookieJar
from http.cookies import SimpleCookie
from pathlib import Path
from urllib.parse import urlencode
from urllib.request import HTTPCookieProcessor, Request, build_opener

import psutil

from tests.support.commands import SERVED, Commands

ROOT = Path(__file__).resolve().parent.parent.parent
MODEL = "smollm2:135m"
PASSWORD = "correct horse battery"
READY_SECONDS = 120
# The end of a process's command line in `ps`.
ROLES = {
    # Of Valkey or Redis.
    "redis": "-server unixsocket:",
    "daphne": "daphne",
    "celery": "celery",
    "inference": " inference",
    "engine": "chatsite.engine",
}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until(condition: Callable[[], bool], what: str, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(0.05)


# What each installation creates for itself in a data directory.
_OWN = shutil.ignore_patterns("run", "redis", "secret_key")


@cache
def _shared() -> Path:
    """Return a folder of this test process, or of all those of one `make test`."""
    given = os.environ.get("CHATSITE_TEST_SHARED")
    if given:
        return Path(given)
    folder = Path(tempfile.mkdtemp(prefix="chatsite-prepared-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _known_tuning() -> Path:
    """Return the tuning measured by the first stack of a test run, reused by later ones."""
    return _shared() / "tuning.json"


@cache
def _prepared(model: Path | None, backend: str | None) -> Path:
    """Return a data directory for `prepare_data` to copy, created once per test run."""
    name = "empty" if model is None else f"model-{backend or 'llama'}"
    folder, done = _shared() / name, _shared() / f"{name}.done"
    with (_shared() / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            folder.mkdir(mode=0o700, exist_ok=True)
            stack = Stack(folder, **({} if backend is None else {"CHATSITE_BACKEND": backend}))
            if model is not None:
                prepare_data(folder)
            stack.fill(model)
            done.touch()
    return folder


def prepare_data(folder: Path, model: Path | None = None, backend: str | None = None) -> None:
    """Make ``folder`` a data directory after `migrate` and an import of ``model`` as `MODEL`.

    It is a copy, because a migration and an import take seconds of CPU time.
    """
    source = _prepared(model, backend)
    shutil.copytree(source, folder, ignore=_OWN, dirs_exist_ok=True, copy_function=_copy)


def _copy(source: str, target: str) -> None:
    """Link the weights of a model, which are never written again; copy other files."""
    if "/models/sha256-" in source:
        with contextlib.suppress(OSError):
            os.link(source, target)
            return
    shutil.copy2(source, target)


class Stack:
    """A running product. ``env`` adds settings; ``output`` collects its log."""

    def __init__(self, data_dir: Path, **env: str) -> None:
        self.data_dir = data_dir
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.output: list[str] = []
        # A program that runs the product as its child, such as strace.
        self.wrapper: tuple[str, ...] = ()
        self.process: subprocess.Popen[str] | None = None
        self._collector: threading.Thread | None = None
        self._commands: Commands | None = None
        self._tuning = data_dir / "tuning.json"
        clean = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith("CHATSITE_") and name != "DATABASE_URL"
        }
        self.env = {
            **clean,
            "CHATSITE_DATA_DIR": str(data_dir),
            "CHATSITE_PORT": str(self.port),
            "PYTHONUNBUFFERED": "1",
            **env,
        }

    # Lifecycle.

    def manage(
        self, *args: str, check: bool = True, stdin: str = "", **env: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a management command with further variables ``env``."""
        settings = [name for name in env if name.startswith(("CHATSITE_", "DATABASE_URL"))]
        if args[0] in SERVED and not settings:
            ran = self._served().run(args, stdin, env)
        else:
            ran = subprocess.run(
                [sys.executable, "manage.py", *args],
                cwd=ROOT,
                env={**self.env, **env},
                input=stdin,
                capture_output=True,
                text=True,
                check=False,
                timeout=280,
            )
        if check and ran.returncode:
            raise AssertionError(f"{args[0]} ended with {ran.returncode}:\n{ran.stderr}")
        return ran

    def _served(self) -> Commands:
        """Return the process that runs commands with the present settings."""
        if self._commands is None or self._commands.env != self.env:
            self._close_commands()
            self._commands = Commands(self.env)
            weakref.finalize(self, self._commands.close)
        return self._commands

    def _close_commands(self) -> None:
        if self._commands is not None:
            self._commands.close()
            self._commands = None

    def prepare(self, model: Path | None) -> None:
        """Create the database and import the model, as `make run` does before the start."""
        if "DATABASE_URL" in self.env:
            self.fill(model)
        else:
            prepare_data(self.data_dir, model, self.env.get("CHATSITE_BACKEND") if model else None)
        if _known_tuning().exists():
            shutil.copyfile(_known_tuning(), self._tuning)

    def fill(self, model: Path | None) -> None:
        """Migrate and import; `prepare` copies the result where it can."""
        self.manage("migrate", "--verbosity", "0")
        if model is not None:
            self.manage("models", "import", str(model), "--name", MODEL, "--if-missing")

    def start(self) -> None:
        self.process = subprocess.Popen(
            [
                *self.wrapper,
                *(sys.executable, "manage.py", "up"),
                *("--port", str(self.port), "--data-dir", str(self.data_dir)),
            ],
            cwd=ROOT,
            env=self.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._collector = threading.Thread(target=self._collect, args=(self.process,), daemon=True)
        self._collector.start()
        wait_until(self._is_ready, f"Ready line\n{self.log}", READY_SECONDS)

    def _collect(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout
        with process.stdout as stream:
            for line in stream:
                self.output.append(line.rstrip("\n"))

    def _is_ready(self) -> bool:
        if self.process and self.process.poll() is not None:
            raise AssertionError(f"`up` left with {self.process.returncode}:\n{self.log}")
        return any("Ready: " in line for line in self.output)

    def stop(self) -> None:
        """End it like Ctrl-C in a terminal; kill what remains."""
        self._end(15)

    def discard(self) -> None:
        """Kill everything, since nothing will start on its data again: a shutdown takes seconds."""
        self._close_commands()
        self._end(0)

    def _end(self, patience: float) -> None:
        if self.process is None:
            return
        try:
            family = self.family()
        except psutil.NoSuchProcess:
            family = []
        if patience:
            self.process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(patience)
        # The supervisor first, because it would restart the others.
        self.process.kill()
        self.process.wait()
        for process in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(family, timeout=60)
        if self._collector:
            self._collector.join(60)
        if self._tuning.exists():
            new = _known_tuning().with_suffix(f".{os.getpid()}")
            shutil.copyfile(self._tuning, new)
            new.replace(_known_tuning())
        self.process = None

    @property
    def log(self) -> str:
        return "\n".join(self.output[-200:])

    # Processes.

    def family(self) -> list[psutil.Process]:
        assert self.process
        return psutil.Process(self.process.pid).children(recursive=True)

    def find(self, role: str) -> list[psutil.Process]:
        """Return the running processes of a role, oldest first."""
        found = []
        for process in self.family():
            try:
                line = " ".join(process.cmdline())
                if "--probe" in line:  # a tuning probe, which serves no requests
                    continue
                if ROLES[role] in line and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except psutil.NoSuchProcess:
                continue
        return sorted(found, key=lambda process: process.create_time())

    def kill(self, role: str) -> None:
        """Kill the oldest process of a role by kill -9, which it can't handle."""
        self.find(role)[0].kill()

    # Users.

    def create_user(self, name: str, *, admin: bool = False) -> None:
        if admin:
            self.manage(
                "createsuperuser",
                "--noinput",
                "--username",
                name,
                "--email",
                f"{name}@example.org",
                DJANGO_SUPERUSER_PASSWORD=PASSWORD,
            )
            return
        code = (
            "from chatsite.accounts.models import User;"
            f"User.objects.create_user({name!r}, password={PASSWORD!r})"
        )
        self.manage("shell", "--verbosity", "0", "-c", code)

    def end_sessions(self, name: str) -> None:
        """Delete a user's sessions, as an administrator would."""
        code = (
            "from django.contrib.sessions.models import Session;"
            "from chatsite.accounts.models import User;"
            f"pk = str(User.objects.get(username={name!r}).pk);"
            "[s.delete() for s in Session.objects.all()"
            " if s.get_decoded().get('_auth_user_id') == pk]"
        )
        self.manage("shell", "--verbosity", "0", "-c", code)

    def sign_in(self, name: str) -> str:
        """Sign in through the form; return the session's `Cookie` header."""
        jar = CookieJar()
        opener = build_opener(HTTPCookieProcessor(jar))
        opener.open(f"{self.url}/accounts/login/").read()
        token = next(cookie.value for cookie in jar if "csrf" in cookie.name)
        form = {"login": name, "password": PASSWORD, "csrfmiddlewaretoken": token}
        request = Request(
            f"{self.url}/accounts/login/",
            data=urlencode(form).encode(),
            headers={"Referer": f"{self.url}/accounts/login/"},
        )
        opener.open(request).read()
        cookies = SimpleCookie({cookie.name: cookie.value or "" for cookie in jar})
        assert any("session" in name for name in cookies), "sign-in failed"
        return "; ".join(f"{name}={morsel.value}" for name, morsel in cookies.items())

    # Data.

    def query(self, sql: str, *args: object) -> list[tuple[object, ...]]:
        """Query the SQLite database of the running product, read-only."""
        with sqlite3.connect(f"file:{self.data_dir}/chatsite.sqlite3?mode=ro", uri=True) as db:
            return db.execute(sql, args).fetchall()

    def saved_text(self, message_id: str) -> str:
        rows = self.query(
            "SELECT content FROM chat_message WHERE id = ?", message_id.replace("-", "")
        )
        return str(rows[0][0])
