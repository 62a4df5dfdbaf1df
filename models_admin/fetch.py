"""The one way to anything outside: https to hosts on a list, at addresses that are public.

A name is resolved here and the connection goes to the address that was checked, so that a
second answer of the DNS changes nothing; TLS and `Host` still carry the name. Each redirect is
checked like the first request. What the operator named in `CHATSITE_OLLAMA_REGISTRY` or
`CHATSITE_HF_ENDPOINT` is trusted, whatever its scheme, port or address.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

import httpx
from django.conf import settings
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from chatsite.errors import ChatsiteError

logger = logging.getLogger(__name__)

_HTTPS_PORT = 443
_REDIRECTS_MAX = 5
_REDIRECTS = {301, 302, 303, 307, 308}
_CONNECT_SECONDS = 10.0
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


@dataclass(frozen=True)
class Reply:
    """``url`` is the last one, behind all redirects."""

    url: str
    status: int
    headers: httpx.Headers
    _response: httpx.Response

    async def blocks(self) -> AsyncIterator[bytes]:
        """The body as it was sent. Raises `FetchFailed` when it stalls or breaks off."""
        try:
            async for block in self._response.aiter_raw():
                yield block
        except httpx.HTTPError as error:
            raise _failed(httpx.URL(self.url).host, error) from error


@asynccontextmanager
async def stream(
    url: str,
    *,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    token: str = "",
    stall_seconds: float = 30.0,
) -> AsyncIterator[Reply]:
    """The answer to ``url`` behind its redirects, whatever its status; its body comes by
    `Reply.blocks`. ``token`` is sent as Bearer to the origin of ``url`` and to no other.
    Raises `FetchRefused`, or `FetchFailed` when nothing comes for ``stall_seconds``."""
    target = _parse(url)
    first = _origin(target)
    for _hop in range(_REDIRECTS_MAX + 1):
        sent = {"Accept-Encoding": "identity", **(headers or {})}
        if token and _origin(target) == first:
            sent["Authorization"] = f"Bearer {token}"
        async with _request(method, target, sent, stall_seconds) as response:
            if response.status_code not in _REDIRECTS or "Location" not in response.headers:
                yield Reply(str(target), response.status_code, response.headers, response)
                return
            target = _parse(str(target.join(response.headers["Location"])))
    raise _refused(_("%s redirects too often."), url)


async def read(
    url: str,
    *,
    limit: int,
    seconds: float = 60.0,
    headers: Mapping[str, str] | None = None,
    token: str = "",
) -> tuple[Reply, bytes]:
    """An answer of at most ``limit`` bytes, whole, within ``seconds``."""
    try:
        async with (
            asyncio.timeout(seconds),
            stream(url, headers=headers, token=token) as reply,
        ):
            body = bytearray()
            async for block in reply.blocks():
                body += block
                if len(body) > limit:
                    raise _refused(_("The answer of %s is too long."), url)
            return reply, bytes(body)
    except TimeoutError as error:
        raise _failed(httpx.URL(url).host, error) from error


@asynccontextmanager
async def _request(
    method: str, target: httpx.URL, headers: dict[str, str], stall_seconds: float
) -> AsyncIterator[httpx.Response]:
    address = await _checked_address(target)
    timeout = httpx.Timeout(stall_seconds, connect=_CONNECT_SECONDS)
    # A client for this name alone: a pool would share connections by address, not by name.
    # Proxies and credentials of the environment are nobody's decision for this server.
    async with httpx.AsyncClient(trust_env=False, timeout=timeout) as client:
        request = client.build_request(
            method,
            target.copy_with(host=address),
            headers={**headers, "Host": target.netloc.decode("ascii")},
            extensions={"sni_hostname": target.host},
        )
        try:
            response = await client.send(request, stream=True)
        except httpx.HTTPError as error:
            raise _failed(target.host, error) from error
        try:
            yield response
        finally:
            await response.aclose()


def _parse(url: str) -> httpx.URL:
    """Raises `FetchRefused` for what may not be asked, as far as its text can tell."""
    try:
        target = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise _refused(_("%r is not an address."), url) from error
    if target.userinfo:
        raise _refused(_("The address of %s holds a password."), target.host)
    if _is_trusted(target):
        return target
    if target.scheme != "https" or (target.port or _HTTPS_PORT) != _HTTPS_PORT:
        raise _refused(_("%s can't be fetched: only https on its usual port may be."), url)
    if not _is_listed(target.host):
        raise _refused(
            _("The host %s is not in CHATSITE_DOWNLOAD_HOSTS, where an operator can add it."),
            target.host,
        )
    return target


def _origin(url: httpx.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port


def _is_trusted(url: httpx.URL) -> bool:
    named = (settings.ENV.ollama_registry, settings.ENV.hf_endpoint)
    return any(_origin(url) == _origin(httpx.URL(endpoint)) for endpoint in named if endpoint)


def _is_listed(host: str) -> bool:
    """``*.example.org`` in the list stands for every name below it, not for itself."""
    host = host.lower()
    return any(
        host.endswith(entry[1:].lower()) if entry.startswith("*.") else host == entry.lower()
        for entry in settings.ENV.download_hosts
    )


async def _checked_address(url: httpx.URL) -> str:
    port = url.port or (_HTTPS_PORT if url.scheme == "https" else 80)
    try:
        found = await asyncio.get_running_loop().getaddrinfo(
            url.host, port, type=socket.SOCK_STREAM
        )
    except OSError as error:
        raise _failed(url.host, error) from error
    addresses = [str(entry[4][0]) for entry in found]
    if not _is_trusted(url) and not all(is_public(address) for address in addresses):
        raise _refused(_("The host %s has an address inside this network."), url.host)
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


def _refused(message: str | Promise, value: str) -> FetchRefused:
    error = FetchRefused(str(message) % value)
    logger.warning("refused to fetch: %s", error)
    return error


def _failed(host: str, error: Exception) -> FetchFailed:
    reason = str(error) or type(error).__name__
    return FetchFailed(
        str(_("%(host)s could not be asked: %(reason)s.")) % {"host": host, "reason": reason}
    )
