"""`manage.py compare`: one question to several models, here and elsewhere, as a table."""

from __future__ import annotations

import asyncio
import json
import os
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.utils.translation import gettext as _

from chatsite.bench import site
from chatsite.bench.ask import Place, Reply, ask, base_of
from chatsite.bench.compare import new_key
from models_admin import catalogue

_QUESTION = "Explain in three sentences why the sky is blue."
_SHOWN = 60


class Command(BaseCommand):
    help = str(_("Asks several models the same, and shows how fast and how long they answer."))

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("questions", nargs="*", help=_("what is asked; a sample without it"))
        parser.add_argument("--file", type=Path, help=_("more questions, one a line"))
        parser.add_argument(
            "--model",
            action="append",
            default=[],
            metavar="NAME",
            help=_("a model of this site; all that are offered without it"),
        )
        parser.add_argument(
            "--endpoint",
            default=os.environ.get("OPENAI_BASE_URL", ""),
            metavar="URL",
            help=_("a server that speaks OpenAI's API (else OPENAI_BASE_URL)"),
        )
        parser.add_argument(
            "--remote-model",
            action="append",
            default=[],
            metavar="NAME",
            help=_("a model of that server"),
        )
        parser.add_argument(
            "--key-variable",
            default="OPENAI_API_KEY",
            metavar="NAME",
            help=_("the environment variable that holds its key"),
        )
        parser.add_argument("--no-local", action="store_true", help=_("only that server"))
        parser.add_argument("--system", default="", help=_("instructions for all of them"))
        parser.add_argument("--tokens", type=int, default=256, help=_("longest answer"))
        parser.add_argument("--json", action="store_true", help=_("one JSON object, no table"))

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
            raise CommandError(_("There is no model to ask. See --model and --endpoint."))
        url = f"http://{settings.ENV.host}:{settings.ENV.port}"
        if not local:
            replies = asyncio.run(_ask_all(remote, questions, options))
        else:
            try:
                with site.running(url):
                    replies = asyncio.run(_with_key(url, local, remote, questions, options))
            except site.SiteDidNotStart as error:
                raise CommandError(_("The site did not start. `manage.py up` says why.")) from error
        if options["json"]:
            found = [{"question": q, "replies": [r.as_dict() for r in rs]} for q, rs in replies]
            self.stdout.write(json.dumps(found, indent=2, ensure_ascii=False))
        else:
            for question, asked in replies:
                self._print(question, asked)
        if any(reply.error for _question, asked in replies for reply in asked):
            raise CommandError(_("Not all of them answered."))

    def _remote(self, options: dict[str, Any]) -> list[Place]:
        address = options["endpoint"]
        if options["remote_model"] and not address:
            raise CommandError(_("--remote-model needs --endpoint."))
        key = os.environ.get(options["key_variable"], "")
        base = base_of(address) if address else ""
        return [Place(address, base, key, name) for name in options["remote_model"]]

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
    url: str, local: list[str], remote: list[Place], questions: list[str], options: dict[str, Any]
) -> list[tuple[str, list[Reply]]]:
    user, key = await new_key()
    places = [Place(_("here"), f"{url}/v1", key, name) for name in local]
    try:
        return await _ask_all([*places, *remote], questions, options)
    finally:
        await user.adelete()


async def _ask_all(
    places: list[Place], questions: list[str], options: dict[str, Any]
) -> list[tuple[str, list[Reply]]]:
    """One at a time, so that none slows another. Each model is asked for a word first: loading it
    is not what is compared."""
    found: list[tuple[str, list[Reply]]] = [(question, []) for question in questions]
    for place in places:
        await ask(place, "Hi", most=1)
        for question, replies in found:
            replies.append(
                await ask(place, question, system=options["system"], most=options["tokens"])
            )
    return found
