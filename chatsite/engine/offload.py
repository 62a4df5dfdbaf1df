"""Which layers of a model are on devices, as the host tells an engine child."""

from __future__ import annotations

from typing import Final

import msgspec


class Offload(msgspec.Struct, frozen=True, omit_defaults=True):
    """The last layers of a model, of which its output is the very last, on devices: each of
    ``devices``, as llama.cpp calls them, has the next so many of ``layers``. Empty: all is on
    the processor."""

    devices: tuple[str, ...] = ()
    layers: tuple[int, ...] = ()


PROCESSOR: Final = Offload()
