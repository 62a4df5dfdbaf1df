"""`manage.py engines`: remote servers that compute answers."""

from __future__ import annotations

import asyncio
import json
import sys
from argparse import ArgumentParser
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
from asgiref.sync import async_to_sync
from django.core.management.base import BaseCommand, CommandError
from redis.exceptions import RedisError

from chatsite.errors import ChatsiteError
from chatsite.hosts import commands
from chatsite.inference.engines.known import server_of
from chatsite.inference.remote.connect import connect
from chatsite.inference.remote.contract import Discovery, RemoteError
from chatsite.secrets import UnreadableSecret
from models_admin.engines import work
from models_admin.engines.models import CAPABILITIES, Engine, EngineKind
from models_admin.models import ModelName
from models_admin.sources import egress

_CHECK_SECONDS = 60.0


class Command(BaseCommand):
    help = "Adds, lists, changes, checks and removes remote engines."

    def add_arguments(self, parser: ArgumentParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True)
        add = actions.add_parser("add", help="add an engine, check it and offer its models")
        add.add_argument("name", help="name of the engine, for administrators")
        add.add_argument("url", help="its address, such as http://gpu1:8000")
        add.add_argument("--kind", choices=EngineKind.values, required=True, help="its software")
        _add_values(add)
        change = actions.add_parser("set", help="change an engine")
        change.add_argument("name", help="name of the engine")
        change.add_argument("--url", help="its address")
        change.add_argument("--kind", choices=EngineKind.values, help="its software")
        change.add_argument("--rename", metavar="NAME", help="its new name")
        _add_values(change)
        use = change.add_mutually_exclusive_group()
        use.add_argument("--enable", action="store_true", help="send requests to it")
        use.add_argument("--disable", action="store_true", help="send no requests to it")
        listing = actions.add_parser("list", help="print all engines")
        listing.add_argument("--json", action="store_true", help="print JSON")
        check = actions.add_parser("check", help="contact an engine from this machine")
        check.add_argument("name", help="name of the engine")
        remove = actions.add_parser("rm", help="remove an engine and the models only it has")
        remove.add_argument("name", help="name of the engine")

    def handle(self, *args: object, **options: Any) -> None:
        actions: dict[str, Callable[..., None]] = {
            "add": self._add,
            "set": self._set,
            "list": self._list,
            "check": self._check,
            "rm": self._remove,
        }
        try:
            actions[options["action"]](**options)
        except ChatsiteError as error:
            raise CommandError(str(error)) from error

    def _add(self, *, name: str, url: str, kind: str, **options: Any) -> None:
        engine = Engine(name=name, url=url, kind=kind)
        _apply(engine, options)
        work.store(engine, key=_key(options) or "")
        self.stdout.write(f"{engine} was added.")
        try:
            self._contact(engine)
        except CommandError as error:
            raise CommandError(
                f"{error} The engine is kept, and is checked again until it responds."
            ) from error

    def _set(self, *, name: str, **options: Any) -> None:
        engine = work.find(name)
        engine.name = options["rename"] or engine.name
        engine.url = options["url"] or engine.url
        engine.kind = options["kind"] or engine.kind
        if options["enable"] or options["disable"]:
            engine.enabled = options["enable"]
        _apply(engine, options)
        work.store(engine, key=_key(options))
        tell_hosts(engine)
        self.stdout.write(f"{engine} was changed.")

    def _list(self, *, json: bool, **_options: Any) -> None:
        rows = [_row(engine) for engine in Engine.objects.prefetch_related("models")]
        if json:
            self.stdout.write(_dump(rows))
            return
        if not rows:
            self.stdout.write("There is no engine.")
        for row in rows:
            key = ", with a key" if row["key"] else ""
            off = "" if row["enabled"] else ", not in use"
            self.stdout.write(
                f"{row['name']}  {row['kind']}  {row['url']}  at most {row['concurrency']} "
                f"requests{key}{off}"
            )
            if row["error"]:
                self.stdout.write(f"  {row['error']}")
            for model in row["models"]:
                names = ", ".join(model["names"]) or "not in the list of models"
                context = f", context {model['context']}" if model["context"] else ""
                self.stdout.write(
                    f"  {model['name']}: {names}{context}; {', '.join(model['capabilities'])}"
                )

    def _check(self, *, name: str, **_options: Any) -> None:
        self._contact(work.find(name))

    def _remove(self, *, name: str, **_options: Any) -> None:
        engine = work.find(name)
        names = work.remove(engine)
        tell_hosts(None)
        self.stdout.write(f"{engine} was removed.")
        for one in names:
            self.stdout.write(f"{one} was removed with it.")

    def _contact(self, engine: Engine) -> None:
        """Ask the engine for its models and save them. Raises `CommandError`."""
        try:
            found = asyncio.run(_discover(engine))
        except UnreadableSecret as error:
            raise CommandError(
                f"The key of {engine} was encrypted with another secret key. Set it again."
            ) from error
        except (RemoteError, TimeoutError) as error:
            text = str(error) or f"no reply within {_CHECK_SECONDS:.0f} s"
            work.save_error(engine.pk, text)
            raise CommandError(f"{engine} can't be used: {text}.") from error
        models = [
            work.Found(
                one.name,
                one.context_length,
                one.slots,
                frozenset(ability.value for ability in one.capabilities),
            )
            for one in found.models
        ]
        added = work.save_discovery(engine.pk, found.version, models)
        tell_hosts(engine)
        count = f"{len(models)} model{'' if len(models) == 1 else 's'}"
        self.stdout.write(f"{engine} responds ({found.version or 'version unknown'}): {count}.")
        for one in added:
            self.stdout.write(f"{one} is offered now.")


