"""HTTP requests to one engine, bounded in time and memory.

The egress policy decides which addresses may be connected to, and the connection goes to the
address that it checked; TLS and ``Host`` carry the name. Redirects and compressed replies are
refused.
"""

from __future__ import annotations

import asyncio
import json
import math
import re
import ssl
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from email.utils import parsedate_to_datetime
from functools import cache
from typing import Any, Final, TypeVar

import httpx
import msgspec

from chatsite.errors import ChatsiteError
from chatsite.inference.remote.contract import (
    Egress,
    Interrupted,
    Lied,
    Refused,
    RemoteError,
    Server,
    Stalled,
    TooLong,
    Unreachable,
)
from chatsite.inference.remote.lines import lines

_T = TypeVar("_T")

REPLY_MOST: Final = 16 << 20
# Bytes of one answer on the wire: hundreds for each of 100,000 tokens.
STREAM_MOST: Final = 256 << 20
_ERROR_MOST: Final = 64 << 10
_MESSAGE_MOST: Final = 500
_RESOLVED_SECONDS: Final = 30.0
# uvicorn, under vLLM, closes idle connections after 5 s; one that is being closed can't be used.
_IDLE_SECONDS: Final = 4.0
_RETRY_AFTER_MOST: Final = 3600.0

# What engines write when a prompt, or prompt and answer, exceed the context.
_TOO_LONG = re.compile(
    r"exceed_context_size|context_length_exceeded|maximum context length|context window"
    r"|(?:exceeds?|larger than|longer than)\b.{0,60}"
    r"\b(?:context|maximum model length|max_model_len)"
    r"|(?:max_tokens|max_completion_tokens)\b.{0,40}\b(?:too large|cannot be greater than)",
    re.IGNORECASE | re.DOTALL,
)
_PROMPT_FIGURE = re.compile(
    r"\((\d{1,9}) (?:tokens|in the messages)|has (\d{1,9}) input tokens"
    r"|(?:passed|contains at least|resulted in|prompt contains) (\d{1,9}) (?:input )?tokens",
    re.IGNORECASE,
)
_CONTEXT_FIGURE = re.compile(
    r"maximum context length (?:is|of) (\d{1,9})|context size \((\d{1,9})"
    r"|maximum model length of (\d{1,9})",
    re.IGNORECASE,
)


class _Pinned(httpx.AsyncBaseTransport):
    """Connects to addresses that the egress policy returned, in their order."""

    def __init__(self, egress: Egress) -> None:
        self._egress = egress
        self._inner = httpx.AsyncHTTPTransport(
            verify=trust(),
            trust_env=False,
            retries=0,
            limits=httpx.Limits(max_keepalive_connections=16, keepalive_expiry=_IDLE_SECONDS),
        )
        self._addresses: Sequence[str] = ()
        self._resolved_at = 0.0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        name = request.url
        if time.monotonic() - self._resolved_at > _RESOLVED_SECONDS:
            self._addresses = await self._egress(name)
            self._resolved_at = time.monotonic()
        if not self._addresses:
            raise httpx.ConnectError("the name has no address", request=request)
        request.extensions = {**request.extensions, "sni_hostname": name.host}
        for number, address in enumerate(self._addresses, 1):
            request.url = name.copy_with(host=address.partition("%")[0])
            try:
                return await self._inner.handle_async_request(request)
            except (httpx.ConnectError, httpx.ConnectTimeout):
                if number == len(self._addresses):
                    self._resolved_at = 0.0
                    raise
            finally:
                request.url = name
        raise AssertionError("unreachable")

    async def aclose(self) -> None:
        await self._inner.aclose()


@cache
def trust() -> ssl.SSLContext:
    """Return the certificates of the system, to which administrators add their own authority."""
    return ssl.create_default_context()


