"""What administrators want of models in memory, for the inference hosts."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path

import msgspec
from django.conf import settings

from chatsite.durations import longer
from chatsite.inference.budget import Budget
from chatsite.inference.layout import Option
from chatsite.inference.status import HostStatus
from models_admin import fit, gguf, memory
from models_admin.models import ModelName, ModelVersion

# A copy whose weights are hardly larger has hardly other weights.
_LEAST_GROWTH = 1.1


class Wish(msgspec.Struct, frozen=True):
    """None is the server's own: tokens per answer, answers at once, seconds that an unused model
    stays (for ever if negative)."""

    context: int | None = None
    slots: int | None = None
    keep_alive: float | None = None
    pinned: bool = False


def wish(version: ModelVersion) -> Wish:
    """Of all names that stand for the version, which share what is loaded: the most of each."""
    names = list(version.names.all())
    stays = [name.keep_alive for name in names if name.keep_alive is not None]
    return Wish(
        context=max((name.context or 0 for name in names), default=0) or None,
        slots=max((name.slots or 0 for name in names), default=0) or None,
        keep_alive=functools.reduce(longer, stays) if stays else None,
        pinned=any(name.pinned for name in names),
    )


def pinned_names() -> list[str]:
    found = ModelName.objects.filter(pinned=True, version__quarantined="")
    return list(found.order_by("name").values_list("name", flat=True))


def options(
    version: ModelVersion,
    context: int,
    slots: int,
    *,
    flash_attention: bool,
    fixed: bool,
    rows: int = memory.ROWS,
    copy: bool = False,
) -> tuple[Option, ...]:
    """Memory with that context and ``rows`` tokens computed together, and unless it is ``fixed``
    with ever less of it; the first one may be that of a ``copy`` with faster weights. A file whose
    header can't be read counts as large as it is."""
    shape, copied = shape_of(version), shape_of(version, copied=True)
    if shape is None or copied is None:
        return (Option(context, version.size, 0),)
    rows = max(rows, memory.ROWS)
    found: list[Option] = []
    if copy:
        need = memory.needed(copied, context, slots, flash_attention=flash_attention, rows=rows)
        found.append(_option(need, copied, copy=True))
    while True:
        need = memory.needed(shape, context, slots, flash_attention=flash_attention, rows=rows)
        found.append(_option(need, shape))
        context = need.context // 2
        if fixed or context < fit.LEAST_CONTEXT:
            return tuple(found)


def _option(need: memory.Need, shape: memory.Shape, *, copy: bool = False) -> Option:
    return Option(need.context, need.loaded, need.work, need.layers, shape.tied, copy)


def copy_bytes(version: ModelVersion) -> int:
    """What a copy with faster weights would take on the disk; 0 where there is no use for one:
    its weights are as large already, or it gives vectors, which stay as they are."""
    shape, copied = shape_of(version), shape_of(version, copied=True)
    if shape is None or copied is None or shape.vectors:
        return 0
    grown = copied.weights / max(shape.weights, 1)
    return copied.weights + version.size - shape.weights if grown >= _LEAST_GROWTH else 0


def fit_of(model: ModelName, hosts: Sequence[HostStatus] = ()) -> fit.Fit | None:
    """Whether an installed model fits, as it is to be held: on the roomiest of the hosts, or on
    this machine if there are none. None where its file can't be read."""
    shape = shape_of(model.version)
    if shape is None:
        return None
    wanted, env = wish(model.version), settings.ENV
    room = fit.room(hosts) or Budget(env.memory_mb << 20).room()[0]
    return fit.fit(
        shape, room, context=wanted.context or env.context, slots=wanted.slots or env.slots
    )


def shape_of(version: ModelVersion, *, copied: bool = False) -> memory.Shape | None:
    """None where the file is not there or can't be read. Reads it once in each process."""
    try:
        file, copy = _shapes(str(version.path), version.size)
    except (OSError, gguf.BadGGUF):
        return None
    return copy if copied else file


@functools.lru_cache(maxsize=256)
def _shapes(path: str, size: int) -> tuple[memory.Shape, memory.Shape]:
    """Of the file and of a copy. A file in the store never changes: its name is its digest."""
    with Path(path).open("rb") as file:
        header = gguf.read_header(file, size)
    return memory.shape_of(header), memory.shape_of(header, copied=True)
