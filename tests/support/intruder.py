"""A compromised child: it runs normally, and then does what a hostile file wants.

``python -m tests.support.intruder KIND FOLDER LAYERS ARGUMENTS…`` runs the main function of a real
child (``engine``, ``reader``, ``quantize`` or ``renderer``) with ``ARGUMENTS``. Where it would
parse hostile input it attempts forbidden operations on the data directory ``FOLDER`` instead, and
reports on standard error which succeeded. ``LAYERS`` are the comma-separated sandbox layers that
the system is to lack.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import runpy
import socket
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

from chatsite.engine.backends.scripted import backend
from chatsite.engine.prompting import jinja
from chatsite.sandbox import confine, landlock, mount_namespace, seccomp

MARK = "DONE "


def main() -> None:
    kind, folder, lacking = sys.argv[1:4]
    sys.argv = [kind, *sys.argv[4:]]
    lack(filter(None, lacking.split(",")))
    RUN[kind](Path(folder))


def lack(layers: Any) -> None:
    def refused(*_args: object, **_options: object) -> None:
        raise OSError(errno.EPERM, "not in this test")

    for layer in layers:
        if layer == "landlock":
            landlock.version = lambda: 0
        elif layer == "mounts":
            mount_namespace.enter = refused
        elif layer == "seccomp":
            seccomp.install = refused
        elif layer == "network":
            confine.leave_network = refused
        elif layer == "user":
            confine.change_user = refused


def acts(folder: Path) -> list[str]:
    """Return the operations that succeeded, from the product's own check and additional ones."""
    libc = ctypes.CDLL(None, use_errno=True)
    parent = os.getppid()

    def call(function: Any, *arguments: object) -> Callable[[], None]:
        def act() -> None:
            if function(*arguments) < 0:
                raise OSError(ctypes.get_errno(), "")

        return act

    def abstract() -> None:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(b"\0" + os.fsencode(folder))

    def datagram() -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        with ours, theirs:
            ours.sendto(b"x", str(folder / "run" / "datagram.sock"))

    more: dict[str, Callable[[], object]] = {
        "read another model": (folder / "models" / "other").read_bytes,
        "overwrite a model": lambda: (folder / "models" / "other").open("r+b").close(),
        "truncate a model": lambda: os.truncate(folder / "models" / "other", 1),
        "change a mode": lambda: (folder / "secret_key").chmod(0o666),
        "change a time": lambda: os.utime(folder / "secret_key"),
        "link a file": lambda: os.link(folder / "secret_key", folder / "linked"),
        "rename a file": lambda: (folder / "spare").rename(folder / "renamed"),
        "remove a file": (folder / "models" / "spare").unlink,
        "read the parent's memory": Path(f"/proc/{parent}/maps").read_bytes,
        "attach to the parent": call(libc.ptrace, 0x4206, parent, 0, 0),
        "signal the group": lambda: os.kill(0, 0),
        "fork": lambda: os.fork() or os._exit(0),
        "connect to an abstract socket": abstract,
        "send a datagram": datagram,
        "have signals sent": lambda: __import__("fcntl").fcntl(2, 8, parent),
        "enter a namespace": call(libc.unshare, 0x10000000),
        "mount": call(libc.mount, b"none", b"/mnt", b"tmpfs", 0, None),
    }
    done = [name for name, act in more.items() if confine.succeeds(act)]
    return [*confine.try_acts(str(folder)), *done]


def tell(folder: Path) -> None:
    os.write(2, MARK.encode() + json.dumps(acts(folder)).encode() + b"\n")


def engine(folder: Path) -> None:
    opened = backend.ScriptedBackend.__init__

    def taken_over(self: Any, load: Any, on_progress: Any) -> None:
        Path(load.path).read_bytes()  # it must be able to read its own model
        tell(folder)
        opened(self, load, on_progress)

    backend.ScriptedBackend.__init__ = taken_over  # type: ignore[method-assign]
    runpy.run_module("chatsite.engine.__main__", run_name="__main__")


def reader(folder: Path) -> None:
    from chatsite.documents import formats

    formats.read = lambda *_, **_options: tell(folder)  # type: ignore[assignment]
    runpy.run_module("chatsite.documents.reader", run_name="__main__")


def quantize(folder: Path) -> None:
    def taken_over(source: str, target: str, *_args: object, **_options: object) -> int:
        Path(source).read_bytes()
        Path(target).write_bytes(b"smaller")
        tell(folder)
        return 7

    module: Any = types.ModuleType("llama_quantizer")
    module.quantize = taken_over
    sys.modules["chatsite.engine.backends.llama.quantizer"] = module
    runpy.run_module("chatsite.engine.quantize", run_name="__main__")


def renderer(folder: Path) -> None:
    from chatsite.engine.prompting.renderer import main

    jinja.InProcess.render = lambda *_: json.dumps(acts(folder))  # type: ignore[method-assign]
    main(int(sys.argv[1]))


RUN = {"engine": engine, "reader": reader, "quantize": quantize, "renderer": renderer}

if __name__ == "__main__":
    main()
