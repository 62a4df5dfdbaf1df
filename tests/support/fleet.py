"""Several machines on one: web servers behind nginx, inference hosts, PostgreSQL and Redis.

Each process is restarted after it ends, as by systemd. Machine ``one`` has a web server, an
inference host and the worker; each further machine has a web server and an inference host. All
listen on loopback only.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import psutil
from redis import Redis

from chatsite.env import Environment
from chatsite.supervisor import heartbeat, redis_binary
from chatsite.supervisor.child import PARENT_VARIABLE
from chatsite.supervisor.processes import product
from tests.support.stack import MODEL, ROOT, free_port

_READY_SECONDS = 120.0
_STOP_SECONDS = 15.0
_LAUNCH = ROOT / "chatsite" / "supervisor" / "launch.py"

_NGINX = """
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/nginx.log warn;
worker_processes 1;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    map $http_upgrade $chatsite_connection {{ default upgrade; '' ''; }}
    upstream chatsite {{
        least_conn;
{servers}
        keepalive 32;
        keepalive_timeout 60s;
    }}
    server {{
        listen 127.0.0.1:{port} backlog=1024;
        client_max_body_size 0;
        proxy_request_buffering off;
        location / {{
            proxy_pass http://chatsite;
            proxy_http_version 1.1;
            proxy_connect_timeout 2s;
            add_header X-Upstream $upstream_addr always;
            proxy_set_header Host $http_host;
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
            proxy_set_header X-Forwarded-Proto $scheme;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection $chatsite_connection;
            proxy_read_timeout 1h;
            proxy_send_timeout 1h;
        }}
    }}
}}
"""

_USERS = """
import json, sys
from django.conf import settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.contrib.sessions.backends.db import SessionStore
from chatsite.accounts.models import User

cookies = []
for number in range(int(sys.stdin.readline())):
    user = User(username=f"user{number}")
    user.set_unusable_password()
    user.save()
    session = SessionStore()
    session[SESSION_KEY] = str(user.pk)
    session[BACKEND_SESSION_KEY] = settings.AUTHENTICATION_BACKENDS[0]
    session[HASH_SESSION_KEY] = user.get_session_auth_hash()
    session.save()
    cookies.append(f"{settings.SESSION_COOKIE_NAME}={session.session_key}")
