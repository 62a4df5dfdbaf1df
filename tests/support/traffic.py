"""What processes tried to reach by network, from a log of strace."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

# System calls that can begin traffic; text that is sent on a connection has no address.
TRACED: Final = "connect,sendto,sendmsg,sendmmsg"
_PORT_DNS: Final = 53
_FAMILY = re.compile(r"sa_family=(AF_\w+)")
_V4 = re.compile(r"sin_port=htons\((\d+)\), sin_addr=inet_addr\(\"([^\"]+)\"\)")
_V6 = re.compile(r"sin6_port=htons\((\d+)\),.*?inet_pton\(AF_INET6, \"([^\"]+)\"")
# Within the machine by nature: files, and the kernel's tables of interfaces.
_LOCAL: Final = {"AF_UNIX", "AF_NETLINK", "AF_UNSPEC", "AF_ALG"}


@dataclass(frozen=True, order=True)
class Attempt:
    """An attempt to reach ``address``; ``why`` it counts as leaving, "" for the machine itself."""

    address: str
    port: int
    why: str = ""


def attempts(lines: Iterable[str]) -> list[Attempt]:
    """Return the attempts to reach an IP address, in order; also those that failed.

    Raises `ValueError` for an address family that it can't judge.
    """
    found = []
    for line in lines:
        for family in _FAMILY.findall(line):
            if family in _LOCAL:
                continue
            pairs = [*_V4.findall(line), *_V6.findall(line)]
            if not pairs:
                raise ValueError(f"can't be judged: {line.strip()}")
            found += [_judged(address, int(port)) for port, address in pairs]
            break
    return found


def leaving(found: Iterable[Attempt]) -> list[Attempt]:
    return sorted({one for one in found if one.why})


def _judged(address: str, port: int) -> Attempt:
    ip = ipaddress.ip_address(address.partition("%")[0])
    mapped = getattr(ip, "ipv4_mapped", None) or ip
    if port == _PORT_DNS:
        return Attempt(address, port, "DNS")
    # Bound addresses are reached as the unspecified one.
    if mapped.is_loopback or mapped.is_unspecified:
        return Attempt(address, port)
    return Attempt(address, port, "address of another machine")
