"""From which addresses each API key was used, to report new ones."""

from __future__ import annotations

import logging
from functools import lru_cache
from ipaddress import IPv6Address, IPv6Network, ip_address
from typing import Final

from django.db import DatabaseError

from chatsite.audit.models import KeyAddress

log = logging.getLogger(__name__)

_NETWORK_BITS: Final = 64
_CACHED: Final = 10_000


def is_new(key: int, address: str) -> bool:
    """Return whether the key was never used from ``address`` before, and remember it.

    Costs a query only at the first use in this process. A network of IPv6 counts as one address,
    since its hosts change theirs.
    """
    try:
        return seen(key, _network(address)).pop()
    except IndexError:
        return False
    except DatabaseError as error:
        log.warning("Addresses of API keys can't be read", extra={"error": error})
        return False


@lru_cache(_CACHED)
def seen(key: int, address: str) -> list[bool]:
    """Return a list that has the answer for the first caller only."""
    return [KeyAddress.objects.get_or_create(key_id=key, address=address)[1]]


def _network(address: str) -> str:
    try:
        parsed = ip_address(address)
    except ValueError:
        return address[:64]
    if isinstance(parsed, IPv6Address):
        return str(IPv6Network((parsed, _NETWORK_BITS), strict=False))
    return str(parsed)
