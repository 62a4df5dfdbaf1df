"""The browser's WebSocket: commands in, events out; see `protocol.py`.

`receive` only validates and starts work: Channels delivers one message at a time, so waiting in
it would delay a Stop behind a Send. A socket that closes stops only its own reading.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any, TypeVar
from urllib.parse import parse_qs

import msgspec
from asgiref.sync import sync_to_async
from channels.consumer import get_handler_name
from channels.generic.websocket import AsyncWebsocketConsumer
from django.db import InterfaceError, OperationalError
from django.utils import translation
from redis.exceptions import RedisError

from chatsite import json_input, logs, tracing
from chatsite.accounts import identity
from chatsite.accounts.models import User
from chatsite.accounts.sessions import group_of
from chatsite.answers.runtime import runtime
from chatsite.answers.submit import stop
from chatsite.chat import notice_watch, temporary
from chatsite.chat import protocol as p
from chatsite.chat.context import count_branch
from chatsite.chat.follow import Follower, SlowReader
from chatsite.chat.submit import submit
from chatsite.chat.turns import Turn
from chatsite.conversations import schema, serialize
from chatsite.conversations.hints import conversation_changed
from chatsite.conversations.models import OPEN_STATES, Generation, Message, Via
from chatsite.database import renew_failed_connection
from chatsite.errors import (
    BadRequest,
    ChatsiteError,
    Interrupted,
    MessageNotFound,
    NotSignedIn,
    TooManyRequests,
    localise,
)
from chatsite.faults import is_storage_full, server_fault
from chatsite.knowledge import citations
from chatsite.rate_limit import RateLimiter
from chatsite.redis_keys import stream_key
from chatsite.site_settings import banner

log = logging.getLogger(__name__)

SIGNED_OUT = 4401
SLOW_READER = 4408
# The client violates the protocol or sends far too much (RFC 6455, 7.4.1); it has too many sockets
# and may try again later.
POLICY_VIOLATION = 1008
TRY_AGAIN_LATER = 1013
# Frames of one socket: each delta of each followed answer is acknowledged.
_FRAMES = (3000.0, 1500.0)
_COMMANDS = (200.0, 20.0)
# Refusals before the socket is closed; a page that is out of sync causes a few.
_REFUSALS = (50.0, 1.0)
_MAX_FOLLOWED = 64
_REASON_CHARS = 500
_QUERY_BYTES = 200
# Commands in progress per socket.
_MAX_TASKS = 100
# Sockets of one user in this process. A page has one.
_MAX_SOCKETS = 100

_sockets: Counter[int] = Counter()
_JOIN_SECONDS = 2.0
_DATABASE_RETRY_SECONDS = 1.0
# A database server that restarts delays commands for so long; then they are refused.
_RESTART_SECONDS = 8.0


class ChatConsumer(AsyncWebsocketConsumer):  # type: ignore[misc]  # untyped library
    async def dispatch(self, message: dict[str, Any]) -> None:
        """Call the handler of a message.

        Channels closes old database connections before each, on another thread. That cost more than
        an acknowledgement, which uses no database. `identity.session_user` closes them here.
        """
        await getattr(self, get_handler_name(message))(message)

    async def connect(self) -> None:
        self.tasks: set[asyncio.Task[None]] = set()
        self.following: dict[str, asyncio.Task[None]] = {}
        self.counting: asyncio.Task[None] | None = None
        self.to_measure: p.CountTokens | None = None
        self.followers: dict[str, Follower] = {}
        self.frames, self.commands = RateLimiter(*_FRAMES), RateLimiter(*_COMMANDS)
        self.refusals = RateLimiter(*_REFUSALS)
        self.owner: int | None = None
        self.closing = False
        self.language = identity.language(self.scope)
        self.session_key = self.scope["session"].session_key
        self.group = ""
        self.notices = contextlib.ExitStack()
        await self.accept()
        user = await _patiently(lambda: identity.session_user(self.session_key), _RESTART_SECONDS)
        if user is None:
            await self.close(SIGNED_OUT)
            return
        if _sockets[user.pk] >= _MAX_SOCKETS:
            await self._end_socket(TRY_AGAIN_LATER)
            return
        self.owner = user.pk
        _sockets[user.pk] += 1
        self.group = group_of(user.pk)
        try:
            # No command is received before this has completed.
            async with asyncio.timeout(_JOIN_SECONDS):
                await self.channel_layer.group_add(self.group, self.channel_name)
        except (RedisError, OSError, TimeoutError) as error:
            log.warning("Socket gets no hints", extra={"error": error})
        self._watch_notices()

    def _watch_notices(self) -> None:
        """Report changed notices, also those since the page was rendered."""
        self.notices.enter_context(notice_watch.subscribed(self._notices_changed))
        now = banner.notices_digest()
        if _shown_notices(self.scope) not in {"", now}:
            self._notices_changed(now)

    def _notices_changed(self, digest: str) -> None:
        self._start(self._event(p.Notices(digest)))

    async def disconnect(self, code: int) -> None:
        self.notices.close()
        if self.owner is not None:
            _sockets[self.owner] -= 1
            if not _sockets[self.owner]:
                del _sockets[self.owner]
        tasks = [*self.tasks, *self.following.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self.group:
            try:
                async with asyncio.timeout(_JOIN_SECONDS):
                    await self.channel_layer.group_discard(self.group, self.channel_name)
            except (RedisError, OSError, TimeoutError) as error:
                log.debug("Channel stays in its group until it expires", extra={"error": error})

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        if self.closing:
            return
        if not self.frames.take():
            await self._end_socket(POLICY_VIOLATION)
            return
        try:
            command = p.decode_command(text_data if text_data is not None else bytes_data or b"")
        except json_input.BadJson as error:
            await self._refuse_frame(
                BadRequest(reason=str(error)[:_REASON_CHARS]), _request_id(text_data)
            )
            return
        if isinstance(command, p.Ack):
            if follower := self.followers.get(command.generation):
                follower.acknowledge(command.cursor)
            return
        if not self.commands.take() or len(self.tasks) >= _MAX_TASKS:
            await self._refuse_frame(TooManyRequests(), getattr(command, "id", None))
            return
        # The tasks of the command inherit its ID.
        with logs.bind(request=getattr(command, "id", None)):
            self._dispatch(command)

    def _dispatch(self, command: p.AnyCommand) -> None:
        match command:
            case p.Subscribe():
                self.follow(command.generation, command.cursor)
            case p.Unsubscribe():
                if task := self.following.pop(command.generation, None):
                    task.cancel()
            case p.Stop():
                self._start(self._stop(command))
            case p.Send() | p.Edit() | p.Regenerate() | p.Continue():
                self._start(self._submit(command))
            case p.SendTemporary():
                self._start(self._submit_temporary(command))
            case p.CountTokens():
                self.to_measure = command
                if self.counting is None or self.counting.done():
                    self.counting = self._start(self._count_tokens())

    # Commands.

    async def _submit(self, command: p.TurnCommand) -> None:
        async with self._answering(command.id):
            # The ID of the command makes a second attempt harmless.
            user, turn = await _patiently(lambda: self._submitted(command), _RESTART_SECONDS)
            sources = None
            if turn.answer.passages is not None:
                sources = await sync_to_async(citations.of_message)(user, turn.answer)
            await self._event(
                p.Accepted(
                    id=command.id,
                    conversation=serialize.conversation(turn.conversation),
                    user_message=(
                        serialize.message(turn.user_message) if turn.user_message else None
                    ),
                    assistant_message=serialize.message(turn.answer, sources),
                )
            )
            self.follow(str(turn.generation.pk), 0)
            await conversation_changed(
                user.pk, turn.conversation.pk, "created" if turn.new_conversation else "updated"
            )

    async def _submitted(self, command: p.TurnCommand) -> tuple[User, Turn]:
        user = await self._user()
        with tracing.span("chat", attributes={"request_id": command.id}):
            turn = await submit(
                runtime(), user, command, on_search=lambda: self._event(p.Searching(command.id))
            )
            return user, turn

    async def _submit_temporary(self, command: p.SendTemporary) -> None:
        async with self._answering(command.id):
            user = await self._user()
            with tracing.span("chat", attributes={"request_id": command.id}):
                generation, sources = await temporary.submit(
                    runtime(), user, command, on_search=lambda: self._event(p.Searching(command.id))
                )
            shown = serialize.generation(generation, sources)
            await self._event(p.TemporaryAccepted(command.id, shown))
            self.follow(str(generation.pk), 0)

    async def _count_tokens(self) -> None:
        """Count one branch at a time, then only the latest of the pending ones.

        A count occupies the engine even after its client has stopped waiting.
        """
        while (command := self.to_measure) is not None:
            self.to_measure = None
            async with self._answering(command.id):
                await self._event(await count_branch(runtime(), await self._user(), command))

    async def _stop(self, command: p.Stop) -> None:
        async with self._answering(command.id, command.generation):
            # The user may leave right after Stop, which cancels the socket's tasks but must not
            # this one.
            await asyncio.shield(self._end(command.generation))
            await self._event(p.Stopped(command.id, command.generation))

    async def _end(self, generation: str) -> None:
        with logs.bind(generation=generation):
            await stop(runtime(), await self._user(), generation)

    def follow(self, generation: str, cursor: int) -> None:
        if task := self.following.pop(generation, None):
            task.cancel()
        if len(self.following) >= _MAX_FOLLOWED:
            self._start(self._refuse(TooManyRequests(), generation=generation))
            return
        with logs.bind(generation=generation):
            task = asyncio.create_task(self._send_feed(generation, cursor))
            task.add_done_callback(self._report)
        self.following[generation] = task

    async def _send_feed(self, generation: str, cursor: int) -> None:
        try:
            async with self._answering(generation=generation):
                await self._send_to_end(generation, cursor)
        finally:
            if self.following.get(generation) is asyncio.current_task():
                del self.following[generation]

    async def _send_to_end(self, generation: str, cursor: int) -> None:
        """Follow a generation to its end.

        While the database is down the events are delayed: the page could only retry, so this does.
        """
        row = await _patiently(lambda: self._own(generation))
        if row.via == Via.TEMPORARY:
            await self._send_temporary_to_end(row, cursor)
            return
        if row.state in OPEN_STATES:
            async with runtime().hub.follow(generation, row.model) as feed:
                follower = self.followers[generation] = Follower(feed, cursor, self._event)
                try:
                    cursor = await follower.run()
                finally:
                    if self.followers.get(generation) is follower:
                        del self.followers[generation]
        await self._event(await _patiently(lambda: self._ended(generation, cursor)))

    async def _send_temporary_to_end(self, row: Generation, cursor: int) -> None:
        """Follow an answer of a temporary chat, also after its end: only its stream has the text.

        Raises `TemporaryAnswerGone` once that has expired.
        """
        generation = str(row.pk)
        known = row.state in OPEN_STATES or await runtime().redis.exists(stream_key(generation))
        if not known:
            raise temporary.TemporaryAnswerGone
        async with runtime().hub.follow(generation, row.model) as feed:
            follower = self.followers[generation] = Follower(feed, cursor, self._event)
            try:
                cursor = await follower.run()
            finally:
                if self.followers.get(generation) is follower:
                    del self.followers[generation]
            text, torn = "".join(feed.texts), feed.torn
        row = await _patiently(lambda: self._own(generation))
        with translation.override(self.language):
            await self._event(_temporary_end(row, cursor, text, torn=torn))

    async def _own(self, generation: str) -> Generation:
        own = Generation.objects.of(await self._user()).select_related("assistant")
        own = own.exclude(message=None) | own.filter(via=Via.TEMPORARY)
        row = await own.filter(pk=generation).afirst()
        if row is None:
            raise MessageNotFound
        return row

    async def _ended(self, generation: str, cursor: int) -> p.Ended:
        return await _ended(await self._user(), generation, cursor, self.language)

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
            log.error("Task of a socket failed", exc_info=error)

    def _answering(self, id: str | None = None, generation: str | None = None) -> _ErrorsToClient:
        return _ErrorsToClient(self, id, generation)

    async def _refuse_frame(self, error: ChatsiteError, id: str | None) -> None:
        """Answer a refused frame; close the socket of a client that sends too many."""
        if self.refusals.take():
            await self._refuse(error, id)
        else:
            await self._end_socket(POLICY_VIOLATION)

    async def _end_socket(self, code: int) -> None:
        """Close the socket and ignore frames that have already arrived."""
        self.closing = True
        await self.close(code)

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


class _ErrorsToClient:
    """Sends exceptions of its block as `Error` events to the client.

    The lines that the rest of the task logs have the IDs of command and generation.
    """

    def __init__(self, consumer: ChatConsumer, id: str | None, generation: str | None) -> None:
        self._consumer, self._id, self._generation = consumer, id, generation

    async def __aenter__(self) -> None:
        if self._id:
            logs.request_id.set(self._id)
        if self._generation:
            logs.generation_id.set(self._generation)

    async def __aexit__(self, kind: Any, error: BaseException | None, trace: Any) -> bool:
        match error:
            case ChatsiteError():
                answer = error
            case SlowReader():
                await self._consumer.close(SLOW_READER)
                return True
            case Exception():
                log.error("Command failed", exc_info=error)
                answer = server_fault(error)
            case _:
                return False
        await self._consumer._refuse(answer, self._id, self._generation)
        return True


R = TypeVar("R")


async def _patiently(work: Callable[[], Awaitable[R]], seconds: float = math.inf) -> R:
    """Return the result of ``work``, retrying while the database is down or locked.

    Gives up after ``seconds``.
    """
    until = time.monotonic() + seconds
    while True:
        try:
            return await work()
        except (OperationalError, InterfaceError) as error:
            if is_storage_full(error) or time.monotonic() >= until:
                raise
            log.warning("Database is not responding; retrying", extra={"error": error})
            await sync_to_async(renew_failed_connection)()
            await asyncio.sleep(_DATABASE_RETRY_SECONDS)


@sync_to_async
def _ended(user: User, generation: str, cursor: int, language: str) -> p.Ended:
    """Return the end of a generation.

    Raises `MessageNotFound` if the conversation was deleted meanwhile or another generation
    continues the answer: the page then fetches the current state.
    """
    message = (
        Message.objects.of(user)
        .select_related("generation__assistant")
        .filter(generation__pk=generation)
        .first()
    )
    if message is None:
        raise MessageNotFound
    state: Any = message.generation.state
    with translation.override(language):
        sources = citations.of_message(user, message)
        return p.Ended(generation, state, cursor, serialize.message(message, sources))


def _temporary_end(row: Generation, cursor: int, text: str, *, torn: bool) -> p.Ended:
    generation = serialize.generation(row)
    if torn:
        # Redis has lost a part of the text, which nothing else has.
        error = localise(Interrupted().as_dict())
        generation = msgspec.structs.replace(generation, state="interrupted", error=error)
    state: Any = generation.state
    message = schema.Message(
        id=generation.id,
        conversation="",
        parent=None,
        role="assistant",
        content=text,
        created_at=generation.queued_at,
        attachments=[],
        generation=generation,
    )
    return p.Ended(generation.id, state, cursor, message)


def _shown_notices(scope: Mapping[str, Any]) -> str:
    """Return the digest of the notices that the page shows, "" if it names none."""
    query = parse_qs(scope["query_string"][:_QUERY_BYTES].decode("ascii", "replace"))
    shown: str = query.get("notices", [""])[0]
    return shown


def _request_id(data: str | None) -> str | None:
    """Return the ``id`` of an invalid command, so that its sender can match the error."""
    try:
        id = json_input.decode(data or "", _any_decoder).id
    except json_input.BadJson:
        return None
    return id if isinstance(id, str) and len(id) <= 64 else None


class _Any(msgspec.Struct):
    id: Any = None


_any_decoder = msgspec.json.Decoder(_Any)
