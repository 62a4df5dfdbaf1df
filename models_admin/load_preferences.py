"""Administrators' preferences for loading models, used by the inference hosts."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path

import msgspec
from django.conf import settings

from chatsite.capacity.budget import Budget
from chatsite.capacity.offload_layout import Option
from chatsite.durations import longer
from chatsite.hosts.status import HostStatus
from models_admin import fit
from models_admin.gguf import header as gguf
from models_admin.gguf import memory
from models_admin.models import ModelName, ModelVersion

# A copy that is barely larger has mostly the same weight types, so it gains nothing.
_LEAST_GROWTH = 1.1


class LoadPreferences(msgspec.Struct, frozen=True):
    """How to load a model; None is the server's setting.

    ``context`` is in tokens per answer, ``slots`` is the number of parallel answers, ``keep_alive``
    the seconds that an idle model stays loaded (no limit if negative).
    """

    context: int | None = None
    slots: int | None = None
    keep_alive: float | None = None
    pinned: bool = False


def preferences_of(version: ModelVersion) -> LoadPreferences:
    """Return the maximum of each preference over all names of the version.

    The names share one loaded model.
    """
    names = list(version.names.all())
    stays = [name.keep_alive for name in names if name.keep_alive is not None]
    return LoadPreferences(
        context=max((name.context or 0 for name in names), default=0) or None,
        slots=max((name.slots or 0 for name in names), default=0) or None,
        keep_alive=functools.reduce(longer, stays) if stays else None,
        pinned=any(name.pinned for name in names),
    )


def pinned_names() -> list[str]:
    found = ModelName.objects.filter(pinned=True, version__quarantined="", version__remote={})
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
    """Return the memory options of a version, the largest context first.

    Memory is computed for ``context`` with batches of ``rows`` tokens, and unless ``fixed`` for
    repeatedly halved contexts. The first option may be that of a ``copy`` with faster weights. If
    the header can't be read, the file size is used.
    """
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
    """Return the size on disk of a copy with faster weights; 0 if a copy is of no use.

    That is the case if the weights are as large already, or for embedding models, which are not
    copied.
    """
    shape, copied = shape_of(version), shape_of(version, copied=True)
    if shape is None or copied is None or shape.vectors:
        return 0
    grown = copied.weights / max(shape.weights, 1)
    return copied.weights + version.size - shape.weights if grown >= _LEAST_GROWTH else 0


def fit_of(model: ModelName, hosts: Sequence[HostStatus] = ()) -> fit.Fit | None:
    """Return whether an installed model fits with its preferences; None if its file can't be read.

    The host with the most memory is used, or this machine if there are no hosts.
    """
    shape = shape_of(model.version)
    if shape is None:
        return None
    wanted, env = preferences_of(model.version), settings.ENV
    room = fit.room(hosts) or Budget(env.memory_mb << 20).room()[0]
    return fit.fit(
        shape, room, context=wanted.context or env.context, slots=wanted.slots or env.slots
    )


def shape_of(version: ModelVersion, *, copied: bool = False) -> memory.Shape | None:
    """Return the shape of a version; None if its file is missing or can't be read.

    Each process reads a file once.
    """
    if version.remote:
        return None
    try:
        file, copy = shapes_of(str(version.path), version.size)
    except (OSError, gguf.BadGGUF):
        return None
    return copy if copied else file


@functools.lru_cache(maxsize=256)
def shapes_of(path: str, size: int) -> tuple[memory.Shape, memory.Shape]:
    """Return the shapes of the file and of a copy.

    A file in the store never changes: its name is its digest.
    """
    with Path(path).open("rb") as file:
        header = gguf.read_header(file, size)
    return memory.shape_of(header), memory.shape_of(header, copied=True)
