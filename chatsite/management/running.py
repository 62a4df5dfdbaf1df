"""Access to the running site from the command line: its event loop and its loaded models."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from redis.exceptions import RedisError

from chatsite.accounts.models import User
from chatsite.answers.runtime import Runtime, close_runtime, runtime
from chatsite.errors import ChatsiteError
from chatsite.hosts import commands, status
from chatsite.sizes import file_size
from models_admin.models import ModelName

_LOAD_SECONDS = 300.0
_UNLOAD_SECONDS = 15.0
T = TypeVar("T")


class NotRunning(ChatsiteError):
    code = "not_running"
    message = "The site is not running. Start it: make run"


@contextmanager
def visit() -> Iterator[asyncio.Runner]:
    """Yield a runner whose `runtime` is connected to the site.

    Raises `NotRunning` if the site is not running.
    """

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
    """Run ``work`` with the site's runtime. Raises `NotRunning` if the site is not running."""

    async def connected() -> T:
        return await work(runtime())

    with visit() as runner:
        return runner.run(connected())


async def loaded(site: Runtime) -> list[str]:
    """Return the lines of `models ps`.

    There is a line per model and host with its state, memory, busy slots and context, one per
    device, and one per host.
    """
    lines = []
    for host in await status.alive(site.redis):
        for model in host.models:
            line = (
                f"{model.name}  {model.state}  {file_size(model.rss_bytes)}  "
                f"{model.busy} of {model.slots} slots  {host.hostname}"
            )
            if model.context:
                line += f"  {model.context} tokens per slot"
            if model.wanted_context:
                line += f" ({model.wanted_context} do not fit in memory)"
            if model.weights:
                line += f"  weights as {model.weights}"
            if model.devices:
                on = ", ".join(f"{n} {file_size(size)}" for n, size in model.devices.items())
                line += f"  {model.device_layers} of {model.layers} layers on {on}"
            if model.device_problem:
                line += f" (more layers could not be offloaded: {model.device_problem})"
            lines.append(f"{line}  {model.reason}".rstrip())
        lines += [
            f"{host.hostname}: {device.name}, {device.description}: "
            f"{file_size(device.promised)} reserved, {file_size(device.free)} of "
            f"{file_size(device.total)} free at start"
            for device in host.devices
        ]
        if host.memory:
            lines.append(
                f"{host.hostname}: {file_size(host.memory.committed)} of "
                f"{file_size(host.memory.budget)} for models are reserved, "
                f"{file_size(host.memory.available)} of "
                f"{file_size(host.memory.total)} are free"
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
        raise ChatsiteError(
            f"{model} can't be unloaded: it is generating {busy} answers. Try again later."
        )

    async def gone() -> str | None:
        hosts = await status.alive(site.redis)
        held = any(m.digest == model.version_id for host in hosts for m in host.models)
        return None if held else f"{model} is not loaded."

    late = f"{model} was not unloaded: it has just received a request."
    return await _until(gone, _UNLOAD_SECONDS, late)


async def _until(found: Callable[[], Awaitable[str | None]], seconds: float, late: str) -> str:
    try:
        async with asyncio.timeout(seconds):
            while (text := await found()) is None:
                await asyncio.sleep(0.1)
            return text
    except TimeoutError:
        raise ChatsiteError(late) from None


def administrator() -> User:
    """Return the administrator under whose account the command line sends requests.

    Reads the database. Raises `ChatsiteError` if there is none.
    """
    found = User.objects.filter(is_superuser=True, is_active=True).order_by("pk").first()
    if found is None:
        raise ChatsiteError("There is no administrator yet. Run: manage.py createsuperuser")
    return found
