"""The engine settings chosen for a model digest on a host; see `autotune.py`."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta


class Tuning(msgspec.Struct, frozen=True):
    """Engine settings; ``ubatch`` is in tokens.

    ``weights`` other than the file's own are in a copy of it (`requantized.py`).
    """

    use_extra_bufts: bool
    flash_attention: bool
    threads: Annotated[int, Meta(ge=1, le=1024)]
    ubatch: Annotated[int, Meta(ge=16, le=8192)] = 512
    weights: Literal["", "Q8_0"] = ""
