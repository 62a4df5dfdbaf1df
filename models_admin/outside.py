"""What this server may ask outside: https to hosts on a list, at addresses that are public.

A name is resolved here and connections go to the address that was checked, so that a second
answer of the DNS changes nothing; TLS and `Host` still carry the name. Each redirect is checked
like the first request. What the operator named in `CHATSITE_OLLAMA_REGISTRY` or
`CHATSITE_HF_ENDPOINT` is trusted, whatever its scheme, port or address.
"""

from __future__ import annotations

import ipaddress
import logging
import socket
from typing import Final

import httpx
from django.conf import settings
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from chatsite.errors import ChatsiteError

logger = logging.getLogger(__name__)

HTTPS_PORT: Final = 443
REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
REDIRECTS_MAX: Final = 5
CONNECT_SECONDS: Final = 10.0
_NAT64 = ipaddress.ip_network("64:ff9b::/96")

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class FetchRefused(ChatsiteError):
    """Never tried again: the address is not one that this server may ask."""

    code = "fetch_refused"
    status = 400
    message = _("This address can't be fetched.")


class FetchFailed(ChatsiteError):
    code = "fetch_failed"
    status = 502
    permanent = False
    message = _("The other server could not be reached. Try again later.")


def parse(url: str) -> httpx.URL:
    """Raises `FetchRefused` for what may not be asked, as far as its text can tell."""
    try:
        target = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise refused(_("%r is not an address."), url) from error
    if target.userinfo:
        raise refused(_("The address of %s holds a password."), target.host)
    if _is_trusted(target):
        return target
    if target.scheme != "https" or (target.port or HTTPS_PORT) != HTTPS_PORT:
        raise refused(_("%s can't be fetched: only https on its usual port may be."), url)
    if not _is_listed(target.host):
        raise refused(
            _("The host %s is not in CHATSITE_DOWNLOAD_HOSTS, where an operator can add it."),
            target.host,
        )
    return target


def origin(url: httpx.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port


def port_of(url: httpx.URL) -> int:
    return url.port or (HTTPS_PORT if url.scheme == "https" else 80)


def _is_trusted(url: httpx.URL) -> bool:
    named = (settings.ENV.ollama_registry, settings.ENV.hf_endpoint)
    return any(origin(url) == origin(httpx.URL(endpoint)) for endpoint in named if endpoint)


def _is_listed(host: str) -> bool:
    """``*.example.org`` in the list stands for every name below it, not for itself."""
    host = host.lower()
    return any(
        host.endswith(entry[1:].lower()) if entry.startswith("*.") else host == entry.lower()
        for entry in settings.ENV.download_hosts
    )


def checked_address(url: httpx.URL) -> str:
    """The address to connect to. Blocks while the name is resolved; raises `FetchRefused` or
    `FetchFailed`."""
    try:
        found = socket.getaddrinfo(url.host, port_of(url), type=socket.SOCK_STREAM)
    except OSError as error:
        raise failed(url.host, error) from error
    addresses = [str(entry[4][0]) for entry in found]
    if not _is_trusted(url) and not all(is_public(address) for address in addresses):
        raise refused(_("The host %s has an address inside this network."), url.host)
    return addresses[0]


def is_public(address: str) -> bool:
    """False for loopback, private, link-local, metadata, multicast and reserved addresses, and
    for IPv6 ones that carry such an IPv4 address."""
    parsed: Address = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(parsed, ipaddress.IPv6Address):
        inner = [parsed.ipv4_mapped, parsed.sixtofour, *(parsed.teredo or ())]
        if parsed in _NAT64:
            inner.append(ipaddress.IPv4Address(int(parsed) & 0xFFFFFFFF))
        if any(not is_public(str(one)) for one in inner if one is not None):
            return False
        if parsed.ipv4_mapped is not None:
            return True
    return parsed.is_global and not parsed.is_multicast


def refused(message: str | Promise, value: str) -> FetchRefused:
    """With the value in the message; written to the log."""
    error = FetchRefused(str(message) % value)
    logger.warning("refused to fetch: %s", error)
    return error


def failed(host: str, error: Exception) -> FetchFailed:
    """With the host and why."""
    reason = str(error) or type(error).__name__
    return FetchFailed(
        str(_("%(host)s could not be asked: %(reason)s.")) % {"host": host, "reason": reason}
    )
