"""A site with many users, written directly to the database: usage and ratings of 90 days."""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import datetime, timedelta

from django.contrib.auth.models import Group
from django.utils import timezone

from chatsite.accounts.models import User
from chatsite.conversations.models import Generation
from chatsite.feedback.models import REASONS, Comment, Feedback, SharedBranch
from chatsite.usage import rollup
from tests.support.conversations import write

MODELS = ("qwen3:8b", "smollm2:135m", "mistral-small:24b")
GROUPS = ("Engineering", "Legal", "Sales and marketing", "Support")


def busy(*, users: int = 40, requests: int = 4000, days: int = 90, seed: int = 1) -> None:
    """Write users in groups and their ended requests, and count all but the newest."""
    rng = random.Random(seed)
    groups = [Group.objects.get_or_create(name=name)[0] for name in GROUPS]
    people = [User.objects.get_or_create(username=f"user{number:02}")[0] for number in range(users)]
    for person in people:
        person.groups.set(rng.sample(groups, rng.choice([0, 1, 1, 1, 2])))
    now = timezone.now()
    Generation.objects.bulk_create(
        [_request(rng, people, now, days) for _number in range(requests)], batch_size=500
    )
    rollup.count_ended(requests - 50)


def rated(person: str, *, seed: int = 1) -> None:
    """Write ratings of answers of ``person``, some with a comment or a shared copy."""
    rng = random.Random(seed)
    owner = User.objects.get(username=person)
    write(person, [f"The answer is {number}." for number in range(12)], title="Rated")
    new = Generation.objects.filter(owner=owner, message__conversation__title="Rated")
    rows = new.select_related("message")
    for number, row in enumerate(rows):
        assert row.message is not None  # by the filter
        vote = rng.choice(["up", "up", "down"])
        feedback = Feedback.objects.create(
            owner=owner,
            message=row.message,
            model=rng.choice(MODELS),
            vote=vote,
            reason=rng.choice(REASONS[vote]),
        )
        if number % 3 == 0:
            text = "It made up a paragraph of the contract that does not exist."
            Comment.objects.create(feedback=feedback, message=row.message, text=text)
        if number % 6 == 0:
            messages = [
                {"role": "user", "content": "What is 6 × 7?", "syntax": {}},
                {"role": "assistant", "content": "The answer is **42**.", "syntax": {}},
            ]
            SharedBranch.objects.create(feedback=feedback, message=row.message, messages=messages)


def _request(rng: random.Random, people: Sequence[User], now: datetime, days: int) -> Generation:
    # More recently than long ago, and by day more than by night.
    ago = days * 24 * rng.random() ** 1.3
    at = now - timedelta(hours=ago)
    at = at.replace(hour=min(23, max(0, round(rng.gauss(13, 3.5)))))
    if at > now:
        at = now - timedelta(minutes=rng.randint(1, 600))
    state = rng.choices(["done", "failed", "cancelled", "interrupted"], [93, 3, 3, 1])[0]
    failed = state in {"failed", "interrupted"}
    return Generation(
        owner=people[int(len(people) * rng.random() ** 2)],
        model=rng.choices(MODELS, [6, 1, 3])[0],
        via=rng.choices(["chat", "api", "ollama", "title"], [60, 20, 8, 12])[0],
        state=state,
        error={"code": rng.choice(["context_overflow", "engine_failed"])} if failed else None,
        prompt_tokens=(tokens := round(rng.lognormvariate(6.5, 1))),
        cached_tokens=round(tokens * rng.random()),
        completion_tokens=0 if failed else round(rng.lognormvariate(5, 0.8)),
        timings={
            "queue": rng.lognormvariate(4, 1.5),
            "ttft": rng.lognormvariate(6.3, 0.7),
            "decode": rng.lognormvariate(8.5, 0.6),
        },
        queued_at=at,
        finished_at=at + timedelta(seconds=8),
    )
