"""Whether a model fits a machine, and the sentence that says so."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import msgspec
from django.template.defaultfilters import filesizeformat
from django.utils.translation import gettext as _

from chatsite.inference.status import HostStatus
from models_admin import memory

Verdict = Literal["fits", "smaller", "none"]
# A shorter context than this is not offered: questions hardly fit it.
LEAST_CONTEXT = 512


class Fit(msgspec.Struct, frozen=True):
    """``need`` is what the model takes with the context that was asked for, ``offered`` with the
    one that fits, the smallest one where none does; ``room`` bytes may be used for models."""

    verdict: Verdict
    need: memory.Need
    offered: memory.Need
    room: int

    def __str__(self) -> str:
        figures = {
            "need": filesizeformat(self.need.total),
            "context": self.need.context,
            "slots": self.need.slots,
            "room": filesizeformat(self.room),
            "smaller": filesizeformat(self.offered.total),
            "less": self.offered.context,
        }
        if self.verdict == "fits":
            text = _(
                "Fits: takes %(need)s with a context of %(context)s tokens for each of %(slots)s "
                "answers at once, of %(room)s that models may use."
            )
        elif self.verdict == "smaller":
            text = _(
                "Fits with a smaller context: %(smaller)s with %(less)s tokens for each of "
                "%(slots)s answers at once, of %(room)s that models may use. With %(context)s "
                "tokens it takes %(need)s."
            )
        else:
            text = _(
                "Does not fit: takes %(smaller)s even with a context of %(less)s tokens for each "
                "of %(slots)s answers at once; models may use %(room)s."
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
    """For ``slots`` answers at once with ``context`` tokens each, in ``room`` bytes."""
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
    """What the roomiest of the hosts may use for models; None when there is none."""
    return max((host.room for host in hosts if host.memory), default=None)
