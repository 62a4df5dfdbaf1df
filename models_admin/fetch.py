"""Answers from outside: small ones whole, others as they come. What may be asked is decided in
`outside.py`, which this is written on; the bodies of large files come by `bulk.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

import httpx
from django.utils.translation import gettext_lazy as _

from models_admin.outside import (
    CONNECT_SECONDS,
    REDIRECTS,
    REDIRECTS_MAX,
    checked_address,
    failed,
    origin,
    parse,
    refused,
)


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
            raise failed(httpx.URL(self.url).host, error) from error


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
    target = parse(url)
    first = origin(target)
    for _hop in range(REDIRECTS_MAX + 1):
        sent = {"Accept-Encoding": "identity", **(headers or {})}
        if token and origin(target) == first:
            sent["Authorization"] = f"Bearer {token}"
        async with _request(method, target, sent, stall_seconds) as response:
            if response.status_code not in REDIRECTS or "Location" not in response.headers:
                yield Reply(str(target), response.status_code, response.headers, response)
                return
            target = parse(str(target.join(response.headers["Location"])))
    raise refused(_("%s redirects too often."), url)


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
                    raise refused(_("The answer of %s is too long."), url)
            return reply, bytes(body)
    except TimeoutError as error:
        raise failed(httpx.URL(url).host, error) from error


@asynccontextmanager
async def _request(
    method: str, target: httpx.URL, headers: dict[str, str], stall_seconds: float
) -> AsyncIterator[httpx.Response]:
    address = await asyncio.to_thread(checked_address, target)
    timeout = httpx.Timeout(stall_seconds, connect=CONNECT_SECONDS)
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
            raise failed(target.host, error) from error
        try:
            yield response
        finally:
            await response.aclose()
