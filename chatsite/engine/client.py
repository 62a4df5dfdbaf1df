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

from chatsite.engine.contract import frames
from chatsite.engine.contract.messages import (
    Load,
    Loaded,
    LoadFailed,
    Loading,
    Shutdown,
    ToChild,
    ToHost,
)
from chatsite.sandbox import log_lines, spawn

log = logging.getLogger(__name__)

# Timeouts in seconds for each stage of `stop`.
SHUTDOWN_SECONDS = 3.0
TERMINATE_SECONDS = 2.0
# Seconds. A child reads frames on a dedicated thread, so one that reads none for this long is
# stuck.
SEND_SECONDS = 30.0

OnLoading = Callable[[float], Awaitable[None] | None]


class EngineError(Exception):
    """The child did not start, or has ended."""


class EngineLoadFailed(EngineError):
    """The child reported that it can't load the model; ``code`` and the message are the child's."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class EngineGone(EngineError):
    """The child has ended; the message gives the reason (``killed by SIGSEGV``)."""


def _log_line(line: str) -> None:
    log_lines.relay(line, log)


class EngineClient:
    """One child, from start to end; it can't be started twice.

    ``on_log`` is called with each line of the child's standard error. One task may iterate; any may
    `send`. ``heard`` is the monotonic time of the last frame.
    """

    def __init__(
        self,
        name: str,
        *,
        backend: Literal["llama", "scripted"] = "llama",
        on_log: Callable[[str], None] = _log_line,
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
        """How the child ended; empty while it runs or before it has started."""
        if self._child is None or self._child.process.returncode is None:
            return ""
        return spawn.exit_reason(self._child.process.returncode)

    async def start(self, load: Load, on_loading: OnLoading | None = None) -> Loaded:
        """Start the child and wait until the model is ready.

        ``on_loading`` is called with the progress, 0 to 1. Raise `EngineLoadFailed` or
        `EngineGone`. No child is left behind then, nor if the call is cancelled.
        """
        arguments = ["--name", self.name, "--backend", self._backend]
        self._child = child = await spawn.start(arguments, limit=frames.MAX_FRAME)
        # The slots bound what is in flight, so a child that is busy with one long prompt does not
        # block senders to another.
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
        """Send a frame. Raise `EngineGone`, or `frames.FrameTooLarge` with nothing sent.

        Waits only while the child lags in reading; after `SEND_SECONDS` the child is killed.
        """
        if self._child is None:
            raise EngineGone("not started")
        try:
            async with asyncio.timeout(SEND_SECONDS), self._sending:
                await frames.transmit(self._child.stdin, frame)
        except TimeoutError as error:
            log.error("Engine child does not read its pipe; killing it", extra={"model": self.name})
            self.kill()
            raise EngineGone(await self.wait()) from error
        except (ConnectionError, RuntimeError) as error:
            raise EngineGone(await self.wait()) from error

    def kill(self) -> None:
        """Kill the child immediately; iterators and waiters see its end."""
        if self._child is not None:
            with suppress(ProcessLookupError):
                self._child.process.kill()

    async def __aiter__(self) -> AsyncIterator[ToHost]:
        """Yield frames until the child closes the pipe.

        A child that sends invalid frames is killed.
        """
        while (frame := await self._receive()) is not None:
            yield frame

    async def wait(self) -> str:
        """Wait for the child's end and its last log lines; return `exit_reason`."""
        if self._child is None:
            return "not started"
        await self._child.process.wait()
        if self._logging is not None:
            await asyncio.wait([self._logging], timeout=1)
        return self.exit_reason

    async def stop(self) -> str:
        """End the child within 6 s: request a shutdown, then terminate, then kill.

        Running requests are dropped. Return `exit_reason`. Safe to call at any time, repeatedly.
        """
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
            log.exception(
                "Engine child sent an invalid frame; killing it", extra={"model": self.name}
            )
            self.kill()
            return None
        self.heard = time.monotonic()
        return frame
