"""Actions of `manage.py models` about memory: which models fit, and load preferences."""

from __future__ import annotations

import json as json_module
from argparse import _SubParsersAction
from collections.abc import Callable
from typing import Any

import msgspec
from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.management.base import CommandError, OutputWrapper
from django.db import transaction

from chatsite import durations
from chatsite.capacity.budget import Budget
from chatsite.sizes import file_size
from models_admin import catalogue, catalogue_data, fit
from models_admin.models import ModelName

_DEFAULT = "default"


class MemoryActions:
    def __init__(self, stdout: OutputWrapper) -> None:
        self._out = stdout

    @staticmethod
    def add_parsers(actions: _SubParsersAction[Any]) -> None:
        listing = actions.add_parser(
            "catalogue", help="list recommended models and whether they fit"
        )
        listing.add_argument("--json", action="store_true", help="write JSON")

        setting = actions.add_parser("set", help="set context, slots and memory use of a model")
        setting.add_argument("name", metavar="NAME")
        server = f"; {_DEFAULT!r} for the server's setting"
        setting.add_argument("--context", metavar="TOKENS", help=f"context per answer{server}")
        setting.add_argument("--slots", metavar="N", help=f"concurrent answers{server}")
        setting.add_argument(
            "--keep-alive", metavar="TIME", help=f"such as 5m, 3600 or -1 (no limit){server}"
        )
        setting.add_argument(
            "--answer-tokens", metavar="TOKENS", help=f"maximum answer length in a chat{server}"
        )
        setting.add_argument(
            "--default", action="store_true", help="make it the default for new chats"
        )
        pinned = setting.add_mutually_exclusive_group()
        pinned.add_argument(
            "--pin",
            dest="pinned",
            action="store_const",
            const=True,
            default=None,
            help="keep the model loaded",
        )
        pinned.add_argument(
            "--unpin",
            dest="pinned",
            action="store_const",
            const=False,
            help="do not keep the model loaded",
        )

    def handlers(self) -> dict[str, Callable[..., None]]:
        return {"catalogue": self._catalogue, "set": self._set}

    def _catalogue(self, *, json: bool, **_options: Any) -> None:
        room, _available = Budget(settings.ENV.memory_mb << 20).room()
        rows = []
        for entry in catalogue_data.entries():
            for file in entry.files:
                found = fit.fit(
                    entry.shape_of(file),
                    room,
                    context=settings.ENV.context,
                    slots=settings.ENV.slots,
                )
                rows.append((entry, file, found))
        if json:
            self._out.write(
                json_module.dumps(
                    [
                        msgspec.to_builtins(file)
                        | {"name": entry.name, "purpose": entry.purpose, "licence": entry.licence}
                        | {"parameters": entry.parameters, "about": entry.about}
                        | {"verdict": found.verdict, "memory": found.need.total, "fit": str(found)}
                        for entry, file, found in rows
                    ],
                    indent=2,
                )
            )
            return
        width = max(len(file.source) for _entry, file, _found in rows)
        for entry, file, found in rows:
            about = "" if file.exact else "about "
            self._out.write(
                f"{file.source:{width}}  {entry.purpose:9}  {file.quantization:6}  "
                f"{about + file_size(file.size):>14}  {found}"
            )

    def _set(
        self,
        *,
        name: str,
        context: str | None,
        slots: str | None,
        keep_alive: str | None,
        answer_tokens: str | None,
        pinned: bool | None,
        default: bool,
        **_options: Any,
    ) -> None:
        model = catalogue.require(name)
        changes: dict[str, Any] = {}
        try:
            if answer_tokens is not None:
                limit = None if answer_tokens == _DEFAULT else int(answer_tokens)
                changes["answer_tokens"] = limit
            if context is not None:
                changes["context"] = None if context == _DEFAULT else int(context)
            if slots is not None:
                changes["slots"] = None if slots == _DEFAULT else int(slots)
            if keep_alive is not None:
                changes["keep_alive"] = _seconds(keep_alive)
            if pinned is not None:
                changes["pinned"] = pinned
            for field, value in changes.items():
                setattr(model, field, value)
            model.clean_fields(exclude=["configuration", "previous_configuration"])
        except ValidationError as error:
            raise CommandError(" ".join(error.messages)) from error
        except ValueError as error:
            raise CommandError(f"{error}.") from error
        with transaction.atomic():
            ModelName.objects.filter(pk=model.pk).update(**changes)
            if default:
                catalogue.set_default(model)
        held = {
            "context": model.context,
            "slots": model.slots,
            "keep-alive": model.keep_alive,
            "pinned": model.pinned,
        }
        words = [f"{key} {_DEFAULT if value is None else value}" for key, value in held.items()]
        if answer_tokens is not None:
            words.append(f"maximum answer length {model.answer_tokens or _DEFAULT}")
        if default:
            words.append("default for new chats")
        self._out.write(f"{model}: {', '.join(words)}")


def _seconds(written: str) -> float | None:
    if written == _DEFAULT:
        return None
    return durations.seconds(written if written[-1:].isalpha() else float(written))
