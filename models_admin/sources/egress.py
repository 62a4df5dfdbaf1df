"""Policy for outgoing requests: https to hosts on the allow-list, public addresses only.

A name is resolved here and the connection goes to the address that was checked, which prevents DNS
rebinding; TLS and `Host` still carry the name. Each redirect is checked like the first request.
`CHATSITE_OLLAMA_REGISTRY` and `CHATSITE_HF_ENDPOINT` are trusted, whatever their scheme, port or
address. So is the address of a remote engine (`engine_url`): an administrator added it, and it is
usually inside the network. Requests to it stay at its origin and follow no redirect.
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import logging
import socket
import ssl
from collections.abc import Iterator
from typing import Final

import httpx
from django.conf import settings
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from chatsite.errors import ChatsiteError, worded

logger = logging.getLogger(__name__)

HTTPS_PORT: Final = 443
REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
REDIRECTS_MAX: Final = 5
CONNECT_SECONDS: Final = 10.0
_UNREACHABLE: Final = frozenset({errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN})
_NAT64 = ipaddress.ip_network("64:ff9b::/96")

_hosts: Final[set[tuple[str, str, int | None]]] = set()

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class FetchRefused(ChatsiteError):
    """The URL is not allowed, so there is no retry."""

    code = "fetch_refused"
    status = 400
    message = _("Downloads from this address are not allowed.")


class FetchFailed(ChatsiteError):
    code = "fetch_failed"
    status = 502
    permanent = False
    message = _("The remote server could not be reached. Try again later.")


def parse(url: str) -> httpx.URL:
    """Return the parsed URL. Raises `FetchRefused` if its text shows that it is not allowed."""
    try:
        target = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise refused(_("%r is not a valid address."), url) from error
    if target.userinfo:
        raise refused(_("The address of %s contains a password. Remove it."), target.host)
    if _is_trusted(target):
        return target
    if target.scheme != "https" or (target.port or HTTPS_PORT) != HTTPS_PORT:
        raise refused(_("%s can't be downloaded: only https on port 443 is allowed."), url)
    if not _is_listed(target.host):
        raise refused(
            _("Downloads from %s are not allowed. Add the host to CHATSITE_DOWNLOAD_HOSTS first."),
            target.host,
        )
    return target


def engine_url(text: str) -> httpx.URL:
    """Return the address of a remote engine, without a slash at its end.

    Raises `FetchRefused` if it is not one.
    """
    try:
        url = httpx.URL(text.strip().rstrip("/"))
    except httpx.InvalidURL as error:
        raise refused(_("%r is not a valid address."), text) from error
    if url.scheme not in {"http", "https"} or not url.host:
        raise refused(
            _("%r is not a valid address of an engine: it looks like http://gpu1:8000."), text
        )
    if url.userinfo:
        raise refused(_("The address of %s contains a password. Remove it."), url.host)
    if url.query or url.fragment:
        raise refused(_("The address of %s contains ? or #. Remove that part."), url.host)
    return url


async def engine_addresses(engine: httpx.URL, url: httpx.URL) -> list[str]:
    """Return the addresses of ``url``, which must have the origin of the engine ``engine``.

    Addresses inside the network are allowed. Those of the link, where clouds have their metadata,
    are not, unless the address of the engine is one of them. Raises `FetchRefused` or
    `FetchFailed`.
    """
    if origin(url) != origin(engine):
        raise refused(_("The engine must not lead to another server: %s."), str(url))
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(url.host, port_of(url), type=socket.SOCK_STREAM)
    except OSError as error:
        raise failed(url.host, error) from error
    addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    usable = [one for one in addresses if one == url.host or not _is_of_the_link(one)]
    if not usable:
        raise refused(_("%s has no address that may be contacted."), url.host)
    return usable


def _is_of_the_link(address: str) -> bool:
    parsed = ipaddress.ip_address(address.partition("%")[0])
    return parsed.is_link_local or parsed.is_multicast or parsed.is_unspecified


def origin(url: httpx.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port


def port_of(url: httpx.URL) -> int:
    return url.port or (HTTPS_PORT if url.scheme == "https" else 80)


def trust_host(url: str) -> None:
    """Trust the origin ``url``, at which an inference host of this site serves its files.

    Hosts announce it in Redis, which only machines of the site can write.
    """
    _hosts.add(origin(httpx.URL(url)))


def trust_no_hosts() -> None:
    """Withdraw what `trust_host` allowed."""
    _hosts.clear()


def _is_trusted(url: httpx.URL) -> bool:
    if origin(url) in _hosts:
        return True
    named = (settings.ENV.ollama_registry, settings.ENV.hf_endpoint)
    return any(origin(url) == origin(httpx.URL(endpoint)) for endpoint in named if endpoint)


def _is_listed(host: str) -> bool:
    """Return whether ``host`` is on the allow-list.

    ``*.example.org`` matches every name below it, not ``example.org`` itself.
    """
    host = host.lower()
    return any(
        host.endswith(entry[1:].lower()) if entry.startswith("*.") else host == entry.lower()
        for entry in settings.ENV.download_hosts
    )


def checked_address(url: httpx.URL) -> str:
    """Return the address to connect to. Blocks during name resolution.

    Raises `FetchRefused` or `FetchFailed`.
    """
    try:
        found = socket.getaddrinfo(url.host, port_of(url), type=socket.SOCK_STREAM)
    except OSError as error:
        raise failed(url.host, error) from error
    addresses = [str(entry[4][0]) for entry in found]
    if not _is_trusted(url) and not all(is_public(address) for address in addresses):
        raise refused(
            _("Downloads from %s are not allowed: it has an address inside this network."), url.host
        )
    return addresses[0]


def is_public(address: str) -> bool:
    """Return False for loopback, private, link-local, metadata, multicast and reserved addresses.

    This includes IPv6 addresses that embed such an IPv4 address.
    """
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
    """Log and return a refusal with ``value`` in its message."""
    error = FetchRefused(worded(message, value))
    logger.warning("Outgoing request refused", extra={"error": error})
    return error


def failed(host: str, error: Exception) -> FetchFailed:
    """Return an error that explains a failed request to the user.

    The system's reason, such as ``[Errno -2] Name or service not known``, is only logged.
    """
    causes = list(_causes(error))
    reason = "; ".join(str(one) or type(one).__name__ for one in causes)
    logger.warning("Outgoing request failed", extra={"host": host, "error": reason})
    if any(isinstance(one, ssl.SSLError) for one in causes):
        text = _("The certificate of %(host)s was not accepted. Check it, then try again.")
    elif any(_is_no_connection(one) for one in causes):
        text = _(
            "This server has no connection to %(host)s. Import a model file instead, or try again "
            "later."
        )
    else:
        text = _("The connection to %(host)s was interrupted. Try again later.")
    return FetchFailed(worded(text, {"host": host}))


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _is_no_connection(error: BaseException) -> bool:
    """Return whether no connection was made.

    Causes are name resolution, routing, a refused connection or a connect timeout.
    """
    if isinstance(error, (httpx.ConnectError, httpx.ConnectTimeout, socket.gaierror)):
        return True
    return isinstance(error, ConnectionRefusedError) or (
        isinstance(error, OSError) and error.errno in _UNREACHABLE
    )
