"""Page load times for a user with years of data.

Measures the first page, a long conversation, a search, and the browser's figures on the running
site, with data that is deleted afterwards.
"""

from __future__ import annotations

import gzip
import math
import random
import re
import statistics
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final
from urllib.parse import quote

import httpx
from django.contrib.staticfiles.storage import staticfiles_storage
from django.db import connection
from django.utils import timezone

from chatsite.accounts.models import User
from chatsite.bench import browser, fake_answer, users
from chatsite.conversations.models import Conversation, Generation, GenerationState, Message
from chatsite.search import index

CONVERSATIONS: Final = 5_000
LONG: Final = 1_000
MESSAGES: Final = 100_000
_WORDS: Final = 4_000
_CHINESE: Final = "数据库查询服务器网络安全模型回答会议计划报告时间地点"
# Varied like real answers, so that more than one paragraph has to be rendered.
_MARKDOWN: Final = """**In short**: {0}

- first `point`
- second point

```python
def double(values: list[int]) -> list[int]:
    return [2 * value for value in values]
```"""
_BATCH: Final = 2_000
_RUNS: Final = 15
_SEARCHES: Final = 60


@dataclass(frozen=True)
class _Person:
    """A user, their conversation ``long`` of `LONG` messages, and some ``words`` in it."""

    cookie: str
    long: uuid.UUID
    words: list[str]
    unwritten: fake_answer.Unwritten


def measure(url: str, report: Callable[[str], None]) -> dict[str, Any]:
    """Return milliseconds and kilobytes, and the figures of `browser.measure`.

    Times are medians, for searches the 95th percentile. Without a browser the reason stands in
    place of its figures.
    """
    with _person(report) as person:
        figures = _over_http(url, person)
        report("Opening them in a browser…")
        try:
            return figures | browser.measure(url, person.cookie, person.long, person.unwritten)
        except browser.NoBrowser as error:
            return figures | {"browser": f"not measured: {error}"}


def _over_http(url: str, person: _Person) -> dict[str, Any]:
    headers = {"Cookie": person.cookie}
    with httpx.Client(base_url=url, headers=headers, timeout=60) as client:
        first = _timed(client, "/")
        opened = _timed(client, f"/chat/conversations/{person.long}/")
        searches = [
            _once(client, f"/chat/search/?q={quote(word)}")
            for word in random.Random(1).sample(person.words, _SEARCHES)
        ]
        page = client.get("/").text
    searches.sort()
    version = ".".join(map(str, connection.get_database_version()))
    return {
        "database": f"{connection.display_name} {version}",
        "conversations": CONVERSATIONS,
        "messages": MESSAGES,
        "first_page_ms": round(statistics.median(first), 1),
        "conversation_of_1000_ms": round(statistics.median(opened), 1),
        "search_p50_ms": round(statistics.median(searches), 1),
        "search_p95_ms": round(searches[math.ceil(0.95 * len(searches)) - 1], 1),
        "script_kb": round(_script_bytes(page) / 1000, 1),
    }


def _timed(client: httpx.Client, path: str) -> list[float]:
    _once(client, path)
    return [_once(client, path) for _run in range(_RUNS)]


def _once(client: httpx.Client, path: str) -> float:
    began = time.perf_counter()
    answer = client.get(path)
    answer.raise_for_status()
    return (time.perf_counter() - began) * 1000


def _script_bytes(page: str) -> int:
    """Return the compressed bytes of the scripts that the page loads before its first answer."""
    wanted = re.findall(r'<script[^>]+src="/static/([^"]+)"', page)
    found: set[str] = set()
    while wanted:
        name = wanted.pop()
        if name in found:
            continue
        found.add(name)
        text = _read(name).decode()
        folder = name.rpartition("/")[0]
        # Static imports of a module; dynamic ones are function calls.
        for module in re.findall(r'(?:from|import)\s*"\./([^"]+)"', text):
            wanted.append(f"{folder}/{module}".lstrip("/"))
    return sum(len(gzip.compress(_read(name), 6)) for name in found)


def _read(name: str) -> bytes:
    with staticfiles_storage.open(name) as file:
        data: bytes = file.read()
    return data


@contextmanager
def _person(report: Callable[[str], None]) -> Iterator[_Person]:
    user = users.create()
    try:
        report(f"Writing {CONVERSATIONS} conversations with {MESSAGES} messages…")
        long, words = _fill(user)
        yield _Person(users.cookie_of(user), long, words, fake_answer.prepare(user))
    finally:
        report("Removing them…")
        users.remove([user])


def _fill(user: User) -> tuple[uuid.UUID, list[str]]:
    chance = random.Random(7)
    words = [_word(chance) for _word_number in range(_WORDS)]
    now = timezone.now()
    conversations = [
        Conversation(
            owner=user,
            title=" ".join(chance.choices(words, k=6)),
            created_at=now - timedelta(hours=number),
            updated_at=now - timedelta(hours=number),
        )
        for number in range(CONVERSATIONS)
    ]
    Conversation.objects.bulk_create(conversations, batch_size=_BATCH)
    index.put_many([index.of_title(conversation) for conversation in conversations])
    each = (MESSAGES - LONG) // (CONVERSATIONS - 1)
    batch: list[Message] = []
    heads = []
    for number, conversation in enumerate(conversations):
        parent: Message | None = None
        for turn in range(LONG if number == 0 else each):
            said = " ".join(chance.choices(words, k=30))
            parent = Message(
                conversation=conversation,
                parent=parent,
                role=Message.Role.ASSISTANT if turn % 2 else Message.Role.USER,
                content=_MARKDOWN.format(said) if turn % 2 and number == 0 else said,
                created_at=conversation.created_at + timedelta(seconds=turn),
            )
            batch.append(parent)
        conversation.head = parent
        heads.append(conversation)
        if len(batch) >= _BATCH:
            _save(batch, user)
            batch = []
    _save(batch, user)
    Conversation.objects.bulk_update(heads, ["head"], batch_size=500)
    answers = Message.objects.filter(conversation=conversations[0], role=Message.Role.ASSISTANT)
    done = {"state": GenerationState.DONE, "finish_reason": "stop", "model": "bench"}
    Generation.objects.bulk_create(Generation(owner=user, message=m, **done) for m in answers)
    return conversations[0].pk, words


def _word(chance: random.Random) -> str:
    if chance.random() < 0.2:
        return "".join(chance.choices(_CHINESE, k=chance.randint(2, 4)))
    return "".join(chance.choices("abcdefghijklmnoprstuvw", k=chance.randint(3, 9)))


def _save(messages: list[Message], user: User) -> None:
    Message.objects.bulk_create(messages, batch_size=500)
    index.put_many([index.of_message(message, user.pk) for message in messages])