class Wire:
    """The connections to one engine."""

    def __init__(
        self, server: Server, egress: Egress, transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        self._server = server
        self._timeouts = server.timeouts
        headers = {"Accept-Encoding": "identity", "User-Agent": "chatsite"}
        if server.key:
            headers["Authorization"] = f"Bearer {server.key}"
        self._client = httpx.AsyncClient(
            headers=headers,
            transport=transport or _Pinned(egress),
            timeout=httpx.Timeout(None, connect=server.timeouts.connect),
            trust_env=False,
            follow_redirects=False,
        )

    async def close(self) -> None:
        await self._client.aclose()

    async def ask(
        self,
        path: str,
        kind: type[_T],
        body: Any = None,
        *,
        seconds: float | None = None,
        most: int = REPLY_MOST,
    ) -> _T:
        """Return a whole JSON reply, to a GET without ``body``. Raises `RemoteError`."""
        seconds = self._timeouts.reply if seconds is None else seconds
        async with self._response(path, body, seconds) as response:
            try:
                async with asyncio.timeout(seconds):
                    content = await _read(response, most)
            except TimeoutError as error:
                raise Stalled(f"no complete reply within {seconds:g} s") from error
        return decoded(content, kind)

    async def check(self, path: str) -> None:
        """Return if a GET succeeds, whatever it returns. Raises `RemoteError`."""
        async with self._response(path, None, self._timeouts.reply):
            pass

    @asynccontextmanager
    async def stream(
        self, path: str, body: Any, media: str
    ) -> AsyncIterator[AsyncGenerator[bytes]]:
        """Post ``body`` and yield the lines of the reply, whose type must be ``media``.

        Leaving the context before the end of the stream closes the connection, by which engines
        notice that nobody reads the answer.
        """
        deadline = time.monotonic() + self._timeouts.total
        async with self._response(path, body, self._timeouts.first) as response:
            kind = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
            if kind != media:
                raise Lied(f"the reply is {_short(kind) or 'of no type'} in place of {media}")
            yield lines(self._chunks(response, deadline))

    async def _chunks(self, response: httpx.Response, deadline: float) -> AsyncGenerator[bytes]:
        limit, size = self._timeouts.first, 0
        async with aclosing(_raw(response)) as source:
            while True:
                left = deadline - time.monotonic()
                try:
                    async with asyncio.timeout(min(limit, left)):
                        chunk = await anext(source, b"")
                except TimeoutError as error:
                    if left < limit:
                        total = self._timeouts.total
                        raise Stalled(f"the answer did not end within {total:g} s") from error
                    raise Stalled(f"the engine sent nothing for {limit:g} s") from error
                if not chunk:
                    return
                limit = self._timeouts.stall
                size += len(chunk)
                if size > STREAM_MOST:
                    raise Lied(f"the answer is longer than {STREAM_MOST >> 20} MiB")
                yield chunk

    @asynccontextmanager
    async def _response(
        self, path: str, body: Any, seconds: float
    ) -> AsyncIterator[httpx.Response]:
        """Yield a response of status 200, of which nothing was read."""
        response = await self._sent(path, body, seconds)
        try:
            if response.status_code != httpx.codes.OK:
                raise await self._refusal(response)
            coding = response.headers.get("Content-Encoding", "identity").lower()
            if coding != "identity":
                raise Lied(f"the reply is compressed ({_short(coding)}), which was not requested")
            yield response
        finally:
            await response.aclose()

    async def _sent(self, path: str, body: Any, seconds: float) -> httpx.Response:
        url = self._server.endpoint(path)
        content = None if body is None else msgspec.json.encode(body)
        headers = {} if body is None else {"Content-Type": "application/json"}
        try:
            request = self._client.build_request(
                "GET" if body is None else "POST", url, content=content, headers=headers
            )
            async with asyncio.timeout(seconds):
                return await self._client.send(request, stream=True)
        except (httpx.ConnectTimeout, httpx.PoolTimeout) as error:
            raise Unreachable("the connection timed out") from error
        except httpx.ConnectError as error:
            raise Unreachable(f"no connection: {_reason(error)}") from error
        except TimeoutError as error:
            raise Stalled(f"the engine did not answer within {seconds:g} s") from error
        except ChatsiteError as error:  # of the egress policy
            raise Unreachable(str(error)) from error
        except httpx.HTTPError as error:
            raise Interrupted(f"the connection broke: {_reason(error)}") from error
        except (OSError, httpx.InvalidURL) as error:
            raise Unreachable(f"no connection: {_reason(error)}") from error

    async def _refusal(self, response: httpx.Response) -> RemoteError:
        status = response.status_code
        if response.is_redirect:
            target = _short(response.headers.get("Location", ""))
            return Refused(status, f"redirects to {target}; enter the address of the engine itself")
        content = b""
        try:
            async with asyncio.timeout(self._timeouts.reply):
                content = await _read(response, _ERROR_MOST)
        except (RemoteError, TimeoutError):
            pass  # the status says enough
        message = self._without_key(message_of(content) or response.reason_phrase)
        return refusal(status, message, _retry_after(response.headers.get("Retry-After", "")))

    def _without_key(self, message: str) -> str:
        return message.replace(self._server.key, "…") if self._server.key else message


@asynccontextmanager
async def within(seconds: float) -> AsyncIterator[None]:
    """Bound several calls together. Raises `Stalled`."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError as error:
        raise Stalled(f"the engine was not done within {seconds:g} s") from error


def decoded(content: bytes, kind: type[_T]) -> _T:
    """Decode JSON of an engine. Raises `Lied`."""
    try:
        return msgspec.json.decode(content, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Lied(f"the reply is not what the protocol requires: {_short(str(error))}") from error


def refusal(status: int, message: str, retry_after: float | None = None) -> RemoteError:
    """Return the error that a status and a message mean."""
    if status in {0, 400, 413, 422, 500} and _TOO_LONG.search(message):
        return TooLong(message, _figure(_PROMPT_FIGURE, message), _figure(_CONTEXT_FIGURE, message))
    return Refused(status, message, retry_after)


def message_of(content: bytes) -> str:
    """Return the message of an error in JSON, in any of the forms of engines; empty if unknown."""
    try:
        value = msgspec.json.decode(content)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return ""
    return _short(_message(value))


def _message(value: Any) -> str:
    if isinstance(value, str):
        return value
    if not isinstance(value, dict):
        return ""
    for name in ("error", "message", "detail"):
        found = value.get(name)
        if isinstance(found, dict):
            kind, text = found.get("type"), found.get("message")
            if isinstance(text, str):
                known = kind == "exceed_context_size_error"
                return f"{text} ({kind})" if known else text
        elif isinstance(found, str):
            return found
        elif found:
            return json.dumps(found)
    return ""


def error_status(value: Any) -> int:
    """Return the status inside an error of a stream; 500 if there is none."""
    code = value.get("code", value.get("status")) if isinstance(value, dict) else None
    return code if isinstance(code, int) and httpx.codes.is_error(code) else 500


async def _raw(response: httpx.Response) -> AsyncGenerator[bytes]:
    """Yield the body as it arrives."""
    try:
        async for chunk in response.aiter_raw():
            if chunk:
                yield chunk
    except (httpx.HTTPError, OSError) as error:
        raise Interrupted(f"the connection broke: {_reason(error)}") from error


async def _read(response: httpx.Response, most: int) -> bytes:
    content = bytearray()
    async with aclosing(_raw(response)) as source:
        async for chunk in source:
            content += chunk
            if len(content) > most:
                raise Lied(f"the reply is longer than {most} bytes")
    return bytes(content)


def _retry_after(value: str) -> float | None:
    """Return the seconds of a ``Retry-After`` header, which has seconds or a date."""
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(value).timestamp() - time.time()
        except (ValueError, TypeError, OverflowError):
            return None
    return None if math.isnan(seconds) else min(max(seconds, 0.0), _RETRY_AFTER_MOST)


def _figure(pattern: re.Pattern[str], message: str) -> int:
    match = pattern.search(message)
    return int(next(filter(None, match.groups()))) if match else 0


def _short(text: str) -> str:
    """Return foreign text as one line of bounded length."""
    line = " ".join(
        "".join(c if c.isprintable() else " " for c in text[: _MESSAGE_MOST * 2]).split()
    )
    return line if len(line) <= _MESSAGE_MOST else f"{line[:_MESSAGE_MOST]}…"


def _reason(error: BaseException) -> str:
    causes = []
    cause: BaseException | None = error
    while cause is not None:
        causes.append(str(cause) or type(cause).__name__)
        cause = cause.__cause__ or cause.__context__
    return _short(causes[-1] if causes else "")
