"""Renders chat templates in disposable processes: one operation can take hours or gigabytes.

An engine child starts a renderer before it enters its own sandbox. The renderer forks a worker per
template, since neither process may start programs any more. A worker serves one template, one
request at a time, so that no template sees what another one rendered. The kernel kills a worker
that exceeds its limits of CPU time or memory.

renderer = RenderPool.start("smollm2:135m")
text = renderer.render(template, variables, limit)        # raises TemplateError

On the sockets: 4 bytes of length, then the body. A worker receives the template, then requests as
MessagePack; each reply begins with one byte for its kind (`_TEXT`, `_REFUSED`, `_ERROR`).
"""

from __future__ import annotations

import logging
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final, Self

import msgspec

from chatsite.engine.prompting.jinja import InProcess, Refused, TemplateError
from chatsite.sandbox import confine, seccomp
from chatsite.sandbox.protection import Protection
from chatsite.sandbox.spawn import ROOT, environment

log = logging.getLogger(__name__)

SECONDS: Final = 2.0  # CPU time of one rendering
MEMORY: Final = 1 << 30  # bytes of address space; Python itself takes 32 MB
# Wall-clock timeout in seconds, for a busy machine.
_PATIENCE: Final = 5 * SECONDS
_START_SECONDS: Final = 60.0
# Seconds of work after which a worker is replaced.
_RETIRES_AFTER: Final = 300.0
# Bytes of a request after which a worker is replaced, since it does not return all memory.
LARGE: Final = 4 << 20
# Maximum of idle workers; each takes about 4 MB of private memory.
KEPT: Final = 4
_LENGTH: Final = 4
_MOST_FIXED: Final = 4096  # bytes of a reply besides its text
_TEXT, _REFUSED, _ERROR = b"t", b"r", b"e"

_encode = msgspec.msgpack.Encoder().encode


class _Request(msgspec.Struct, array_like=True):
    variables: dict[str, Any]
    limit: int


class RendererGone(Exception):
    """No worker can be started any more; the process that needs one should be restarted."""


class _WorkerGone(Exception):
    pass


# The engine's side.


class RenderPool:
    """The workers of one renderer process. Thread-safe: each rendering has a worker to itself."""

    def __init__(self, process: subprocess.Popen[bytes], control: socket.socket) -> None:
        self._process = process
        self._control = control
        self._protection: Protection | None = None
        self._lock = threading.Lock()
        self._idle: OrderedDict[_Worker, None] = OrderedDict()

    @classmethod
    def start(cls, name: str) -> RenderPool:
        """Start the renderer. Call before the sandbox is entered.

        ``name`` is shown in the list of processes.
        """
        ours, theirs = socket.socketpair()
        with theirs:
            process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "chatsite.template_renderer",
                    name,
                    str(theirs.fileno()),
                ],
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                cwd=ROOT,
                env=environment(),
            )
        ours.settimeout(_START_SECONDS)
        return cls(process, ours)

    @property
    def protection(self) -> Protection:
        """The sandbox of the workers; waits until the process has started.

        Raises `RendererGone`.
        """
        with self._lock:
            return self._started()

    def render(self, template: str, variables: Mapping[str, Any], limit: int) -> str:
        """Render a template. Raise `TemplateError` or `RendererGone`."""
        body = _encode((variables, limit))
        while True:
            worker, fresh = self._worker(template)
            try:
                worker.send(body)
            except _WorkerGone:
                worker.close()
                if fresh:
                    raise RendererGone("a new worker closed its connection") from None
                continue  # it had ended while idle
            break
        try:
            text = worker.receive(limit)
        except Refused:
            self._keep(worker)
            raise
        except TemplateError:
            worker.close()
            raise
        self._keep(worker)
        return text

    @property
    def pid(self) -> int:
        return self._process.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """End the renderer and its workers."""
        with self._lock:
            for worker in self._idle:
                worker.close()
            self._idle.clear()
            self._control.close()
        try:
            self._process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _worker(self, template: str) -> tuple[_Worker, bool]:
        """Take or start a worker for ``template``; return it and whether it is new."""
        with self._lock:
            for worker in reversed(self._idle):
                if worker.template == template:
                    del self._idle[worker]
                    return worker, False
            self._started()
            try:
                self._control.sendall(b"w")
                _data, descriptors, _flags, _address = socket.recv_fds(self._control, 1, 1)
            except OSError as error:
                raise RendererGone(str(error)) from error
        if not descriptors:
            raise RendererGone("no worker could be started")
        [descriptor] = descriptors
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, 0, descriptor)
        return _Worker(template, connection), True

    def _keep(self, worker: _Worker) -> None:
        if worker.spent:
            worker.close()
            return
        with self._lock:
            self._idle[worker] = None
            if len(self._idle) > KEPT:
                oldest, _ = self._idle.popitem(last=False)
                oldest.close()

    def _started(self) -> Protection:
        if self._protection is None:
            try:
                self._protection = msgspec.msgpack.decode(_receive(self._control), type=Protection)
            except (OSError, _WorkerGone) as error:
                raise RendererGone(f"the renderer did not start: {error}") from error
        return self._protection


