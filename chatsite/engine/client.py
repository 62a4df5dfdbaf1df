"""The host's side of an engine child (asyncio).

client = EngineClient("smollm2:135m", on_log=log.info)
loaded = await client.start(load, on_loading)     # raises EngineError
await client.send(Generate(...))                  # raises EngineGone
async for frame in client:                        # until the child is gone
    ...
reason = await client.wait()                      # "killed by SIGSEGV"
await client.stop()
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import Literal

from chatsite.engine import frames, spawn
from chatsite.engine.messages import Load, Loaded, LoadFailed, Loading, Shutdown, ToChild, ToHost

log = logging.getLogger(__name__)

# Seconds that a child has for each way of ending, in `stop`.
SHUTDOWN_SECONDS = 3.0
TERMINATE_SECONDS = 2.0
# A child reads frames on a thread of its own, so one that takes none for so long never will.
SEND_SECONDS = 30.0

OnLoading = Callable[[float], Awaitable[None] | None]


class EngineError(Exception):
    """The child did not come up, or is gone."""


class EngineLoadFailed(EngineError):
    """The child said that it can't load the model; ``code`` and the message are its own."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class EngineGone(EngineError):
    """The child ended; the message says how (``killed by SIGSEGV``)."""


class EngineClient:
    """One child, from start to end; not to be started twice. ``on_log`` gets each line of its
    standard error. One task may iterate; any may `send`. ``heard`` is the monotonic time of the
    last frame."""

    def __init__(
        self,
        name: str,
        *,
        backend: Literal["llama", "scripted"] = "llama",
        on_log: Callable[[str], None] = log.info,
    ) -> None:
        self.name = name
        self._backend = backend
        self._on_log = on_log
        self._child: spawn.Child | None = None
        self._logging: asyncio.Task[None] | None = None
        self._sending = asyncio.Lock()
        self.heard = time.monotonic()

    @property
    def pid(self) -> int | None:
        return self._child.process.pid if self._child else None

    @property
    def alive(self) -> bool:
        return self._child is not None and self._child.process.returncode is None

    @property
    def exit_reason(self) -> str:
        """How the child ended; empty while it lives or before it started."""
        if self._child is None or self._child.process.returncode is None:
            return ""
        return spawn.exit_reason(self._child.process.returncode)

    async def start(self, load: Load, on_loading: OnLoading | None = None) -> Loaded:
        """Starts the child and waits until the model answers. ``on_loading`` gets the progress,
        0 to 1. Raises `EngineLoadFailed` or `EngineGone`; no child is left then, nor when the
        waiting is cancelled."""
        arguments = ["--name", self.name, "--backend", self._backend]
        self._child = child = await spawn.start(arguments)
        # What is under way is bounded by the slots, so that a child that is busy with one long
        # prompt holds up nobody who sends to another.
        child.stdin.transport.set_write_buffer_limits(high=frames.MAX_FRAME)
        self._logging = asyncio.create_task(spawn.read_lines(child.stderr, self._on_log))
        try:
            await self.send(load)
            return await self._loaded(on_loading)
        except BaseException:
            self.kill()
            await asyncio.shield(self.wait())
            raise

    async def send(self, frame: ToChild) -> None:
        """Raises `EngineGone`, or `frames.FrameTooLarge` with nothing sent. Waits only for a child
        that is frames behind; one that stays so is killed."""
        if self._child is None:
            raise EngineGone("not started")
        try:
            async with asyncio.timeout(SEND_SECONDS), self._sending:
                await frames.transmit(self._child.stdin, frame)
        except TimeoutError as error:
            log.error("engine %s reads nothing any more and is killed", self.name)
            self.kill()
            raise EngineGone(await self.wait()) from error
        except (ConnectionError, RuntimeError) as error:
            raise EngineGone(await self.wait()) from error

    def kill(self) -> None:
        """At once; whoever iterates or waits hears of it."""
        if self._child is not None:
            with suppress(ProcessLookupError):
                self._child.process.kill()

    async def __aiter__(self) -> AsyncIterator[ToHost]:
        """Frames until the child closes the pipe. A child that sends nonsense is killed."""
        while (frame := await self._receive()) is not None:
            yield frame

    async def wait(self) -> str:
        """Waits for the end, and for its last log lines; returns `exit_reason`."""
        if self._child is None:
            return "not started"
        await self._child.process.wait()
        if self._logging is not None:
            await asyncio.wait([self._logging], timeout=1)
        return self.exit_reason

    async def stop(self) -> str:
        """Ends the child: asks, then terminates, then kills. Within 6 s; requests that run are
        dropped. Returns `exit_reason`. Safe to call at any time, more than once."""
        if self._child is None:
            return "not started"
        process = self._child.process
        if process.returncode is None:
            with suppress(EngineGone, TimeoutError):
                async with asyncio.timeout(SHUTDOWN_SECONDS):
                    await self.send(Shutdown())
                    await process.wait()
        for end, seconds in ((process.terminate, TERMINATE_SECONDS), (process.kill, None)):
            if process.returncode is None:
                with suppress(ProcessLookupError, TimeoutError):
                    end()
                    async with asyncio.timeout(seconds):
                        await process.wait()
        self._child.stdin.close()
        return await self.wait()

    async def _loaded(self, on_loading: OnLoading | None) -> Loaded:
        while (frame := await self._receive()) is not None:
            match frame:
                case Loading() if on_loading is not None:
                    if inspect.isawaitable(result := on_loading(frame.progress)):
                        await result
                case Loaded():
                    return frame
                case LoadFailed():
                    raise EngineLoadFailed(frame.code, frame.message)
                case _:
                    pass
        raise EngineGone(await self.wait())

    async def _receive(self) -> ToHost | None:
        if self._child is None:
            raise EngineGone("not started")
        try:
            frame = await frames.receive(self._child.stdout)
        except frames.FrameError:
            log.exception("engine %s speaks nonsense and is killed", self.name)
            self.kill()
            return None
        self.heard = time.monotonic()
        return frame
