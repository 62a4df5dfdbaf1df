"""`manage.py up`: runs every process of the product on this machine until it is told to end."""

from __future__ import annotations

import asyncio
import os
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandParser

from chatsite.accounts.setup import setup_token
from chatsite.env import Environment
from chatsite.supervisor import arguments, data_dir, prepare, probes
from chatsite.supervisor.leftovers import Register
from chatsite.supervisor.logstream import Output
from chatsite.supervisor.processes import product
from chatsite.supervisor.supervisor import Supervisor


class Command(BaseCommand):
    help = "Runs Redis, the web server, background jobs and the models until Ctrl-C."
    # Each process checks itself; here they would only delay the start.
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        arguments.add_to(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        environment: Environment = settings.ENV
        with data_dir.locked(environment.data_dir):
            output = Output(as_json=environment.log_format == "json", level=environment.log_level)
            try:
                _serve(environment, output)
            finally:
                output.close()


def _serve(environment: Environment, output: Output) -> None:
    register = Register(environment.data_dir / "run" / "children.json")
    register.end_all(output.say)
    probes.check_port(environment.host, environment.port)
    if (free := data_dir.low_space(environment.data_dir)) is not None:
        output.say(f"Only {free // 2**20} MiB are free on the data folder's disk.", "WARNING")
    redis = prepare.redis(environment)
    if migrated := prepare.database():
        output.say(f"Applied {migrated} database migrations.")
    token = setup_token()
    prepare.close_database()

    url = probes.public_url(environment)

    def on_ready() -> None:
        if token:
            output.announce(f"Set-up link: {url}setup/{token}/")
        output.announce(f"Ready: {url}")

    # The supervisor renders what its children log, so they send it whole.
    os.environ["CHATSITE_LOG_FORMAT"] = "json"
    os.environ["PYTHONUNBUFFERED"] = "1"
    supervisor = Supervisor(
        product(environment, redis),
        output,
        register,
        probe=lambda: probes.site_answers(environment.host, environment.port),
        on_ready=on_ready,
    )
    asyncio.run(supervisor.run())
