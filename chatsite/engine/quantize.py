"""The child that quantizes: ``python -m chatsite.engine.quantize --source A --target B --kind K``.

It prints JSON lines: ``{"done": BYTES}`` is progress in bytes of the source, and the last line,
``{"result": BYTES}``, is the size of the weights. With ``--dry`` only the last line is printed and
nothing is written. The process can be killed at any time; the target is then incomplete.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import time
from pathlib import Path
from typing import Final

from chatsite.engine.contract.backend import LoadError
from chatsite.sandbox import confine, log_lines

log = logging.getLogger("chatsite.engine")

# llama.cpp's names; none of these needs an importance matrix.
KINDS: Final = (
    *("F16", "BF16", "Q8_0", "Q6_K", "Q5_K_M", "Q5_K_S", "Q5_0", "Q4_K_M", "Q4_K_S", "Q4_1"),
    *("Q4_0", "Q3_K_M", "Q2_K"),
)
_NICE: Final = 10  # answers have priority
_REPORT_SECONDS: Final = 0.2


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m chatsite.engine.quantize")
    for name in ("name", "source", "target"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--kind", required=True, choices=KINDS)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--dry", action="store_true")
    arguments = parser.parse_args()
    _frames_in, out = confine.take_pipe()
    log_lines.configure()
    if arguments.dry:
        protection = confine.enter(reads=(arguments.source,))
    else:
        # The only file that it may write has to exist before it enters the sandbox.
        Path(arguments.target).open("wb").close()
        protection = confine.enter(reads=(arguments.source,), writes=(arguments.target,))
    log.info("Sandbox entered", extra={"protection": protection})
    os.nice(_NICE)
    reported = 0.0

    def report(done: int) -> None:
        nonlocal reported
        if not arguments.dry and time.monotonic() - reported >= _REPORT_SECONDS:
            reported = time.monotonic()
            _write(out, done=done)

    from chatsite.engine.backends.llama.quantizer import quantize  # must load inside the sandbox

    try:
        result = quantize(
            *(arguments.source, arguments.target, arguments.kind, arguments.threads, report),
            dry=arguments.dry,
        )
    except LoadError as error:
        log.error("Quantization failed", extra={"error": error})
        return 1
    _write(out, result=result)
    return 0


def _write(out: int, **values: int) -> None:
    os.write(out, json.dumps(values).encode() + b"\n")


if __name__ == "__main__":
    sys.exit(main())