print(json.dumps(cookies))
"""


@dataclass
class Member:
    """One process of the fleet. ``pause`` is the seconds before it is started again."""

    name: str
    command: Sequence[str]
    env: dict[str, str]
    log: Path
    pause: float = 0.5
    starts: int = 0
    process: asyncio.subprocess.Process | None = None
    wanted: bool = True
    keeper: asyncio.Task[None] | None = field(default=None, repr=False)

    @property
    def running(self) -> psutil.Process:
        """Return the process. Raises `psutil.NoSuchProcess` while it is down."""
        if self.process is None or self.process.returncode is not None:
            raise psutil.NoSuchProcess(0, self.name)
        return psutil.Process(self.process.pid)


class Fleet:
    """Machines on one database and one Redis; use `running`.

    ``env`` adds settings of all machines, ``slots`` are per inference host.
    """

    def __init__(
        self, folder: Path, database: str, *, machines: Sequence[str] = ("one", "two"), **env: str
    ) -> None:
        self.folder, self.database, self.machines = folder, database, machines
        self.port, self.redis_port = free_port(), free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.redis_password = secrets.token_hex(16)
        self.redis_url = f"redis://:{self.redis_password}@127.0.0.1:{self.redis_port}/0"
        self.members: dict[str, Member] = {}
        clean = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith("CHATSITE_") and name != "DATABASE_URL"
        }
        self.env = {
            **clean,
            "DATABASE_URL": database,
            "CHATSITE_REDIS_URL": self.redis_url,
            "CHATSITE_SECRET_KEY": secrets.token_hex(32),
            "CHATSITE_ORIGINS": self.url,
            "CHATSITE_TRUSTED_PROXIES": "127.0.0.1",
            "CHATSITE_LOG_FORMAT": "json",
            "PYTHONUNBUFFERED": "1",
            PARENT_VARIABLE: str(os.getpid()),
            **env,
        }
        self.web_ports = {machine: free_port() for machine in machines}

    def data_dir(self, machine: str) -> Path:
        return self.folder / machine

    def env_of(self, machine: str) -> dict[str, str]:
        return {
            **self.env,
            "CHATSITE_DATA_DIR": str(self.data_dir(machine)),
            "CHATSITE_PORT": str(self.web_ports[machine]),
        }

    def manage(self, *args: str, machine: str = "one", stdin: str = "") -> str:
        done = subprocess.run(
            [sys.executable, "manage.py", *args],
            cwd=ROOT,
            env=self.env_of(machine),
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        if done.returncode:
            raise AssertionError(f"manage.py {args[0]} failed: {done.stderr[-3000:]}")
        return done.stdout

    def prepare(self, model: Path, *, copy: bool = True) -> None:
        """Create the data folders, migrate and import ``model`` on the first machine.

        With ``copy`` the other machines get the file, too.
        """
        for machine in self.machines:
            (self.data_dir(machine) / "run").mkdir(mode=0o700, parents=True)
            heartbeat.prepare(self.data_dir(machine))
        self.manage("migrate", "--verbosity", "0")
        self.manage("models", "import", str(model), "--name", MODEL)
        if copy:
            for machine in self.machines[1:]:
                shutil.copytree(self.data_dir("one") / "models", self.data_dir(machine) / "models")

    def create_users(self, count: int) -> list[str]:
        """Create users; return the `Cookie` header of a session of each."""
        printed = self.manage("shell", "--verbosity", "0", "-c", _USERS, stdin=f"{count}\n")
        cookies: list[str] = json.loads(printed.splitlines()[-1])
        return cookies

    # Processes.

    def _add(
        self, name: str, command: Sequence[str], env: dict[str, str], pause: float = 0.5
    ) -> None:
        self.members[name] = Member(name, command, env, self.folder / f"{name}.log", pause)

    def _plan(self) -> None:
        redis = self.folder / "redis"
        redis.mkdir()
        self._add(
            "redis",
            [
                *(redis_binary.find().path, "--port", str(self.redis_port)),
                *("--bind", "127.0.0.1", "--requirepass", self.redis_password),
                *("--dir", str(redis), "--appendonly", "yes", "--appendfsync", "everysec"),
                *("--save", "", "--maxmemory-policy", "noeviction", "--maxmemory", "256mb"),
            ],
            self.env,
            pause=0.2,
        )
        for machine in self.machines:
            env = self.env_of(machine)
            environment = Environment(
                data_dir=self.data_dir(machine), host="127.0.0.1", port=self.web_ports[machine]
            )
            for spec in product(environment, None):
                if spec.name != "celery" or machine == "one":
                    self._add(f"{spec.name}-{machine}", spec.command, env)
        servers = "\n".join(
            f"        server 127.0.0.1:{port} max_fails=0;" for port in self.web_ports.values()
        )
        config = self.folder / "nginx.conf"
        config.write_text(_NGINX.format(folder=self.folder, servers=servers, port=self.port))
        nginx = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/sbin") or "nginx"
        self._add("nginx", [nginx, "-c", str(config)], self.env, pause=0.2)

    async def _keep(self, member: Member) -> None:
        while member.wanted:
            with member.log.open("ab") as log:
                member.process = await asyncio.create_subprocess_exec(
                    *(sys.executable, "-I", "-S", str(_LAUNCH), str(os.getpid())),
                    *member.command,
                    cwd=ROOT,
                    env=member.env,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
            member.starts += 1
            group = member.process.pid
            await member.process.wait()
            # Children of a killed process that do not end with it, as systemd kills the group.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(group, signal.SIGKILL)
            if member.wanted:
                await asyncio.sleep(member.pause)

    def start(self, name: str) -> None:
        member = self.members[name]
        member.wanted = True
        member.keeper = asyncio.create_task(self._keep(member))

    async def stop(self, name: str, number: int = signal.SIGTERM) -> None:
        """End a process and leave it down."""
        member = self.members[name]
        member.wanted = False
        with contextlib.suppress(psutil.NoSuchProcess):
            member.running.send_signal(number)
        if member.keeper is not None:
            _, slow = await asyncio.wait([member.keeper], timeout=_STOP_SECONDS)
            if slow:
                with contextlib.suppress(psutil.NoSuchProcess):
                    member.running.kill()
                await member.keeper

    def engines(self, machine: str) -> list[psutil.Process]:
        """Return the engine children of an inference host."""
        children = self.members[f"inference-{machine}"].running.children()
        return [one for one in children if "chatsite.engine" in " ".join(one.cmdline())]

    def redis(self) -> Redis:
        return Redis.from_url(self.redis_url, socket_timeout=5)

    async def ready(self, *, hosts: int | None = None) -> None:
        """Wait until `/healthz` works through the proxy and ``hosts`` hosts have a loaded model."""
        wanted = len(self.machines) if hosts is None else hosts
        deadline = time.monotonic() + _READY_SECONDS
        while True:
            with contextlib.suppress(Exception):
                if await asyncio.to_thread(self._works, wanted):
                    return
            if time.monotonic() > deadline:
                logs = "\n".join(
                    f"== {name}\n{member.log.read_text()[-800:]}"
                    for name, member in self.members.items()
                    if member.log.exists()
                )
                raise AssertionError(f"The fleet is not ready\n{logs}")
            await asyncio.sleep(0.3)

    def _works(self, hosts: int) -> bool:
        with urlopen(f"{self.url}/healthz", timeout=5) as response:
            if json.load(response).get("status") != "ok":
                return False
        loaded = [
            state
            for state in self.hosts()
            if any(model["state"] == "ready" for model in state["models"])
        ]
        return len(loaded) >= hosts

    def hosts(self) -> list[dict[str, Any]]:
        """Return the states that hosts announced last. Raises `RedisError`."""
        with self.redis() as redis:
            values = [redis.get(key) for key in redis.keys("cs:host:*")]
        return [json.loads(value) for value in values if value]

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Fleet]:
        """Run all processes during the block."""
        self._plan()
        try:
            for name in self.members:
                self.start(name)
            await self.ready()
            yield self
        finally:
            last = ("nginx", "redis")
            first = [name for name in self.members if name not in last]
            await asyncio.gather(*(self.stop(name) for name in first))
            for name in last:
                await self.stop(name)
