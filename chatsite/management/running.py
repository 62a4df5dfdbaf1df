"""The running site from the command line: a loop that reaches it, and which models are loaded."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from django.template.defaultfilters import filesizeformat
from redis.exceptions import RedisError

from chatsite.accounts.models import User
from chatsite.chat.runtime import Runtime, close_runtime, runtime
from chatsite.errors import ChatsiteError
from chatsite.inference import commands, status
from models_admin.models import ModelName

_LOAD_SECONDS = 300.0
_UNLOAD_SECONDS = 15.0
T = TypeVar("T")


class NotRunning(ChatsiteError):
    code = "not_running"
    message = "The site does not run. Start it first: make run"


@contextmanager
def visit() -> Iterator[asyncio.Runner]:
    """A loop whose `runtime` reaches the site. Raises `NotRunning` without a site."""

    async def answers() -> bool:
        return bool(await status.alive(runtime().redis))

    with asyncio.Runner() as runner:
        try:
            if not runner.run(answers()):
                raise NotRunning
            yield runner
        except RedisError:
            raise NotRunning from None
        finally:
            runner.run(close_runtime())


def at_the_site(work: Callable[[Runtime], Awaitable[T]]) -> T:
    """Runs ``work`` with the site's Redis. Raises `NotRunning` without a site."""

    async def connected() -> T:
        return await work(runtime())

    with visit() as runner:
        return runner.run(connected())


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
            if model.weights:
                line += f"  weights as {model.weights}"
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


def administrator() -> User:
    """In whose name the command line asks. Reads the database."""
    found = User.objects.filter(is_superuser=True, is_active=True).order_by("pk").first()
    if found is None:
        raise ChatsiteError("Nobody administers this site yet: manage.py createsuperuser")
    return found
