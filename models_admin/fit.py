"""Whether a model fits a machine's memory, and the text about it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import msgspec
from django.utils.translation import gettext as _

from chatsite.hosts.status import HostStatus
from chatsite.sizes import file_size
from models_admin.gguf import memory

Verdict = Literal["fits", "smaller", "none"]
# Shorter contexts are not offered: most questions would not fit.
LEAST_CONTEXT = 512


class Fit(msgspec.Struct, frozen=True):
    """The memory need of a model compared to ``room``, the bytes available for models.

    ``need`` is the need with the requested context, ``offered`` with the largest one that fits, or
    the smallest one if none fits.
    """

    verdict: Verdict
    need: memory.Need
    offered: memory.Need
    room: int

    @property
    def short(self) -> str:
        """Return the verdict and the memory alone, such as ``Fits: 1.0 GB of 20.6 GB``."""
        if self.verdict == "fits":
            text = _("Fits: %(need)s of %(room)s")
        elif self.verdict == "smaller":
            text = _("Fits with a smaller context: %(need)s of %(room)s")
        else:
            text = _("Does not fit: %(need)s of %(room)s")
        return text % {"need": file_size(self.offered.total), "room": file_size(self.room)}

    def __str__(self) -> str:
        figures = {
            "need": file_size(self.need.total),
            "context": self.need.context,
            "slots": self.need.slots,
            "room": file_size(self.room),
            "smaller": file_size(self.offered.total),
            "less": self.offered.context,
        }
        if self.verdict == "fits":
            text = _(
                "Fits: %(need)s of %(room)s model memory, with a context of %(context)s tokens for "
                "each of %(slots)s parallel requests."
            )
        elif self.verdict == "smaller":
            text = _(
                "Fits with a smaller context: %(smaller)s of %(room)s model memory, with %(less)s "
                "tokens for each of %(slots)s parallel requests. With %(context)s tokens it needs "
                "%(need)s."
            )
        else:
            text = _(
                "Does not fit: %(smaller)s of %(room)s model memory, even with a context of "
                "%(less)s tokens for each of %(slots)s parallel requests."
            )
        return text % figures


def fit(
    shape: memory.Shape,
    room: int,
    *,
    context: int,
    slots: int,
    flash_attention: bool = False,
) -> Fit:
    """Compute the fit for ``slots`` parallel requests of ``context`` tokens in ``room`` bytes."""
    need = memory.needed(shape, context, slots, flash_attention=flash_attention)
    found = memory.largest_context(
        shape, room, context, slots, least=LEAST_CONTEXT, flash_attention=flash_attention
    )
    least = min(need.context, LEAST_CONTEXT)
    offered = memory.needed(shape, found or least, slots, flash_attention=flash_attention)
    if found is None:
        return Fit("none", need, offered, room)
    return Fit("fits" if found == need.context else "smaller", need, offered, room)


def room(hosts: Iterable[HostStatus]) -> int | None:
    """Return the largest memory in bytes that a host has for models; None without hosts."""
    return max((host.room for host in hosts if host.memory), default=None)
