"""Copies of model files with weights that this host's CPU computes faster.

llama.cpp multiplies some types of weights (Q4_1, Q5_K and others) row by row, regardless of the
number of rows in a step, while it has kernels for whole tiles of rows for Q8_0. Rounding weights of
less than eight bits to Q8_0 changes token probabilities about as much as toggling flash attention
(figures are in `docs/explanation/autotuning.md`). `autotune.py` measures whether a copy is worth
its memory.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from chatsite.sandbox import spawn

KIND: Final = "Q8_0"
_SECONDS: Final = 900.0
_PART: Final = ".part"


@dataclass(frozen=True)
class Copy:
    """The copy of the file with content ``digest``, in ``folder``, which belongs to one host."""

    folder: Path
    digest: str

    @property
    def path(self) -> Path:
        return self.folder / f"{self.digest}-{KIND}.gguf"

    @property
    def exists(self) -> bool:
        return self.path.exists()

    async def make(self, source: Path, threads: int) -> str:
        """Make the copy and flush it to disk. Return an error message; empty on success.

        Cancelling leaves nothing behind.
        """
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        part = self.path.with_suffix(_PART)
        arguments = ["--name", KIND, "--kind", KIND, "--threads", str(threads)]
        arguments += ["--source", str(source), "--target", str(part)]
        try:
            result = await spawn.run(arguments, _SECONDS, module="chatsite.engine.quantize")
            if result.returncode:
                return ": ".join([spawn.exit_reason(result.returncode), *result.reasons[-1:]])
            await asyncio.to_thread(self._keep, part)
        except TimeoutError:
            return f"not made in {_SECONDS:g} s"
        except OSError as error:
            return str(error)
        finally:
            part.unlink(missing_ok=True)
        return ""

    def _keep(self, part: Path) -> None:
        with part.open("rb") as file:
            os.fsync(file.fileno())
        part.chmod(0o600)
        part.replace(self.path)

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)


def tidy(folder: Path, digests: Collection[str]) -> None:
    """Delete all copies but those of ``digests``. No copy may be under construction."""
    keep = {Copy(folder, digest).path for digest in digests}
    for path in (*folder.glob("*.gguf"), *folder.glob(f"*{_PART}")):
        if path not in keep:
            path.unlink(missing_ok=True)
