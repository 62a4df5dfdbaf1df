"""The API requests of a day as audit events: one per key (or user) and model."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.db.models import Count, Q, Sum

from chatsite.accounts.models import ApiKey, User
from chatsite.audit.models import Forwarding
from chatsite.audit.record import record
from chatsite.conversations.models import Generation, GenerationState, Via

_CLAIM = "api-summary"
_VIAS: dict[str, str] = {Via.API: "openai", Via.OLLAMA: "ollama"}


def summarize(day: datetime) -> int:
    """Record the requests that were queued on ``day`` (its start in UTC); return how many events.

    A day is summarized once, whichever machine's beat asks first.
    """
    if not _claim(day):
        return 0
    rows = (
        Generation.objects.filter(
            via__in=_VIAS, queued_at__gte=day, queued_at__lt=day + timedelta(days=1)
        )
        .values("owner", "api_key", "via", "model")
        .annotate(
            requests=Count("pk"),
            failed=Count("pk", filter=Q(state=GenerationState.FAILED)),
            prompt_tokens=Sum("prompt_tokens"),
            output_tokens=Sum("completion_tokens"),
        )
        .order_by("owner", "api_key", "via", "model")
    )
    users = User.objects.in_bulk({row["owner"] for row in rows})
    keys = ApiKey.objects.in_bulk({row["api_key"] for row in rows if row["api_key"]})
    for row in rows:
        key = keys.get(row["api_key"])
        record(
            "api.summary",
            user=users.get(row["owner"]),
            via=_VIAS[row["via"]],
            target=("key", str(key.pk), key.prefix) if key else None,
            day=day.date().isoformat(),
            model=row["model"],
            requests=row["requests"],
            failed=row["failed"],
            prompt_tokens=row["prompt_tokens"] or 0,
            output_tokens=row["output_tokens"] or 0,
        )
    return len(rows)


def _claim(day: datetime) -> bool:
    number = day.toordinal()
    Forwarding.objects.bulk_create([Forwarding(destination=_CLAIM)], ignore_conflicts=True)
    own = Forwarding.objects.filter(destination=_CLAIM, sequence__lt=number)
    return bool(own.update(sequence=number))
