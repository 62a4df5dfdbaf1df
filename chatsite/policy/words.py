"""The policy in words: for the administration and `manage.py policy`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from chatsite.policy import decide, decisions, quotas
from chatsite.policy.decide import Audience, Decision, Policy, Subject
from chatsite.policy.features import Feature

LIMIT_LABELS: Final[dict[str, str | Promise]] = {
    "longest_context": gettext_lazy("Longest context"),
    "longest_answer": gettext_lazy("Longest answer"),
    "share_weight": gettext_lazy("Share weight"),
    "priority": gettext_lazy("Priority"),
    "open_requests": gettext_lazy("Open requests"),
}
PRIORITIES: Final[dict[int, str | Promise]] = {
    1: gettext_lazy("High"),
    0: gettext_lazy("Normal"),
    -1: gettext_lazy("Low"),
}


class Names:
    """The names of users and groups that a policy mentions, read once."""

    def __init__(self, policy: Policy) -> None:
        rows: list[Any] = [*policy.limits, *policy.quotas]
        for rules in policy.rules.values():
            rows += rules
        audiences = [row.audience for row in rows]
        users = {one.user for one in audiences if one.user is not None}
        groups = {one.group for one in audiences if one.group is not None}
        people = get_user_model().objects.filter(pk__in=users)
        self._users = dict(people.values_list("pk", "username")) if users else {}
        found = Group.objects.filter(pk__in=groups)
        self._groups = dict(found.values_list("pk", "name")) if groups else {}

    def audience(self, audience: Audience) -> str:
        if audience.user is not None:
            return _("user %(name)s") % {"name": self._users.get(audience.user, audience.user)}
        if audience.group is not None:
            return _("group %(name)s") % {"name": self._groups.get(audience.group, audience.group)}
        return _("everyone")


def target(kind: str, name: str, assistants: dict[str, str]) -> str:
    """Return what a rule is about: “the model x”, “all features”."""
    if name == decide.ANY:
        return {
            "model": _("all models"),
            "assistant": _("all assistants"),
            "feature": _("all features"),
        }[kind]
    if kind == "feature":
        return str(dict(Feature.choices).get(name, name))
    if kind == "assistant":
        return assistants.get(name, name)
    return name


def rule(one: decide.Rule, names: Names, assistants: dict[str, str]) -> str:
    """Return a rule as a sentence without its full stop."""
    form = {
        "allow": _("rule %(id)s allows %(target)s to %(audience)s"),
        "deny": _("rule %(id)s denies %(target)s to %(audience)s"),
    }[one.effect]
    return form % {
        "id": one.id,
        "target": target(one.kind, one.target, assistants),
        "audience": names.audience(one.audience),
    }


def reason(decision: Decision, kind: decide.Kind, names: Names, assistants: dict[str, str]) -> str:
    """Return why something is allowed or denied."""
    if decision.rule is None:
        if decision.allowed:
            return _("No rule applies; the default allows it.")
        return _("No rule applies; the default denies it.")
    said = rule(decision.rule, names, assistants)
    return f"{said[:1].upper()}{said[1:]}."


def quota(one: decide.Quota) -> str:
    """Return a quota's amount: “10,000 tokens per day”."""
    amount = f"{one.amount:,}"
    forms = {
        ("tokens", "hour"): ngettext(
            "%(amount)s token per hour", "%(amount)s tokens per hour", one.amount
        ),
        ("tokens", "day"): ngettext(
            "%(amount)s token per day", "%(amount)s tokens per day", one.amount
        ),
        ("tokens", "month"): ngettext(
            "%(amount)s token per month", "%(amount)s tokens per month", one.amount
        ),
        ("requests", "hour"): ngettext(
            "%(amount)s request per hour", "%(amount)s requests per hour", one.amount
        ),
        ("requests", "day"): ngettext(
            "%(amount)s request per day", "%(amount)s requests per day", one.amount
        ),
        ("requests", "month"): ngettext(
            "%(amount)s request per month", "%(amount)s requests per month", one.amount
        ),
    }
    return forms[one.unit, one.period] % {"amount": amount}


def limit_value(name: str, value: float) -> str:
    if name == "priority":
        return str(PRIORITIES[int(value)])
    return f"{value:g}" if name == "share_weight" else f"{int(value):,}"


@dataclass(frozen=True)
class Line:
    """A decision: on a model, an assistant or a feature."""

    kind: decide.Kind
    name: str
    label: str
    allowed: bool
    reason: str
    rule: int | None


@dataclass(frozen=True)
class LimitLine:
    name: str
    label: str
    value: str
    reason: str


@dataclass(frozen=True)
class QuotaLine:
    """A quota with its state; for a group only that of a shared pot is known."""

    id: int
    text: str
    audience: str
    shared: bool
    state: quotas.State | None


@dataclass(frozen=True)
class Explanation:
    decisions: list[Line]
    limits: list[LimitLine]
    quotas: list[QuotaLine]


def explain(
    policy: Policy,
    subject: Subject,
    *,
    models: Iterable[str],
    assistants: dict[str, str],
) -> Explanation:
    """Explain every decision for a subject.

    ``models`` are names, ``assistants`` names by ID. The subject of a group has no user.
    """
    names = Names(policy)
    wanted: list[tuple[decide.Kind, str, str]] = [
        *(("feature", value, str(label)) for value, label in Feature.choices),
        *(("model", name, name) for name in models),
        *(("assistant", id, name) for id, name in assistants.items()),
    ]
    lines = []
    for kind, name, label in wanted:
        decision = policy.decide(subject, kind, name)
        lines.append(
            Line(
                kind,
                name,
                label,
                decision.allowed,
                reason(decision, kind, names, assistants),
                decision.rule.id if decision.rule else None,
            )
        )
    states = {state.quota.id: state for state in quotas.states_of(policy, subject)}
    return Explanation(
        lines,
        _limits(policy, subject, names),
        [
            QuotaLine(
                one.id, quota(one), names.audience(one.audience), one.shared, states.get(one.id)
            )
            for one in policy.quotas_of(subject)
        ],
    )


def _limits(policy: Policy, subject: Subject, names: Names) -> list[LimitLine]:
    plain, sources = decide.combine(policy.limits, subject)
    applied = decisions.limits_of(policy, subject)
    lines = []
    for name in decide.LIMIT_FIELDS:
        value, source = getattr(applied, name), sources.get(name)
        if value != getattr(plain, name):
            why = (
                _("Long contexts are denied.")
                if name == "longest_context"
                else _("Priority in the queue is denied.")
            )
        elif source is not None:
            why = _("Limit %(id)s for %(audience)s.") % {
                "id": source.id,
                "audience": names.audience(source.audience),
            }
        else:
            why = _("No limit applies; the site's setting does.")
        shown = "" if value is None else limit_value(name, value)
        lines.append(LimitLine(name, str(LIMIT_LABELS[name]), shown, why))
    return lines
