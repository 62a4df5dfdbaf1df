"""What `manage.py models` asks of the running site: chat, and which models are loaded."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from asgiref.sync import sync_to_async
from django.template.defaultfilters import filesizeformat
from redis.exceptions import RedisError

from chatsite.accounts.keys import Caller
from chatsite.accounts.models import User
from chatsite.api.many import Wanted, ask_all
from chatsite.api.requests import Piece
from chatsite.chat.runtime import Runtime, close_runtime, runtime
from chatsite.engine.messages import ChatMessage
from chatsite.errors import ChatsiteError
from chatsite.inference import commands, status
from models_admin import options
from models_admin.models import ModelName

_LOAD_SECONDS = 300.0
_UNLOAD_SECONDS = 15.0
Write = Callable[[str], None]
T = TypeVar("T")


class NotRunning(ChatsiteError):
    code = "not_running"
    message = "The site does not run. Start it first: make run"


def at_the_site(work: Callable[[Runtime], Awaitable[T]]) -> T:
    """Runs ``work`` with the site's Redis. Raises `NotRunning` without a site."""

    async def connected() -> T:
        try:
            if not await status.alive(runtime().redis):
                raise NotRunning
            return await work(runtime())
        except RedisError:
            raise NotRunning from None
        finally:
            await close_runtime()

    return asyncio.run(connected())


async def loaded(site: Runtime) -> list[str]:
    """A line per model and host: its state, memory, busy slots and context; and one per host."""
    lines = []
    for host in await status.alive(site.redis):
        for model in host.models:
            line = (
                f"{model.name}  {model.state}  {filesizeformat(model.rss_bytes)}  "
                f"{model.busy} of {model.slots} slots  {host.hostname}"
            )
            if model.context:
                line += f"  {model.context} tokens each"
            if model.wanted_context:
                line += f" ({model.wanted_context} do not fit memory)"
            if model.devices:
                on = ", ".join(f"{n} {filesizeformat(size)}" for n, size in model.devices.items())
                line += f"  {model.device_layers} of {model.layers} layers on {on}"
            if model.device_problem:
                line += f" (more were not taken: {model.device_problem})"
            lines.append(f"{line}  {model.reason}".rstrip())
        lines += [
            f"{host.hostname}: {device.name}, {device.description}: "
            f"{filesizeformat(device.promised)} promised, {filesizeformat(device.free)} of "
            f"{filesizeformat(device.total)} were free"
            for device in host.devices
        ]
        if host.memory:
            lines.append(
                f"{host.hostname}: {filesizeformat(host.memory.committed)} of "
                f"{filesizeformat(host.memory.budget)} for models are promised, "
                f"{filesizeformat(host.memory.available)} of "
                f"{filesizeformat(host.memory.total)} are free"
            )
    return lines


async def load(site: Runtime, model: ModelName) -> str:
    await commands.load(site.redis, model.name)

    async def found() -> str | None:
        known = status.best(await status.alive(site.redis), model.name)
        if known and known.state == "failed":
            raise ChatsiteError(f"{model} can't be loaded: {known.reason}")
        return f"{model} is loaded." if known and known.state == "ready" else None

    late = f"{model} is not loaded after {_LOAD_SECONDS:g} s; see: manage.py models ps"
    return await _until(found, _LOAD_SECONDS, late)


async def unload(site: Runtime, model: ModelName) -> str:
    if busy := await commands.unload(site.redis, model.version_id):
        raise ChatsiteError(f"{model} stays: it is writing {busy} answers. Try again later.")

    async def gone() -> str | None:
        hosts = await status.alive(site.redis)
        held = any(m.digest == model.version_id for host in hosts for m in host.models)
        return None if held else f"{model} is not loaded."

    return await _until(gone, _UNLOAD_SECONDS, f"{model} stays: somebody has just asked it.")


async def _until(found: Callable[[], Awaitable[str | None]], seconds: float, late: str) -> str:
    try:
        async with asyncio.timeout(seconds):
            while (text := await found()) is None:
                await asyncio.sleep(0.1)
            return text
    except TimeoutError:
        raise ChatsiteError(late) from None


class Session:
    """A chat in the terminal, as an administrator; nothing of it is kept."""

    def __init__(self, site: Runtime, model: str, write: Write) -> None:
        self._site, self._model, self._write = site, model, write
        self._system = ""
        self._history: list[ChatMessage] = []
        self._options: dict[str, Any] = {}

    async def run(self, prompt: str) -> None:
        """Answers ``prompt``, or without one every line until `/bye` or the end of input."""
        caller = Caller(await sync_to_async(_administrator)())
        if prompt:
            await self._ask(caller, prompt)
            return
        while True:
            if sys.stdin.isatty():
                self._write(">>> ")
            line = await asyncio.to_thread(sys.stdin.readline)
            if not line or line.strip() == "/bye":
                return
            try:
                if line.startswith("/"):
                    self._command(line.strip())
                elif line.strip():
                    await self._ask(caller, line.strip())
            except ChatsiteError as error:
                self._write(f"{error}\n")

    def _command(self, line: str) -> None:
        match line.split(maxsplit=3):
            case ["/clear"]:
                self._history.clear()
            case ["/set", "system", *_]:
                self._system = line.partition("system")[2].strip()
            case ["/set", "parameter", name, value]:
                typed = options.from_text(name, value)
                options.sampling({name: typed})
                self._options[name] = typed
            case _:
                self._write("/bye  /clear  /set system TEXT  /set parameter NAME VALUE\n")

    async def _ask(self, caller: Caller, text: str) -> None:
        question = ChatMessage("user", text)
        head = [ChatMessage("system", self._system)] if self._system else []
        said = options.sampling(self._options)
        wanted = Wanted(self._model, [*head, *self._history, question], said=said)
        parts = []
        async with ask_all(self._site, caller, [wanted]) as answers:
            async for _index, event in answers.events():
                if isinstance(event, Piece):
                    parts.append(event.text)
                    self._write(event.text)
        self._write("\n")
        self._history += [question, ChatMessage("assistant", "".join(parts))]


def _administrator() -> User:
    found = User.objects.filter(is_superuser=True, is_active=True).order_by("pk").first()
    if found is None:
        raise ChatsiteError("Nobody administers this site yet: manage.py createsuperuser")
    return found
