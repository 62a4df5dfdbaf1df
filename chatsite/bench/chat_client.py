"""A headless client of the chat page, with the browser's socket, commands and cursor rule."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
import uuid
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Self
from urllib.parse import urlsplit

import msgspec
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, WebSocketException

from chatsite.chat import protocol as p
from chatsite.conversations import schema

_ACK_SECONDS = 1.0
# As in `static/src/chat/stream.js`: silence after which the page subscribes again.
_FORGOTTEN_SECONDS = 10.0
_FORGOTTEN_MOST_SECONDS = 160.0

_decode = msgspec.json.Decoder(p.AnyEvent).decode


class Refused(Exception):
    """The server answered a command with an error; ``args[0]`` is its body."""


@dataclass
class Answer:
    """An answer as received by the client.

    Times are `time.perf_counter` seconds; ``stamps`` has one per delta. ``message`` is the saved
    answer from the `ended` event.
    """

    generation: str
    message_id: str
    conversation: str
    sent_at: float
    acknowledged_at: float = 0.0
    text: str = ""
    cursor: int = 0
    stamps: list[float] = field(default_factory=list)
    waits: list[p.Waiting] = field(default_factory=list)
    attempts: list[int] = field(default_factory=list)
    # No delta since the last subscription: the answer may have ended before it.
    resubscribed: bool = False
    message: schema.Message | None = None
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    grew: asyncio.Event = field(default_factory=asyncio.Event)
    heard_at: float = 0.0
    patience: float = _FORGOTTEN_SECONDS

    def heard(self) -> None:
        self.heard_at = time.perf_counter()
        self.patience = _FORGOTTEN_SECONDS

    @property
    def generated(self) -> schema.Generation:
        """Return the generation of the saved answer. Raises `ValueError` before the end."""
        if self.message is None or self.message.generation is None:
            raise ValueError("The answer has not ended.")
        return self.message.generation

    @property
    def ttft(self) -> float | None:
        """Return the seconds from sending to the first text; None before it."""
        return self.stamps[0] - self.sent_at if self.stamps else None

    @property
    def gaps(self) -> list[float]:
        return [later - earlier for earlier, later in pairwise(self.stamps)]

    async def has(self, characters: int) -> None:
        """Wait until the text has that many characters, or the answer has ended."""
        while len(self.text) < characters and not self.ended.is_set():
            self.grew.clear()
            await self.grew.wait()


class ChatClient:
    """The page of a signed-in user on the site at ``url``; it reconnects and resumes by itself."""

    def __init__(self, url: str, cookies: str) -> None:
        self.url = url
        parts = urlsplit(url)
        self._address = f"{'wss' if parts.scheme == 'https' else 'ws'}://{parts.netloc}/ws/chat/"
        self._headers = {"Cookie": cookies}
        self._socket: ClientConnection | None = None
        self._reader: asyncio.Task[None] | None = None
        self._watcher: asyncio.Task[None] | None = None
        self._failure: Exception | None = None
        self._replies: dict[str, asyncio.Future[p.AnyEvent]] = {}
        self._unanswered: dict[str, str] = {}
        self.answers: dict[str, Answer] = {}
        self.changes: list[p.Changed] = []
        self.errors: list[p.Error] = []
        self.reconnects = 0
        # When the server last sent anything, by `time.perf_counter`.
        self.heard_at = 0.0

    async def __aenter__(self) -> Self:
        await self._connect()
        self._reader = asyncio.create_task(self._read_forever())
        return self

    async def __aexit__(self, *_: object) -> None:
        tasks = [task for task in (self._reader, self._watcher) if task]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._socket:
            await self._socket.close()

    async def ask(
        self, content: str, *, model: str, after: Answer | None = None, **params: Any
    ) -> Answer:
        """Send a message and return its answer once it is accepted.

        The message follows ``after``, or begins a new conversation. Raises `Refused`.
        """
        command: dict[str, Any] = {"type": "send", "content": content, "model": model}
        if after is not None:
            command |= {"conversation": after.conversation, "parent": after.message_id}
        if params:
            command["params"] = params
        return await self.command(command)

    async def regenerate(self, answer: Answer, *, model: str) -> Answer:
        return await self.command(
            {"type": "regenerate", "message": answer.message_id, "model": model}
        )

    async def command(self, command: dict[str, Any]) -> Answer:
        sent_at = time.perf_counter()
        reply = await self.request(command)
        if not isinstance(reply, p.Accepted):
            raise TypeError(f"{command['type']} was answered with {type(reply).__name__}")
        answer = self._accepted(reply)
        answer.sent_at = sent_at
        return answer

    async def stop(self, answer: Answer) -> None:
        await self.request({"type": "stop", "generation": answer.generation})

    async def follow(self, generation: str, message_id: str, conversation: str) -> Answer:
        """Follow an answer that another page requested, from its first character."""
        answer = self._answer(generation, message_id, conversation)
        await self._send({"type": "subscribe", "generation": generation, "cursor": 0})
        return answer

    async def request(self, command: dict[str, Any]) -> p.AnyEvent:
        """Send a command with a new ID and return the event that replies to it."""
        if self._failure is not None:
            raise self._failure
        id = str(uuid.uuid4())
        self._replies[id] = asyncio.get_running_loop().create_future()
        text = self._unanswered[id] = json.dumps({"id": id, **command})
        try:
            if self._socket:
                with contextlib.suppress(ConnectionClosed):
                    await self._socket.send(text)
            reply = await self._replies[id]
        finally:
            del self._replies[id]
            self._unanswered.pop(id, None)
        if isinstance(reply, p.Error):
            raise Refused(reply.error)
        return reply

    def _accepted(self, event: p.Accepted) -> Answer:
        message = event.assistant_message
        if message.generation is None:
            raise ValueError("An accepted answer has no generation.")
        return self._answer(message.generation.id, message.id, event.conversation.id)

    def _answer(self, generation: str, message_id: str, conversation: str) -> Answer:
        """Return the answer's record. Create it if needed: deltas can precede the reply."""
        if generation not in self.answers:
            self.answers[generation] = Answer(
                generation, message_id, conversation, time.perf_counter()
            )
            self.answers[generation].heard()
            if self._watcher is None or self._watcher.done():
                self._watcher = asyncio.create_task(self._watch())
        return self.answers[generation]

    async def _watch(self) -> None:
        """Subscribe again to open answers that the server no longer sends."""
        while open_answers := [one for one in self.answers.values() if not one.ended.is_set()]:
            await asyncio.sleep(_FORGOTTEN_SECONDS / 4)
            for answer in open_answers:
                silent = time.perf_counter() - answer.heard_at
                if silent > answer.patience and not answer.ended.is_set():
                    answer.patience += min(answer.patience, _FORGOTTEN_MOST_SECONDS)
                    with contextlib.suppress(ConnectionClosed):
                        await self._resubscribe(answer)

    async def _connect(self) -> None:
        self._socket = await connect(
            self._address,
            origin=self.url.rstrip("/"),  # type: ignore[arg-type]
            additional_headers=self._headers,
            max_size=None,
            proxy=None,
            ping_interval=None,  # browsers send none
        )

    async def _send(self, command: dict[str, Any]) -> None:
        if self._socket:
            await self._socket.send(json.dumps(command))

    async def _read_forever(self) -> None:
        try:
            while True:
                with contextlib.suppress(ConnectionClosed):
                    while self._socket:
                        await self._handle(_decode(await self._socket.recv()))
                await self._reconnect()
        except Exception as error:
            # Without a reader no command would ever have a reply.
            self._failure = error
            for reply in self._replies.values():
                if not reply.done():
                    reply.set_exception(error)
            raise

    async def _reconnect(self) -> None:
        self.reconnects += 1
        while True:
            try:
                await self._connect()
                await self._resume()
                return
            except (OSError, WebSocketException):
                await asyncio.sleep(0.1)

    async def _resume(self) -> None:
        """Follow open answers and repeat commands without a reply on the new socket."""
        for answer in self.answers.values():
            if not answer.ended.is_set():
                await self._resubscribe(answer)
        for text in list(self._unanswered.values()):
            await self._socket.send(text)  # type: ignore[union-attr]

    async def _resubscribe(self, answer: Answer) -> None:
        answer.resubscribed = True
        await self._send(
            {"type": "subscribe", "generation": answer.generation, "cursor": answer.cursor}
        )

    async def _handle(self, event: p.AnyEvent) -> None:
        self.heard_at = time.perf_counter()
        match event:
            case p.Accepted():
                self._accepted(event)
            case p.Changed():
                self.changes.append(event)
            case p.Error():
                self.errors.append(event)
        reply = self._replies.get(getattr(event, "id", None) or "")
        if reply is not None:
            if not reply.done():
                reply.set_result(event)
            return
        answer = self.answers.get(getattr(event, "generation", None) or "")
        if answer is not None:
            await self.apply(answer, event)

    async def _acknowledge(self, answer: Answer) -> None:
        """Acknowledge as often as the page does."""
        now = time.perf_counter()
        if now - answer.acknowledged_at >= _ACK_SECONDS:
            answer.acknowledged_at = now
            await self._send(
                {"type": "ack", "generation": answer.generation, "cursor": answer.cursor}
            )

    async def apply(self, answer: Answer, event: p.AnyEvent) -> None:
        """Apply an event of a generation to its answer."""
        answer.heard()
        match event:
            case p.Waiting():
                answer.waits.append(event)
            case p.Started():
                answer.attempts.append(event.attempt)
            case p.Delta() if event.start == answer.cursor:
                answer.text += event.text
                answer.cursor = event.end
                answer.resubscribed = False
                answer.stamps.append(time.perf_counter())
                await self._acknowledge(answer)
            case p.Delta() if event.end > answer.cursor:
                await self._resubscribe(answer)
            case p.Ended() if event.cursor != answer.cursor:
                await self._resubscribe(answer)
            case p.Ended():
                answer.message = event.message
                saved = event.message.content
                if not answer.text or (answer.resubscribed and saved.startswith(answer.text)):
                    # It ended before this page followed it, so the saved text arrives in one piece.
                    answer.text = saved
                    answer.stamps.append(time.perf_counter())
                answer.ended.set()
        answer.grew.set()
