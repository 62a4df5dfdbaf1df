"""A chat page without a screen: the same socket, commands and cursor rule as the browser's."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
import uuid
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any
from urllib.parse import urlsplit

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, WebSocketException

_ACK_SECONDS = 1.0


class Refused(Exception):
    """The server answered a command with an error; ``args[0]`` is its body."""


@dataclass
class Answer:
    """What reached the client. Times are `time.perf_counter` seconds; ``stamps`` has one per
    delta. ``message`` is the saved answer as the `ended` event carried it."""

    generation: str
    message_id: str
    conversation: str
    sent_at: float
    acknowledged_at: float = 0.0
    text: str = ""
    cursor: int = 0
    stamps: list[float] = field(default_factory=list)
    waits: list[dict[str, Any]] = field(default_factory=list)
    attempts: list[int] = field(default_factory=list)
    message: dict[str, Any] | None = None
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    grew: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def ttft(self) -> float | None:
        """Seconds from sending to the first text."""
        return self.stamps[0] - self.sent_at if self.stamps else None

    @property
    def gaps(self) -> list[float]:
        return [later - earlier for earlier, later in pairwise(self.stamps)]

    async def has(self, characters: int) -> None:
        """Returns once the text is that long, or has ended."""
        while len(self.text) < characters and not self.ended.is_set():
            self.grew.clear()
            await self.grew.wait()


class ChatClient:
    """One signed-in person's page on the site at ``url``; reconnects and resumes by itself."""

    def __init__(self, url: str, cookies: str) -> None:
        self.url = url
        parts = urlsplit(url)
        self._address = f"{'wss' if parts.scheme == 'https' else 'ws'}://{parts.netloc}/ws/chat/"
        self._headers = {"Cookie": cookies}
        self._socket: ClientConnection | None = None
        self._reader: asyncio.Task[None] | None = None
        self._replies: dict[str, asyncio.Future[dict[str, Any]]] = {}
        self._unanswered: dict[str, str] = {}
        self.answers: dict[str, Answer] = {}
        self.changes: list[dict[str, Any]] = []
        self.errors: list[dict[str, Any]] = []
        self.reconnects = 0

    async def __aenter__(self) -> ChatClient:
        await self._connect()
        self._reader = asyncio.create_task(self._read_forever())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._reader:
            self._reader.cancel()
            await asyncio.gather(self._reader, return_exceptions=True)
        if self._socket:
            await self._socket.close()

    async def ask(
        self, content: str, *, model: str, after: Answer | None = None, **params: Any
    ) -> Answer:
        """Sends a message, behind ``after`` or in a new conversation; returns once it is
        accepted. Raises `Refused`."""
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
        message = reply["assistant_message"]
        generation = message["generation"]["id"]
        answer = self._answer(generation, message["id"], reply["conversation"]["id"])
        answer.sent_at = sent_at
        return answer

    async def stop(self, answer: Answer) -> None:
        await self.request({"type": "stop", "generation": answer.generation})

    async def follow(self, generation: str, message_id: str, conversation: str) -> Answer:
        """Looks on from the first character at an answer that another page asked for."""
        answer = self._answer(generation, message_id, conversation)
        await self._send({"type": "subscribe", "generation": generation, "cursor": 0})
        return answer

    async def request(self, command: dict[str, Any]) -> dict[str, Any]:
        """Sends a command under a new id and returns the event that answers it."""
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
        if reply["type"] == "error":
            raise Refused(reply["error"])
        return reply

    def _answer(self, generation: str, message_id: str, conversation: str) -> Answer:
        """Deltas may come before the one who asked has taken the reply."""
        if generation not in self.answers:
            self.answers[generation] = Answer(
                generation, message_id, conversation, time.perf_counter()
            )
        return self.answers[generation]

    async def _connect(self) -> None:
        self._socket = await connect(
            self._address,
            origin=self.url.rstrip("/"),  # type: ignore[arg-type]
            additional_headers=self._headers,
            max_size=None,
            proxy=None,
        )

    async def _send(self, command: dict[str, Any]) -> None:
        if self._socket:
            await self._socket.send(json.dumps(command))

    async def _read_forever(self) -> None:
        while True:
            with contextlib.suppress(ConnectionClosed):
                while self._socket:
                    await self._handle(json.loads(await self._socket.recv()))
            await self._reconnect()

    async def _reconnect(self) -> None:
        self.reconnects += 1
        while True:
            try:
                await self._connect()
                for answer in self.answers.values():
                    if not answer.ended.is_set():
                        await self._resubscribe(answer)
                for text in list(self._unanswered.values()):
                    await self._socket.send(text)  # type: ignore[union-attr]
                return
            except (OSError, WebSocketException):
                await asyncio.sleep(0.1)

    async def _resubscribe(self, answer: Answer) -> None:
        await self._send(
            {"type": "subscribe", "generation": answer.generation, "cursor": answer.cursor}
        )

    async def _handle(self, event: dict[str, Any]) -> None:
        kind = event["type"]
        if kind == "accepted":
            message = event["assistant_message"]
            self._answer(message["generation"]["id"], message["id"], event["conversation"]["id"])
        if kind == "changed":
            self.changes.append(event)
        elif kind == "error":
            self.errors.append(event)
        if event.get("id") in self._replies:
            reply = self._replies[event["id"]]
            if not reply.done():
                reply.set_result(event)
            return
        answer = self.answers.get(event.get("generation", ""))
        if answer is not None:
            await self._follow(answer, event)

    async def _acknowledge(self, answer: Answer) -> None:
        """As often as the page does."""
        now = time.perf_counter()
        if now - answer.acknowledged_at >= _ACK_SECONDS:
            answer.acknowledged_at = now
            await self._send(
                {"type": "ack", "generation": answer.generation, "cursor": answer.cursor}
            )

    async def _follow(self, answer: Answer, event: dict[str, Any]) -> None:
        match event["type"]:
            case "waiting":
                answer.waits.append(event)
            case "started":
                answer.attempts.append(event["attempt"])
            case "delta" if event["start"] == answer.cursor:
                answer.text += event["text"]
                answer.cursor = event["end"]
                answer.stamps.append(time.perf_counter())
                await self._acknowledge(answer)
            case "delta" if event["start"] > answer.cursor:
                await self._resubscribe(answer)
            case "ended" if event["cursor"] != answer.cursor:
                await self._resubscribe(answer)
            case "ended":
                answer.message = event["message"]
                if not answer.text:
                    # It ended before this page followed it: the saved text comes whole.
                    answer.text = event["message"]["content"]
                    answer.stamps.append(time.perf_counter())
                answer.ended.set()
        answer.grew.set()
