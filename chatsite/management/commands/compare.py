"""`manage.py compare`: the same questions to local and remote models, as a table."""

from __future__ import annotations

import asyncio
import json
import os
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from asgiref.sync import sync_to_async
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.utils.translation import gettext as _

from chatsite.bench import site, users
from chatsite.bench.target_client import Reply, Target, ask, base_of
from chatsite.env import in_url
from models_admin import catalogue

_QUESTION = "Explain in three sentences why the sky is blue."
_SHOWN = 60


class Command(BaseCommand):
    help = str(
        _("Asks several models the same questions and compares speed and length of the answers.")
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "questions", nargs="*", help=_("questions to ask; a sample question by default")
        )
        parser.add_argument("--file", type=Path, help=_("file with more questions, one per line"))
        parser.add_argument(
            "--model",
            action="append",
            default=[],
            metavar="NAME",
            help=_("model of this site; all enabled models by default"),
        )
        parser.add_argument(
            "--endpoint",
            default=os.environ.get("OPENAI_BASE_URL", ""),
            metavar="URL",
            help=_("server with OpenAI's API (default: OPENAI_BASE_URL)"),
        )
        parser.add_argument(
            "--remote-model",
            action="append",
            default=[],
            metavar="NAME",
            help=_("model of that server"),
        )
        parser.add_argument(
            "--key-variable",
            default="OPENAI_API_KEY",
            metavar="NAME",
            help=_("environment variable with its key"),
        )
        parser.add_argument("--no-local", action="store_true", help=_("ask only that server"))
        parser.add_argument("--system", default="", help=_("system prompt for all models"))
        parser.add_argument(
            "--tokens", type=int, default=256, help=_("maximum answer length in tokens")
        )
        parser.add_argument(
            "--json", action="store_true", help=_("write one JSON object instead of a table")
        )

    def handle(self, *args: Any, **options: Any) -> None:
        questions = [*options["questions"]]
        if options["file"]:
            try:
                lines = options["file"].read_text().splitlines()
            except OSError as error:
                raise CommandError(str(error)) from error
            questions += [line.strip() for line in lines if line.strip()]
        questions = questions or [_QUESTION]
        local = [] if options["no_local"] else options["model"] or _offered()
        remote = self._remote(options)
        if not local and not remote:
            raise CommandError(_("There is no model to compare. Use --model or --endpoint."))
        url = f"http://{in_url(settings.ENV.host)}:{settings.ENV.port}"
        if not local:
            replies = asyncio.run(_ask_all(remote, questions, options))
        else:
            try:
                with site.running(url):
                    replies = asyncio.run(_with_key(url, local, remote, questions, options))
            except site.SiteDidNotStart as error:
                raise CommandError(
                    _("The site did not start. Run `manage.py up` to see the reason.")
                ) from error
        if options["json"]:
            found = [{"question": q, "replies": [r.as_dict() for r in rs]} for q, rs in replies]
            self.stdout.write(json.dumps(found, indent=2, ensure_ascii=False))
        else:
            for question, asked in replies:
                self._print(question, asked)
        if any(reply.error for _question, asked in replies for reply in asked):
            raise CommandError(_("Not all models answered."))

    def _remote(self, options: dict[str, Any]) -> list[Target]:
        address = options["endpoint"]
        if options["remote_model"] and not address:
            raise CommandError(_("--remote-model needs --endpoint."))
        key = os.environ.get(options["key_variable"], "")
        base = base_of(address) if address else ""
        return [Target(address, base, key, name) for name in options["remote_model"]]

    def _print(self, question: str, replies: list[Reply]) -> None:
        self.stdout.write(f"\n{question}\n\n")
        names = [_("model"), _("first text"), _("total"), _("tokens"), _("tokens/s")]
        label = [f"{reply.model} ({reply.server})" for reply in replies]
        width = max(len(names[0]), *map(len, label))
        row = f"{{:{width}}}  {{:>10}}  {{:>10}}  {{:>8}}  {{:>9}}  {{}}\n"
        self.stdout.write(row.format(*names, _("answer")), ending="")
        for reply, name in zip(replies, label, strict=True):
            said = " ".join((reply.error or reply.answer).split())
            shown = said if len(said) <= _SHOWN else f"{said[:_SHOWN]}…"
            about = "" if reply.counted or reply.error else "~"
            self.stdout.write(
                row.format(
                    name,
                    _ms(reply.ttft_ms),
                    _ms(reply.total_ms),
                    f"{about}{reply.tokens}",
                    "-" if reply.tokens_per_s is None else f"{reply.tokens_per_s:.1f}",
                    shown,
                ),
                ending="",
            )


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f} ms"


def _offered() -> list[str]:
    return [str(model["name"]) for model in catalogue.offered()]


async def _with_key(
    url: str, local: list[str], remote: list[Target], questions: list[str], options: dict[str, Any]
) -> list[tuple[str, list[Reply]]]:
    user, key = await sync_to_async(users.with_key)()
    places = [Target(_("this site"), f"{url}/v1", key, name) for name in local]
    try:
        return await _ask_all([*places, *remote], questions, options)
    finally:
        await sync_to_async(users.remove)([user])


async def _ask_all(
    places: list[Target], questions: list[str], options: dict[str, Any]
) -> list[tuple[str, list[Reply]]]:
    """Ask one model at a time, so that none slows another.

    Each model gets a short request first, which keeps its load time out of the comparison.
    """
    found: list[tuple[str, list[Reply]]] = [(question, []) for question in questions]
    for place in places:
        await ask(place, "Hi", most=1)
        for question, replies in found:
            replies.append(
                await ask(place, question, system=options["system"], most=options["tokens"])
            )
    return found
