"""The one loop behind every streamed answer: events of the answers in, an endpoint's bytes out."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

from django.http import HttpResponseBase

from chatsite.accounts.keys import Caller
from chatsite.api import http
from chatsite.api.http import encode, error_body
from chatsite.api.many import Answers, Wanted, ask_all
from chatsite.api.requests import Event, Piece
from chatsite.chat.runtime import runtime
from chatsite.errors import ChatsiteError
from chatsite.stream.hub import Place
from chatsite.stream.messages import End

# Silence after which proxies and impatient clients get a sign of life. Until the first one
# nothing is sent, so that what fails at once is an ordinary refusal with its status.
_SIGN_SECONDS = 2.0
DONE = b"data: [DONE]\n\n"


class Form(ABC):
    """How an endpoint words one request's answers: each method returns the bytes to send, which
    may be none. ``index`` is the answer's. Errors and signs of life are those of server-sent
    events unless a form has its own."""

    content_type = "text/event-stream"

    def begin(self) -> bytes:
        """Sent with the first text, so that a refusal can still come before it."""
        return b""

    @abstractmethod
    def piece(self, index: int, piece: Piece) -> bytes: ...

    @abstractmethod
    def end(self, index: int, end: End) -> bytes:
        """Comes once for each answer, after its last piece."""

    def fail(self, error: ChatsiteError) -> bytes:
        """The last event of a stream that failed."""
        return data(error_body(error))

    def sign(self, text: str) -> bytes:
        """A comment, which clients skip; people read it with curl."""
        return f": {text}\n\n".encode()


def data(value: object) -> bytes:
    """One server-sent event."""
    return b"data: " + encode(value) + b"\n\n"


async def stream(
    caller: Caller, wanted: Sequence[Wanted], form: Callable[[Answers], Form]
) -> HttpResponseBase:
    """Asks for all that is ``wanted`` and answers in one form, a write per entry of a stream.

    Raises what ends the answers before anything was sent; later that is the form's last event.
    """
    async with AsyncExitStack() as stack:
        answers = await stack.enter_async_context(ask_all(runtime(), caller, wanted))
        worded = form(answers)
        chunks = _chunks(worded, answers, stack.pop_all())
    return await http.stream(chunks, worded.content_type, answers.position)


async def _chunks(form: Form, answers: Answers, stack: AsyncExitStack) -> AsyncGenerator[bytes]:
    async with stack:
        held, sent, signs = form.begin(), False, _Signs()
        try:
            async for index, event in answers.events():
                if isinstance(event, Piece):
                    chunk, held = held + form.piece(index, event), b""
                elif isinstance(event, End):
                    chunk, held = held + form.end(index, event), b""
                else:
                    chunk = form.sign(text) if (text := signs.due(event)) else b""
                if chunk:
                    sent = True
                    yield chunk
        except ChatsiteError as error:
            if not sent:
                raise
            yield held + form.fail(error)


@dataclass
class _Signs:
    _last: float = field(default_factory=time.monotonic)
    _text: str = "waiting"

    def due(self, event: Event) -> str:
        """What to tell while nothing else comes, if it is time to."""
        if isinstance(event, Place):
            self._text = f"waiting, {event.ahead} ahead, model {event.model}"
        now = time.monotonic()
        if now - self._last < _SIGN_SECONDS:
            return ""
        self._last = now
        return self._text
