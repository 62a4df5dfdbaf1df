"""The browser's WebSocket: commands in, events out; see `protocol.py`.

`receive` only validates and starts work: Channels delivers one message at a time, so waiting in
it would hold up a Stop behind a Send. A socket that closes stops nothing but its own reading.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Coroutine
from typing import Any

import msgspec
from asgiref.sync import sync_to_async
from channels.generic.websocket import AsyncWebsocketConsumer
from django.db import DatabaseError
from django.utils import translation
from redis.exceptions import RedisError

from chatsite.accounts.models import User
from chatsite.accounts.sessions import group_of
from chatsite.chat import identity, serialize
from chatsite.chat import protocol as p
from chatsite.chat.context import measure
from chatsite.chat.follow import Follower, SlowReader
from chatsite.chat.hints import conversation_changed
from chatsite.chat.models import OPEN_STATES, Generation, Message
from chatsite.chat.runtime import runtime
from chatsite.chat.submit import stop, submit
from chatsite.errors import BadRequest, ChatsiteError, NotFound, NotSignedIn, TooManyRequests

log = logging.getLogger(__name__)

SIGNED_OUT = 4401
SLOW_READER = 4408
# Commands other than acknowledgements, per socket.
_BURST, _PER_SECOND = 200.0, 20.0
_MAX_FOLLOWED = 64


class ChatConsumer(AsyncWebsocketConsumer):  # type: ignore[misc]  # untyped library
    async def connect(self) -> None:
        self.tasks: set[asyncio.Task[None]] = set()
        self.following: dict[str, asyncio.Task[None]] = {}
        self.measuring: asyncio.Task[None] | None = None
        self.followers: dict[str, Follower] = {}
        self.tokens, self.refilled = _BURST, time.monotonic()
        self.language = identity.language(self.scope)
        self.session_key = self.scope["session"].session_key
        self.group = ""
        await self.accept()
        user = await identity.session_user(self.session_key)
        if user is None:
            await self.close(SIGNED_OUT)
            return
        self.group = group_of(user.pk)
        try:
            await self.channel_layer.group_add(self.group, self.channel_name)
        except RedisError as error:
            log.warning("no hints for this socket: %s", error)

    async def disconnect(self, code: int) -> None:
        tasks = [*self.tasks, *self.following.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self.group:
            try:
                await self.channel_layer.group_discard(self.group, self.channel_name)
            except RedisError as error:
                log.debug("the hint group keeps a dead channel until it expires: %s", error)

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        try:
            command = p.decode_command(text_data if text_data is not None else bytes_data or b"")
        except msgspec.DecodeError as error:
            await self._refuse(BadRequest(reason=str(error)), _request_id(text_data))
            return
        if isinstance(command, p.Ack):
            if follower := self.followers.get(command.generation):
                follower.acknowledge(command.cursor)
            return
        if not self._take_token():
            await self._refuse(TooManyRequests(), getattr(command, "id", None))
            return
        match command:
            case p.Subscribe():
                self._follow(command.generation, command.cursor)
            case p.Unsubscribe():
                if task := self.following.pop(command.generation, None):
                    task.cancel()
            case p.Stop():
                self._start(self._stop(command))
            case p.Send() | p.Edit() | p.Regenerate() | p.Continue():
                self._start(self._submit(command))
            case p.Measure():
                if self.measuring:
                    self.measuring.cancel()
                self.measuring = self._start(self._measure(command))

    # Commands.

    async def _submit(self, command: p.Making) -> None:
        async with self._answering(command.id):
            user = await self._user()
            turn = await submit(runtime(), user, command)
            await self._event(
                p.Accepted(
                    id=command.id,
                    conversation=serialize.conversation(turn.conversation),
                    user_message=(
                        serialize.message(turn.user_message) if turn.user_message else None
                    ),
                    assistant_message=serialize.message(turn.answer),
                )
            )
            self._follow(str(turn.generation.pk), 0)
            await conversation_changed(
                user.pk, turn.conversation.pk, "created" if turn.began else "updated"
            )

    async def _measure(self, command: p.Measure) -> None:
        async with self._answering(command.id):
            await self._event(await measure(runtime(), await self._user(), command))

    async def _stop(self, command: p.Stop) -> None:
        async with self._answering(command.id, command.generation):
            # Whoever stops may leave at once, and the socket's tasks end with it: not this one.
            await asyncio.shield(self._end(command.generation))
            await self._event(p.Stopped(command.id, command.generation))

    async def _end(self, generation: str) -> None:
        await stop(runtime(), await self._user(), generation)

    def _follow(self, generation: str, cursor: int) -> None:
        if task := self.following.pop(generation, None):
            task.cancel()
        if len(self.following) >= _MAX_FOLLOWED:
            self._start(self._refuse(TooManyRequests(), generation=generation))
            return
        task = asyncio.create_task(self._send_feed(generation, cursor))
        self.following[generation] = task
        task.add_done_callback(self._report)

    async def _send_feed(self, generation: str, cursor: int) -> None:
        async with self._answering(generation=generation):
            user = await self._user()
            own = Generation.objects.of(user).exclude(message=None)
            row = await own.filter(pk=generation).afirst()
            if row is None:
                raise NotFound
            if row.state in OPEN_STATES:
                async with runtime().hub.follow(generation, row.model) as feed:
                    follower = self.followers[generation] = Follower(feed, cursor, self._event)
                    try:
                        cursor = await follower.run()
                    finally:
                        if self.followers.get(generation) is follower:
                            del self.followers[generation]
            await self._event(await _ended(user, generation, cursor, self.language))
        if self.following.get(generation) is asyncio.current_task():
            del self.following[generation]

    # Messages from other processes (channel layer; may be lost).

    async def conversation_changed(self, message: dict[str, Any]) -> None:
        await self._event(p.Changed(message["conversation"], message["what"]))

    async def session_ended(self, message: dict[str, Any]) -> None:
        if await identity.session_user(self.session_key) is None:
            await self.close(SIGNED_OUT)

    # Helpers.

    async def _user(self) -> User:
        user = await identity.session_user(self.session_key)
        if user is None:
            raise NotSignedIn
        return user

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        task.add_done_callback(self._report)
        return task

    def _report(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()):
            log.error("a socket's task failed", exc_info=error)

    def _answering(self, id: str | None = None, generation: str | None = None) -> _Answering:
        return _Answering(self, id, generation)

    def _take_token(self) -> bool:
        now = time.monotonic()
        self.tokens = min(_BURST, self.tokens + (now - self.refilled) * _PER_SECOND)
        self.refilled = now
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True

    async def _event(self, event: p.AnyEvent) -> None:
        await self.send(text_data=p.encode_event(event))

    async def _refuse(
        self, error: ChatsiteError, id: str | None = None, generation: str | None = None
    ) -> None:
        with translation.override(self.language):
            body = error.as_dict()
        await self._event(p.Error(body, id, generation))
        if isinstance(error, NotSignedIn):
            await self.close(SIGNED_OUT)


class _Answering:
    """Turns what goes wrong inside into an `Error` event to the one who asked."""

    def __init__(self, consumer: ChatConsumer, id: str | None, generation: str | None) -> None:
        self._consumer, self._id, self._generation = consumer, id, generation

    async def __aenter__(self) -> None:
        pass

    async def __aexit__(self, kind: Any, error: BaseException | None, trace: Any) -> bool:
        match error:
            case ChatsiteError():
                answer = error
            case SlowReader():
                await self._consumer.close(SLOW_READER)
                return True
            case DatabaseError() | RedisError():
                log.error("a command failed", exc_info=error)
                answer = ChatsiteError()
            case _:
                return False
        await self._consumer._refuse(answer, self._id, self._generation)
        return True


@sync_to_async
def _ended(user: User, generation: str, cursor: int, language: str) -> p.Ended:
    message = (
        Message.objects.of(user)
        .select_related("generation__assistant")
        .get(generation__pk=generation)
    )
    state: Any = message.generation.state
    with translation.override(language):
        return p.Ended(generation, state, cursor, serialize.message(message))


def _request_id(data: str | None) -> str | None:
    """The ``id`` of a command whose other parts were wrong, so that its sender learns of it."""
    try:
        id = msgspec.json.decode(data or "").get("id")
    except (msgspec.DecodeError, AttributeError):
        return None
    return id if isinstance(id, str) and len(id) <= 64 else None