def _add_values(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--key-file", metavar="PATH", help="file with its key; - reads the standard input"
    )
    parser.add_argument("--concurrency", type=int, help="requests that may run there at once")
    parser.add_argument("--timeout", type=int, help="seconds without output until a retry")
    parser.add_argument("--context", type=int, help="tokens of a prompt and its answer")
    parser.add_argument(
        "--only", action="append", metavar="MODEL", help="offer only this model; repeatable"
    )
    parser.add_argument(
        "--capability",
        action="append",
        default=[],
        metavar="NAME=yes|no|auto",
        help=f"correct what it reports: {', '.join(CAPABILITIES)}",
    )


def _apply(engine: Engine, options: dict[str, Any]) -> None:
    for field, option in (
        ("concurrency", "concurrency"),
        ("timeout_seconds", "timeout"),
        ("context", "context"),
        ("only", "only"),
    ):
        if options[option] is not None:
            setattr(engine, field, options[option])
    for text in options["capability"]:
        name, _equals, value = text.partition("=")
        if name not in CAPABILITIES or value not in {"yes", "no", "auto"}:
            known = ", ".join(CAPABILITIES)
            raise CommandError(f"--capability {text}: use NAME=yes, no or auto. Names: {known}")
        engine.overrides = {key: on for key, on in engine.overrides.items() if key != name}
        if value != "auto":
            engine.overrides[name] = value == "yes"


def _key(options: dict[str, Any]) -> str | None:
    path = options["key_file"]
    if path is None:
        return None
    try:
        text = sys.stdin.read() if path == "-" else Path(path).read_text()
    except OSError as error:
        raise CommandError(f"{path} can't be read: {error.strerror}.") from error
    return text.strip()


async def _discover(engine: Engine) -> Discovery:
    url = httpx.URL(engine.url)
    client = connect(server_of(engine), egress=lambda target: egress.engine_addresses(url, target))
    try:
        async with asyncio.timeout(_CHECK_SECONDS):
            return await client.discover()
    finally:
        await client.close()


def tell_hosts(engine: Engine | None) -> None:
    """Tell the hosts; without Redis they notice within seconds of their start."""
    try:
        async_to_sync(commands.check_engine)(engine.pk if engine else None)
    except (RedisError, OSError):
        pass


def _row(engine: Engine) -> dict[str, Any]:
    names: dict[str, list[str]] = {}
    for name, version in ModelName.objects.exclude(version__remote={}).values_list(
        "name", "version"
    ):
        names.setdefault(version, []).append(name)
    return {
        "name": engine.name,
        "kind": engine.kind,
        "url": engine.url,
        "key": bool(engine.key),
        "concurrency": engine.concurrency,
        "timeout": engine.timeout_seconds,
        "context": engine.context,
        "enabled": engine.enabled,
        "version": engine.version,
        "error": engine.error,
        "models": [
            {
                "name": one.name,
                "names": names.get(one.version_id or "", []),
                "context": one.context,
                "slots": one.slots,
                "capabilities": one.capabilities,
            }
            for one in engine.models.all()
            if one.present
        ],
    }


def _dump(rows: list[dict[str, Any]]) -> str:
    return json.dumps(rows, indent=2, ensure_ascii=False)
