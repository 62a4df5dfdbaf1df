"""Runs `Supervisor` over programs given as JSON: `python -m tests.support.supervised FOLDER JSON`.

The JSON is a list of [name, stage, stop_seconds, [command…]]. Ready as soon as all have started.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

from chatsite.supervisor import data_dir
from chatsite.supervisor.leftovers import Register
from chatsite.supervisor.logstream import Output
from chatsite.supervisor.processes import ProcessSpec
from chatsite.supervisor.supervisor import Supervisor


async def _always() -> bool:
    return True


def main(folder: Path, programs: str) -> None:
    specs = [
        ProcessSpec(name=name, command=tuple(command), stage=stage, stop_seconds=seconds)
        for name, stage, seconds, command in json.loads(programs)
    ]
    data_dir.prepare(folder)
    with data_dir.locked(folder):
        output = Output(as_json=False)
        register = Register(folder / "run" / "children.json")
        register.end_all(output.say)
        supervisor = Supervisor(
            specs, output, register, probe=_always, on_ready=lambda: output.announce("Ready")
        )
        asyncio.run(supervisor.run())
        output.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