class _Worker:
    """The engine's end of one worker.

    ``worked`` is its total busy time in seconds. A ``spent`` worker is not reused.
    """

    def __init__(self, template: str, connection: socket.socket) -> None:
        self.template = template
        self.worked = 0.0
        self.spent = False
        self._connection = connection
        self._connection.settimeout(_PATIENCE)
        self._greeted = False
        self._began = 0.0

    def send(self, request: bytes) -> None:
        """Send a request. Raise `_WorkerGone`."""
        self._began = time.monotonic()
        self.spent |= len(request) > LARGE
        try:
            if not self._greeted:
                _send(self._connection, self.template.encode("utf-8", "replace"))
                self._greeted = True
            _send(self._connection, request)
        except OSError as error:
            raise _WorkerGone(str(error)) from error

    def receive(self, limit: int) -> str:
        """Return the rendered text. Raise `TemplateError`.

        After any `TemplateError` but `Refused` the worker can't be reused.
        """
        try:
            body = _receive(self._connection, 4 * limit + _MOST_FIXED)
        except TimeoutError:
            raise TemplateError(f"the template took more than {_PATIENCE:g} s") from None
        except (_WorkerGone, OSError):
            raise TemplateError(
                f"the template took more than {SECONDS:g} s or {MEMORY >> 20} MB"
            ) from None
        self.worked += time.monotonic() - self._began
        self.spent |= self.worked > _RETIRES_AFTER
        text = body[1:].decode(errors="replace")
        if body[:1] == _TEXT:
            return text
        raise Refused(text) if body[:1] == _REFUSED else TemplateError(text)

    def close(self) -> None:
        """Close the connection, which ends the worker."""
        self._connection.close()


# The renderer's side.


def main(control: int) -> int:
    """Fork workers until the engine closes the socket ``control``."""
    confine.follow_parent()
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, 0, control)
    protection = confine.enter(forks=True)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # workers are reaped automatically
    with suppress(ConnectionError):  # the engine has ended
        _send(connection, _encode(protection))
        while connection.recv(1):
            ours, theirs = socket.socketpair()
            with ours, theirs:
                if os.fork() == 0:
                    connection.close()
                    theirs.close()
                    _work(ours)
                socket.send_fds(connection, [b"w"], [theirs.fileno()])
    return 0


def _work(connection: socket.socket) -> None:
    """Serve one template until there are no more requests; never returns."""
    code = 1
    try:
        confine.follow_parent()
        _limit()
        _serve(connection)
        code = 0
    finally:
        os._exit(code)


def _serve(connection: socket.socket) -> None:
    template = _receive(connection).decode()
    renderer = InProcess()
    decoder = msgspec.msgpack.Decoder(_Request)
    while True:
        try:
            request = decoder.decode(_receive(connection))
        except _WorkerGone:
            return
        # The timer kills the process, even during an operation.
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        try:
            text = renderer.render(template, request.variables, request.limit)
            answer = _TEXT + text.encode("utf-8", "replace")
        except Refused as error:
            answer = _REFUSED + str(error)[:_MOST_FIXED].encode("utf-8", "replace")[:_MOST_FIXED]
        except (TemplateError, MemoryError) as error:
            answer = _ERROR + str(error)[:_MOST_FIXED].encode("utf-8", "replace")[:_MOST_FIXED]
        signal.setitimer(signal.ITIMER_PROF, 0)
        _send(connection, answer)


def _limit() -> None:
    """Set limits that even code that escapes from Jinja2 can't lift.

    They add to the timer of each rendering.
    """
    whole = int(_RETIRES_AFTER + _PATIENCE)
    resource.setrlimit(resource.RLIMIT_CPU, (whole, whole))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (16, 16))
    if sys.platform.startswith("linux"):
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        with suppress(OSError):
            seccomp.install()


# Both sides.


def _send(connection: socket.socket, body: bytes) -> None:
    connection.sendall(len(body).to_bytes(_LENGTH, "little") + body)


def _receive(connection: socket.socket, most: int = 1 << 30) -> bytes:
    """Return a body. Raise `_WorkerGone` at the end, OSError or TimeoutError."""
    size = int.from_bytes(_exactly(connection, _LENGTH), "little")
    if size > most:
        raise _WorkerGone(f"a reply of {size} bytes exceeds the limit")
    return _exactly(connection, size)


def _exactly(connection: socket.socket, size: int) -> bytes:
    buffer = bytearray(size)
    view, have = memoryview(buffer), 0
    while have < size:
        part = connection.recv_into(view[have:])
        if not part:
            raise _WorkerGone("the connection ended")
        have += part
    return bytes(buffer)
