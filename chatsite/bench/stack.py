"""The load through the whole stack: sockets as browsers open them, people of their own."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from asgiref.sync import sync_to_async
from django.conf import settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.contrib.sessions.backends.db import SessionStore

from chatsite.accounts.models import User
from chatsite.bench.client import Answer, ChatClient
from chatsite.bench.load import Record, Shape, Turn

_ANSWER_SECONDS = 600


@sync_to_async
def _person(name: str) -> str:
    """Makes a person with a session; returns the `Cookie` header."""
    user = User(username=name)
    user.set_unusable_password()
    user.save()
    return cookie_of(user)


def cookie_of(user: User) -> str:
    """The `Cookie` header of a new session."""
    session = SessionStore()
    session[SESSION_KEY] = str(user.pk)
    session[BACKEND_SESSION_KEY] = settings.AUTHENTICATION_BACKENDS[0]
    session[HASH_SESSION_KEY] = user.get_session_auth_hash()
    session.save()
    return f"{settings.SESSION_COOKIE_NAME}={session.session_key}"


@sync_to_async
def _remove(prefix: str) -> None:
    User.objects.filter(username__startswith=prefix).delete()


@asynccontextmanager
async def people(url: str, model: str, shape: Shape) -> AsyncIterator[Turn]:
    """Clients for ``shape.users`` people, who are gone with all they wrote afterwards."""
    prefix = f"bench-{secrets.token_hex(4)}-"
    try:
        async with AsyncExitStack() as stack:
            clients = [
                await stack.enter_async_context(ChatClient(url, await _person(f"{prefix}{n}")))
                for n in range(shape.users)
            ]
            last: dict[int, Answer] = {}

            async def turn(user: int, index: int, question: str, record: Record) -> None:
                answer = await clients[user].ask(
                    question,
                    model=model,
                    after=last.get(user) if index else None,
                    temperature=0.0,
                    max_tokens=shape.tokens,
                    ignore_eos=True,
                )
                async with asyncio.timeout(_ANSWER_SECONDS):
                    await answer.ended.wait()
                last[user] = answer
                if answer.ttft is not None:
                    record.ttft.append(answer.ttft)
                record.gaps.extend(answer.gaps)
                generation = (answer.message or {})["generation"]
                record.tokens += generation["usage"]["completion_tokens"] or 0
                if generation["state"] != "done":
                    record.errors.append(str(generation["error"]))

            yield turn
    finally:
        await _remove(prefix)
