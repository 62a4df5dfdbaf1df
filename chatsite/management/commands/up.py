"""`manage.py up`: run every process of the product on this machine until it is stopped."""

from __future__ import annotations

import asyncio
import os
from socket import gethostname
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandParser

from chatsite import supported
from chatsite.accounts.setup import setup_token
from chatsite.audit.record import record
from chatsite.env import Environment
from chatsite.sandbox import confine
from chatsite.supervisor import (
    arguments,
    data_dir,
    heartbeat,
    parts,
    prepare,
    probes,
    service_manager,
)
from chatsite.supervisor.leftovers import Register
from chatsite.supervisor.logstream import Output
from chatsite.supervisor.processes import product
from chatsite.supervisor.supervisor import Supervisor
from chatsite.version import product_version


class Command(BaseCommand):
    help = "Runs Redis, the web server, background jobs and the models, or some of them."
    # Each process runs its own checks; running them here too would only delay the start.
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        arguments.add_to(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        supported.require()
        environment: Environment = settings.ENV
        selected = parts.parse(options["only"])
        whole = selected == {*parts.PARTS}
        with data_dir.locked(environment.data_dir, () if whole else selected):
            data_dir.require_restored(environment.data_dir)
            output = Output(as_json=environment.log_format == "json", level=environment.log_level)
            try:
                _serve(environment, output, selected)
            finally:
                output.close()


def _serve(environment: Environment, output: Output, selected: frozenset[str]) -> None:
    confine.hide_memory()
    run = environment.data_dir / "run"
    register = Register(run / f"children{parts.suffix(selected)}.json")
    register.end_all(output.say)
    if "web" in selected:
        probes.check_port(environment.host, environment.port)
    if (free := data_dir.low_space(environment.data_dir)) is not None:
        output.say("Disk of the data folder is almost full", "WARNING", free_mib=free // 2**20)
    beats = heartbeat.prepare(environment.data_dir)
    redis = prepare.redis(environment) if needs_redis(environment, selected) else None
    token = None
    if selected != {"redis"}:
        if migrated := prepare.database():
            output.say("Applied database migrations", count=migrated)
        token = setup_token() if "web" in selected else None
        prepare.close_database()

    url = probes.public_url(environment)

    def on_ready() -> None:
        if token:
            output.announce(f"Set-up link: {url}setup/{token}/")
        if "web" in selected:
            output.announce(f"Ready: {url}")
            record(
                "server.started",
                via="system",
                version=product_version(),
                host=gethostname(),
                url=url,
            )
        else:
            output.announce(f"Ready: {', '.join(sorted(selected))}")
        service_manager.notify("READY=1")

    # The supervisor formats its children's logs, so it needs all fields.
    os.environ["CHATSITE_LOG_FORMAT"] = "json"
    os.environ["PYTHONUNBUFFERED"] = "1"
    supervisor = Supervisor(
        product(environment, redis, selected),
        output,
        register,
        probe=lambda: probes.parts_run(environment, selected, beats),
        on_ready=on_ready,
        hang_seconds=environment.hang_seconds,
    )
    try:
        asyncio.run(supervisor.run())
    finally:
        if "web" in selected:
            record("server.stopped", via="system", host=gethostname())


def needs_redis(environment: Environment, selected: frozenset[str]) -> bool:
    """Whether to start or check a Redis server now.

    The own Redis of another part may be started later; parts wait for it. Raises `CannotStart` if
    only Redis is to run, but an external server is used.
    """
    if environment.redis_url and selected == {"redis"}:
        raise probes.CannotStart(
            "--only redis: CHATSITE_REDIS_URL names another server. Unset it to run Redis here."
        )
    return bool(environment.redis_url) or "redis" in selected
