"""Remote engines at the edge of the world: canned replies, and what was sent to them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx
import msgspec

from chatsite.engine.contract.messages import ChatMessage, PromptOptions, SamplingParams
from chatsite.inference.remote.canonical import read
from chatsite.inference.remote.connect import connect
from chatsite.inference.remote.contract import (
    Capability,
    Client,
    Finish,
    Kind,
    Piece,
    RemoteModel,
    RemoteRequest,
    Server,
    Timeouts,
)
from chatsite.inference.remote.transport import Wire

ALL = frozenset(Capability)
MODEL = RemoteModel("tiny", 4096, ALL)
QUICK = Timeouts(connect=2, reply=2, first=2, stall=2, total=10)
Reply = httpx.Response | Callable[[httpx.Request], httpx.Response]


async def no_egress(url: httpx.URL) -> Sequence[str]:
    raise AssertionError(f"no connection expected: {url}")


async def loopback(url: httpx.URL) -> Sequence[str]:
    """Allow this machine only."""
    assert url.host in {"127.0.0.1", "localhost"}, url
    return ["127.0.0.1"]


class Chunks(httpx.AsyncByteStream):
    """A body that arrives in parts; ``closed`` by its reader. ``error`` ends it."""

    def __init__(self, parts: Iterable[bytes], error: Exception | None = None) -> None:
        self._parts = list(parts)
        self._error = error
        self.closed = False
        self.sent = 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for part in self._parts:
            self.sent += 1
            yield part
        if self._error is not None:
            raise self._error

    async def aclose(self) -> None:
        self.closed = True


def stream(body: Chunks | bytes | Iterable[bytes], media: str) -> httpx.Response:
    """Return a streamed reply; bytes arrive as one part."""
    if isinstance(body, bytes):
        body = [body]
    parts = body if isinstance(body, Chunks) else Chunks(body)
    return httpx.Response(200, headers={"Content-Type": media}, stream=parts)


def sse(*events: Any, done: bool = True) -> bytes:
    """Return server-sent events with JSON."""
    data = [event if isinstance(event, str) else json.dumps(event) for event in events]
    return "".join(f"data: {one}\n\n" for one in [*data, *(["[DONE]"] if done else [])]).encode()


def delta(finish: str | None = None, **fields: Any) -> dict[str, Any]:
    """Return a chunk of OpenAI's chats."""
    return {"choices": [{"index": 0, "delta": fields, "finish_reason": finish}]}


def usage(prompt: int, completion: int, **further: Any) -> dict[str, Any]:
    counts = {"prompt_tokens": prompt, "completion_tokens": completion}
    return {"choices": [], "usage": counts | further}


def _unread(reply: httpx.Response) -> httpx.Response:
    """Return a reply whose body was not read yet, as those of a connection."""
    if not reply.is_stream_consumed:
        return reply
    return httpx.Response(reply.status_code, headers=reply.headers, stream=Chunks([reply.content]))


@dataclass
class Edge:
    """The replies of an engine by path; a list is taken in order. ``sent`` are the JSON bodies."""

    replies: Mapping[str, Reply | list[Reply]]
    sent: list[tuple[str, Any]] = field(default_factory=list)
    requests: list[httpx.Request] = field(default_factory=list)

    def client(self, kind: Kind, url: str = "http://engine:8000", **fields: Any) -> Client:
        server = Server(kind, url, **{"timeouts": QUICK, **fields})
        wire = Wire(server, no_egress, httpx.MockTransport(self._handle))
        return connect(server, egress=no_egress, wire=wire)

    def _handle(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path
        self.requests.append(request)
        self.sent.append((path, msgspec.json.decode(request.content) if request.content else None))
        reply = self.replies.get(path)
        if isinstance(reply, list):
            reply = reply.pop(0)
        if reply is None:
            reply = httpx.Response(404, json={"error": {"message": f"no {path}"}})
        return _unread(reply if isinstance(reply, httpx.Response) else reply(request))

    def body(self, path: str) -> Any:
        """Return the last body that was sent to ``path``."""
        return next(body for sent, body in reversed(self.sent) if sent == path)


def ask(text: str = "Hello", model: RemoteModel = MODEL, **fields: Any) -> RemoteRequest:
    """Return a request; fields of parameters and options are recognized by their names."""
    params = {k: fields.pop(k) for k in list(fields) if k in SamplingParams.__struct_fields__}
    options = {k: fields.pop(k) for k in list(fields) if k in PromptOptions.__struct_fields__}
    return RemoteRequest(
        model,
        fields.pop("messages", (ChatMessage("user", text),)),
        SamplingParams(**params),
        PromptOptions(**options),
        **fields,
    )


@dataclass
class Whole:
    """A whole answer."""

    text: str
    pieces: list[Piece]
    finish: Finish

    @property
    def reasoning(self) -> str:
        return read(self.text).reasoning

    @property
    def content(self) -> str:
        return read(self.text).content

    @property
    def calls(self) -> list[tuple[str, Any]]:
        calls = read(self.text).calls
        return [(call.name, json.loads(call.arguments)) for call in calls]


async def answer(client: Client, request: RemoteRequest) -> Whole:
    """Read an answer to its end."""
    pieces: list[Piece] = []
    finish: Finish | None = None
    async for item in client.generate(request):
        assert finish is None, "something follows the end"
        if isinstance(item, Piece):
            pieces.append(item)
        else:
            finish = item
    assert finish is not None, "no end"
    text = request.resume_text + "".join(piece.text for piece in pieces)
    return Whole(text, pieces, finish)
