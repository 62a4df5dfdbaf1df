"""Runs `Supervisor` over programs given as JSON.

    python -m tests.support.supervised FOLDER JSON [HANG_SECONDS]

The JSON is a list of [name, stage, stop_seconds, [command…]]. Ready as soon as all have started. A
program named ``untrusted`` gets no secrets. With HANG_SECONDS each must send heartbeats by changing
the time of FOLDER/run/NAME.alive.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from pathlib import Path

from chatsite.supervisor import data_dir
from chatsite.supervisor.leftovers import Register
from chatsite.supervisor.logstream import Output
from chatsite.supervisor.processes import ProcessSpec
from chatsite.supervisor.supervisor import Supervisor
from chatsite.supervisor.watchdog import Beating, Sign


async def _always() -> bool:
    return True


def main(folder: Path, programs: str, hang_seconds: float) -> None:
    def watch(name: str) -> Callable[[], Sign]:
        return lambda: Beating(folder, {name: hang_seconds / 4})

    specs = [
        ProcessSpec(
            name=name,
            command=tuple(command),
            stage=stage,
            stop_seconds=seconds,
            watch=watch(name),
            trusted=name != "untrusted",
        )
        for name, stage, seconds, command in json.loads(programs)
    ]
    data_dir.prepare(folder)
    with data_dir.locked(folder):
        output = Output(as_json=False)
        register = Register(folder / "run" / "children.json")
        register.end_all(output.say)
        supervisor = Supervisor(
            specs,
            output,
            register,
            probe=_always,
            on_ready=lambda: output.announce("Ready"),
            hang_seconds=hang_seconds,
        )
        asyncio.run(supervisor.run())
        output.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], float(sys.argv[3]) if sys.argv[3:] else 0.0)
