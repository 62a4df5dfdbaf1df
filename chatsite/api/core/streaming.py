"""The loop behind every streamed answer: events of the answers in, an endpoint's bytes out."""

from __future__ import annotations

import logging
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

from django.http import HttpResponseBase

from chatsite.accounts.keys import Caller
from chatsite.answers.runtime import runtime
from chatsite.api.core import http
from chatsite.api.core.fan_out import Answers, GenerationRequest, ask_all
from chatsite.api.core.http import encode, error_body
from chatsite.api.core.requests import Event, TextChunk
from chatsite.errors import ChatsiteError
from chatsite.stream.entries import End
from chatsite.stream.hub import QueuePosition

log = logging.getLogger(__name__)

# Seconds of silence after which proxies and impatient clients get a keep-alive. Nothing is sent
# before the first one, so an immediate failure is an ordinary error response with its status.
SIGN_SECONDS = 2.0
DONE = b"data: [DONE]\n\n"


class ResponseEncoder(ABC):
    """Encodes one request's answers for an endpoint.

    Each method returns the bytes to send, which may be empty; ``index`` is that of the answer.
    Errors and keep-alives are server-sent events unless a subclass overrides them.
    """

    content_type = "text/event-stream"

    def begin(self) -> bytes:
        """Return what precedes the first text; sent with it, so an error can still come first."""
        return b""

    @abstractmethod
    def piece(self, index: int, piece: TextChunk) -> bytes: ...

    @abstractmethod
    def end(self, index: int, end: End) -> bytes:
        """Return the end of one answer; called once for each, after its last piece."""

    def fail(self, error: ChatsiteError) -> bytes:
        """Return the last event of a stream that failed."""
        return data(error_body(error))

    def keepalive(self, text: str) -> bytes:
        """Return a comment: clients skip it, users of curl can read it."""
        return f": {text}\n\n".encode()


def data(value: object) -> bytes:
    """Return one server-sent event."""
    return b"data: " + encode(value) + b"\n\n"


async def stream(
    caller: Caller, wanted: Sequence[GenerationRequest], form: Callable[[Answers], ResponseEncoder]
) -> HttpResponseBase:
    """Submit the requests and stream their answers, with one write per stream entry.

    Raises errors that occur before anything was sent; later ones become the stream's last event.
    """
    async with AsyncExitStack() as stack:
        answers = await stack.enter_async_context(ask_all(runtime(), caller, wanted))
        worded = form(answers)
        chunks = chunks_of(worded, answers, stack.pop_all())
    return await http.stream(chunks, worded.content_type, answers.position)


async def chunks_of(
    form: ResponseEncoder, answers: Answers, stack: AsyncExitStack
) -> AsyncGenerator[bytes]:
    async with stack:
        held, sent, signs = form.begin(), False, _KeepAlives()
        try:
            async for index, event in answers.events():
                if isinstance(event, TextChunk):
                    chunk, held = held + form.piece(index, event), b""
                elif isinstance(event, End):
                    chunk, held = held + form.end(index, event), b""
                else:
                    chunk = form.keepalive(text) if (text := signs.due(event)) else b""
                if chunk:
                    sent = True
                    yield chunk
        except ChatsiteError as error:
            if not sent:
                raise
            yield held + form.fail(error)
        except Exception as error:
            if not sent:
                raise
            log.error("API stream failed", exc_info=error)
            yield held + form.fail(ChatsiteError())


@dataclass
class _KeepAlives:
    _last: float = field(default_factory=time.monotonic)
    _text: str = "waiting"

    def due(self, event: Event) -> str:
        """Return the keep-alive text if one is due, else ""."""
        if isinstance(event, QueuePosition):
            self._text = f"waiting, {event.ahead} ahead, model {event.model}"
        now = time.monotonic()
        if now - self._last < SIGN_SECONDS:
            return ""
        self._last = now
        return self._text
