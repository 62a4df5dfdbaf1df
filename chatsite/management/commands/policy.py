"""`manage.py policy`: what users may do, and why."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

import msgspec
from django.core.management.base import BaseCommand, CommandError

from chatsite.accounts.models import User
from chatsite.conversations.assistants.models import Assistant
from chatsite.policy import decide, snapshot, words
from chatsite.policy.words import Explanation
from models_admin import catalogue


class Command(BaseCommand):
    help = "Lists rules, limits and quotas, and explains what a user may do."

    def add_arguments(self, parser: ArgumentParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True)
        listing = actions.add_parser("list", help="print all rules, limits and quotas")
        listing.add_argument("--json", action="store_true", help="print JSON")
        explain = actions.add_parser("explain", help="print what a user may do, and why")
        explain.add_argument("username", help="name of the user")
        explain.add_argument("--model", help="only the decision on this model")
        explain.add_argument("--json", action="store_true", help="print JSON")

    def handle(self, *args: object, **options: Any) -> None:
        {"list": self._list, "explain": self._explain}[options["action"]](**options)

    def _list(self, *, json: bool, **_options: Any) -> None:
        policy = snapshot.load()
        assistants = _assistants()
        names = words.Names(policy)
        rules = [rule for kind in policy.rules.values() for rule in kind]
        if json:
            data: dict[str, Any] = {
                "defaults": {
                    kind: "allow" if policy.defaults.get(kind, True) else "deny"
                    for kind in policy.rules
                },
                "rules": [_row(rule) for rule in rules],
                "limits": [
                    {"id": row.id, **_audience(row.audience), **_set(row.values)}
                    for row in policy.limits
                ],
                "quotas": [_row(quota) for quota in policy.quotas],
            }
            self._json(data)
            return
        for kind in policy.rules:
            verb = "allowed" if policy.defaults.get(kind, True) else "denied"
            self.stdout.write(f"{kind}s without a matching rule are {verb}")
        for rule in rules:
            self.stdout.write(words.rule(rule, names, assistants))
        for row in policy.limits:
            values = ", ".join(f"{name}={value:g}" for name, value in _set(row.values).items())
            self.stdout.write(f"limit {row.id} for {names.audience(row.audience)}: {values}")
        for quota in policy.quotas:
            each = "together" if quota.shared else "each"
            self.stdout.write(
                f"quota {quota.id} for {names.audience(quota.audience)}: "
                f"{words.quota(quota)}, {each}"
            )

    def _explain(self, *, username: str, model: str | None, json: bool, **_options: Any) -> None:
        user = User.objects.filter(username__iexact=username).first()
        if user is None:
            raise CommandError(f"There is no user {username}.")
        names = [one["name"] for one in catalogue.offered()]
        if model is not None:
            found = catalogue.installed(model)
            names = [found.name if found else model]
        snapshot.forget()
        policy = snapshot.current()
        assistants = {} if model else _assistants()
        found_words = words.explain(
            policy, snapshot.subject(user), models=names, assistants=assistants
        )
        if model is not None:
            lines = [one for one in found_words.decisions if one.kind == "model"]
            found_words = Explanation(lines, [], [])
        if json:
            self._json(_as_json(user, found_words))
            return
        for line in found_words.decisions:
            verb = "allowed" if line.allowed else "denied"
            self.stdout.write(f"{line.kind} {line.label}: {verb}. {line.reason}")
        for limit in found_words.limits:
            self.stdout.write(f"{limit.label}: {limit.value or 'not limited'}. {limit.reason}")
        for quota in found_words.quotas:
            state = quota.state
            left = f"{state.left:,} left until {state.renews_at:%Y-%m-%d %H:%M %Z}" if state else ""
            self.stdout.write(f"Quota {quota.id} for {quota.audience}: {quota.text}, {left}")

    def _json(self, data: object) -> None:
        self.stdout.write(msgspec.json.format(msgspec.json.encode(data), indent=1).decode())


def _assistants() -> dict[str, str]:
    found = Assistant.objects.of_organization()
    return {str(id): name for id, name in found.values_list("pk", "name")}


def _audience(audience: decide.Audience) -> dict[str, int | None]:
    return {"user": audience.user, "group": audience.group}


def _row(row: decide.Rule | decide.Quota) -> dict[str, Any]:
    data = {name: getattr(row, name) for name in type(row).__slots__ if name != "audience"}
    return {**data, **_audience(row.audience)}


def _set(values: decide.Limits) -> dict[str, float]:
    found = {name: getattr(values, name) for name in decide.LIMIT_FIELDS}
    return {name: value for name, value in found.items() if value is not None}


def _as_json(user: User, found: Explanation) -> dict[str, Any]:
    return {
        "user": user.username,
        "decisions": [
            {
                "kind": line.kind,
                "name": line.name,
                "allowed": line.allowed,
                "rule": line.rule,
                "reason": line.reason,
            }
            for line in found.decisions
        ],
        "limits": {
            line.name: {"value": line.value, "reason": line.reason} for line in found.limits
        },
        "quotas": [
            {
                "id": line.id,
                "quota": line.text,
                "shared": line.shared,
                "used": line.state.used if line.state else None,
                "reserved": line.state.reserved if line.state else None,
                "left": line.state.left if line.state else None,
                "renews_at": line.state.renews_at.isoformat() if line.state else None,
            }
            for line in found.quotas
        ],
    }
