"""The whole product, started as its users start it: `manage.py up` on a data folder of its own."""

from __future__ import annotations

import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from http.cookiejar import CookieJar
from http.cookies import SimpleCookie
from pathlib import Path
from urllib.parse import urlencode
from urllib.request import HTTPCookieProcessor, Request, build_opener

import psutil

ROOT = Path(__file__).resolve().parent.parent.parent
MODEL = "smollm2:135m"
PASSWORD = "correct horse battery"
READY_SECONDS = 60
# What the last words of a process's command line tell in `ps`.
ROLES = {
    "redis": "redis-server",
    "daphne": "daphne",
    "celery": "celery",
    "inference": " inference",
    "engine": "chatsite.engine",
}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until(condition: Callable[[], bool], what: str, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(0.05)


# What the first stack of a test run measured; the later ones need not measure it again.
_measured: dict[str, bytes] = {}


class Stack:
    """One running product. ``env`` adds settings; ``output`` collects its log."""

    def __init__(self, data_dir: Path, **env: str) -> None:
        self.data_dir = data_dir
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.output: list[str] = []
        self.process: subprocess.Popen[str] | None = None
        self._collector: threading.Thread | None = None
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

    # Life.

    def manage(
        self, *args: str, check: bool = True, stdin: str = "", **env: str
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "manage.py", *args],
            cwd=ROOT,
            env={**self.env, **env},
            input=stdin,
            capture_output=True,
            text=True,
            check=check,
            timeout=120,
        )

    def prepare(self, model: Path | None) -> None:
        """Migrates and brings in the model, as `make run` does before it starts all."""
        self.manage("migrate", "--verbosity", "0")
        if model is not None:
            self.manage("models", "import", str(model), "--name", MODEL, "--if-missing")
        if "tuning" in _measured:
            self._tuning.write_bytes(_measured["tuning"])

    def start(self) -> None:
        self.process = subprocess.Popen(
            [
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
        """Ends it as Ctrl-C in a terminal would; whatever is left after that is killed."""
        if self.process is None:
            return
        family = self.family()
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.process.kill()
        for process in family:
            if process.is_running():
                process.kill()
        if self._collector:
            self._collector.join(10)
        if self._tuning.exists():
            _measured["tuning"] = self._tuning.read_bytes()
        self.process = None

    @property
    def log(self) -> str:
        return "\n".join(self.output[-200:])

    # Processes.

    def family(self) -> list[psutil.Process]:
        assert self.process
        return psutil.Process(self.process.pid).children(recursive=True)

    def find(self, role: str) -> list[psutil.Process]:
        """Running processes of a role, oldest first."""
        found = []
        for process in self.family():
            try:
                line = " ".join(process.cmdline())
                if ROLES[role] in line and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except psutil.NoSuchProcess:
                continue
        return sorted(found, key=lambda process: process.create_time())

    def kill(self, role: str) -> None:
        """kill -9 of the (oldest) process of a role, as nothing can prepare for."""
        self.find(role)[0].kill()

    # People.

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
        """Takes a person's sessions away, as an administrator would."""
        code = (
            "from django.contrib.sessions.models import Session;"
            "from chatsite.accounts.models import User;"
            f"pk = str(User.objects.get(username={name!r}).pk);"
            "[s.delete() for s in Session.objects.all()"
            " if s.get_decoded().get('_auth_user_id') == pk]"
        )
        self.manage("shell", "--verbosity", "0", "-c", code)

    def sign_in(self, name: str) -> str:
        """Signs in through the form; returns the `Cookie` header of the session."""
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
        """Reads the SQLite database beside the running product."""
        with sqlite3.connect(f"file:{self.data_dir}/chatsite.sqlite3?mode=ro", uri=True) as db:
            return db.execute(sql, args).fetchall()

    def saved_text(self, message_id: str) -> str:
        rows = self.query(
            "SELECT content FROM chat_message WHERE id = ?", message_id.replace("-", "")
        )
        return str(rows[0][0])
