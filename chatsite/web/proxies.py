"""Client addresses behind reverse proxies.

Any client can send X-Forwarded-For and X-Forwarded-Proto. They are trusted only from the
networks in `CHATSITE_TRUSTED_PROXIES`; from other peers they are removed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Any

Address = IPv4Address | IPv6Address
Networks = Collection[IPv4Network | IPv6Network]

_FORWARDED_FOR = b"x-forwarded-for"
_FORWARDED = frozenset({_FORWARDED_FOR, b"forwarded", b"x-forwarded-proto", b"x-real-ip"})


def with_client(scope: dict[str, Any], trusted: Networks) -> dict[str, Any]:
    """Return an ASGI ``scope`` whose ``client`` is the address of the real client.

    ``trusted`` are the networks of proxies. Without any the scope is returned unchanged: the peer
    is the client.
    """
    if not trusted:
        return scope
    peer = scope.get("client")
    if peer is None or not _is_in(trusted, _parsed(peer[0])):
        headers = [pair for pair in scope["headers"] if pair[0] not in _FORWARDED]
        return {**scope, "headers": headers}
    lines = [value.decode("latin-1") for name, value in scope["headers"] if name == _FORWARDED_FOR]
    address = client_address(lines, trusted)
    return scope if address is None else {**scope, "client": (address, 0)}


def without_prefix(path: str, prefix: str) -> str:
    """Return ``path`` from the site's root; some proxies strip their ``prefix``, some do not."""
    if prefix and f"{path}/".startswith(f"{prefix}/"):
        return path[len(prefix) :] or "/"
    return path


def client_address(lines: Iterable[str], trusted: Networks) -> str | None:
    """Return the right-most address of X-Forwarded-For that is not a trusted proxy.

    Each proxy appends the peer that it saw, so everything to the left of that address was
    written by the client. ``lines`` are the header's values in order. None if they hold none.
    """
    hops = [hop for line in lines for hop in line.split(",")]
    for hop in reversed(hops):
        address = _parsed(hop)
        if address is None:
            return None
        if not _is_in(trusted, address):
            return str(address)
    return None


def _is_in(networks: Networks, address: Address | None) -> bool:
    return address is not None and any(address in network for network in networks)


def _parsed(text: str) -> Address | None:
    """Parse an address; some proxies append a port or write IPv6 in brackets."""
    text = text.strip().strip('"')
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = getattr(address, "ipv4_mapped", None)
    return mapped or address
