"""Which layers of a model are on devices, as sent by the host to an engine child."""

from __future__ import annotations

from typing import Final

import msgspec


class Offload(msgspec.Struct, frozen=True, omit_defaults=True):
    """The last layers of a model, offloaded to devices; the output layer is the very last.

    Each of ``devices`` (llama.cpp's names) has the number of consecutive ``layers`` at the same
    index. Empty: everything is on the CPU.
    """

    devices: tuple[str, ...] = ()
    layers: tuple[int, ...] = ()


PROCESSOR: Final = Offload()
