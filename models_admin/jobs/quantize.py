"""Quantization of a model in a child process."""

from __future__ import annotations

import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final

import msgspec
from django.utils.translation import gettext_lazy as _

from chatsite.capacity.threads import default_threads
from chatsite.engine.quantize import KINDS
from chatsite.errors import ChatsiteError, worded
from chatsite.sandbox import log_lines, spawn
from models_admin.gguf import header as gguf
from models_admin.store import disk

Progress = Callable[[int, int], None]
Cancelled = Callable[[], bool]

_POLL_SECONDS: Final = 0.25


class QuantizeRefused(ChatsiteError):
    code = "quantize_refused"
    status = 400
    message = _("This model can't be quantized.")


class QuantizeCancelled(ChatsiteError):
    code = "cancelled"
    status = 409
    message = _("The quantization was cancelled.")


class Sizes(msgspec.Struct, frozen=True):
    """Bytes of the weights ``before`` and ``after``."""

    before: int
    after: int


class _Progress(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A line from the child: source bytes ``done``, or at the end the size of the ``result``."""

    done: int = 0
    result: int | None = None


def _told(line: str) -> _Progress | None:
    """Decode a progress line; return None for a log line, as both share one pipe."""
    try:
        return msgspec.json.decode(line, type=_Progress)
    except msgspec.MsgspecError:
        return None


def estimate(source: Path, kind: str) -> Sizes:
    """Return the sizes that a quantization would give, within seconds. Raises `QuantizeRefused`."""
    before = _weights(source)
    command = _command(source, source.with_name("unused"), kind, "--dry")
    return Sizes(before, _run(command, lambda done: None, lambda: False))


def quantize(
    source: Path, target: Path, kind: str, progress: Progress, cancelled: Cancelled
) -> Sizes:
    """Quantize ``source`` to ``kind`` (one of `KINDS`), overwriting ``target``.

    ``progress`` is called with the source bytes done and in total, ``cancelled`` four times a
    second, both in the caller's thread. An exception raised by either stops the child.

    Raises `QuantizeRefused`, `QuantizeCancelled` or `DiskFull`; no target is left then.
    """
    sizes = estimate(source, kind)
    disk.require_space(sizes.after)
    progress(0, sizes.before)
    done = False
    try:
        after = _run(
            _command(source, target, kind),
            lambda so_far: progress(min(so_far, sizes.before), sizes.before),
            cancelled,
        )
        done = True
    finally:
        if not done:
            target.unlink(missing_ok=True)
    progress(sizes.before, sizes.before)
    return Sizes(sizes.before, after)


def _weights(source: Path) -> int:
    try:
        with source.open("rb") as file:
            header = gguf.check_model(file, source.stat().st_size)
    except (OSError, gguf.BadGGUF) as error:
        raise QuantizeRefused(str(error)) from error
    return sum(tensor.bytes for tensor in header.tensors)


def _command(source: Path, target: Path, kind: str, *more: str) -> list[str]:
    if kind not in KINDS:
        reason = _("Unknown quantization %(kind)r. Choose one of: %(kinds)s.")
        raise QuantizeRefused(worded(reason, {"kind": kind, "kinds": ", ".join(KINDS)}))
    paths = ["--source", str(source), "--target", str(target)]
    threads = ["--threads", str(default_threads())]
    module = [sys.executable, "-m", "chatsite.engine.quantize", "--name", kind]
    return [*module, "--kind", kind, *paths, *threads, *more]


def _run(command: list[str], on_bytes: Callable[[int], None], cancelled: Cancelled) -> int:
    """Run the child; return the size of the weights in bytes, which it reports at its end."""
    words: list[str] = []
    with _child(command) as (process, lines):
        while True:
            if cancelled():
                raise QuantizeCancelled
            try:
                line = lines.get(timeout=_POLL_SECONDS)
            except queue.Empty:
                continue
            if line is None:
                break
            told = _told(line)
            if told is None:
                words.append(log_lines.parse(line).reason)
            elif told.result is not None:
                result = told.result
            else:
                on_bytes(told.done)
        returncode = process.wait()
    if returncode == 0:
        return result
    last = words[-1] if words else ""
    how = spawn.exit_reason(returncode)
    reason = last if returncode > 0 and last else ": ".join(filter(None, [how, last]))
    raise QuantizeRefused(worded(_("The model can't be quantized: %s."), reason))


@contextmanager
def _child(
    command: list[str],
) -> Iterator[tuple[subprocess.Popen[str], queue.Queue[str | None]]]:
    """Yield the process, killed on exit, and its output lines, followed by None at the end."""
    lines: queue.Queue[str | None] = queue.Queue()

    def pump(stream: IO[str]) -> None:
        for line in stream:
            lines.put(line.rstrip())
        lines.put(None)

    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        cwd=spawn.ROOT,
        env=spawn.environment(),
    ) as process:
        assert process.stdout is not None  # noqa: S101
        reader = threading.Thread(target=pump, args=(process.stdout,), daemon=True)
        reader.start()
        try:
            yield process, lines
        finally:
            process.kill()
            reader.join()
