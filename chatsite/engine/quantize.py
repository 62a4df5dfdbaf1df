"""The child that quantizes: ``python -m chatsite.engine.quantize --source A --target B --kind K``.

It prints JSON lines: ``{"done": BYTES}`` of the source as it gets on, and at the end
``{"result": BYTES}`` of weights. With ``--dry`` the end is all, and nothing is written. Ending
the process at any time is safe: the target is then in part.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import time
from typing import Final

from chatsite.engine import sandbox
from chatsite.engine.backend import LoadError

log = logging.getLogger("chatsite.engine")

# By llama.cpp's names; none of these needs an importance matrix.
KINDS: Final = (
    *("F16", "BF16", "Q8_0", "Q6_K", "Q5_K_M", "Q5_K_S", "Q5_0", "Q4_K_M", "Q4_K_S", "Q4_1"),
    *("Q4_0", "Q3_K_M", "Q2_K"),
)
_NICE: Final = 10  # answers go first
_TELL_SECONDS: Final = 0.2


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m chatsite.engine.quantize")
    for name in ("name", "source", "target"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--kind", required=True, choices=KINDS)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--dry", action="store_true")
    arguments = parser.parse_args()
    _frames_in, out = sandbox.take_pipe()
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(levelname)s %(message)s")
    log.info(sandbox.enter())
    os.nice(_NICE)
    told = 0.0

    def tell(done: int) -> None:
        nonlocal told
        if not arguments.dry and time.monotonic() - told >= _TELL_SECONDS:
            told = time.monotonic()
            _write(out, done=done)

    from chatsite.engine.llama_quantizer import quantize  # in the sandbox

    try:
        result = quantize(
            *(arguments.source, arguments.target, arguments.kind, arguments.threads, tell),
            dry=arguments.dry,
        )
    except LoadError as error:
        log.error("%s", error)
        return 1
    _write(out, result=result)
    return 0


def _write(out: int, **values: int) -> None:
    os.write(out, json.dumps(values).encode() + b"\n")


if __name__ == "__main__":
    sys.exit(main())
