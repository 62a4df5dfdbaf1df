"""The decision function: pure, without database, clock or settings.

A rule allows or denies a target to a subject. A decision depends only on the set of rules that
match, never on their order: a matching deny rule wins over every allow rule, however specific; if
no rule matches, the default of the kind decides. So adding an allow rule never removes a right, and
adding a deny rule never grants one.

Limits are settings, not rights, so here the most specific value wins: the user's own, else the most
generous of the user's groups, else that of all users.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final, Literal

Kind = Literal["model", "assistant", "feature"]
Effect = Literal["allow", "deny"]
ANY: Final = "*"


@dataclass(frozen=True, slots=True)
class Audience:
    """Whom a rule, limit or quota is for: a user, a group, or with neither all users."""

    user: int | None = None
    group: int | None = None

    def includes(self, subject: Subject) -> bool:
        if self.user is not None:
            return self.user == subject.user
        return self.group is None or self.group in subject.groups

    @property
    def rank(self) -> int:
        """Return 0 for a user, 1 for a group, 2 for all users."""
        return 0 if self.user is not None else 1 if self.group is not None else 2


EVERYONE: Final = Audience()


@dataclass(frozen=True, slots=True)
class Subject:
    """Who asks: a user with the IDs of the groups that policies mention; a group in a preview."""

    user: int | None
    groups: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Rule:
    """``target`` is a model's name or pattern, an assistant's ID, a feature, or `ANY`."""

    id: int
    effect: Effect
    kind: Kind
    target: str
    audience: Audience = EVERYONE


@dataclass(frozen=True, slots=True)
class Decision:
    """The result, and the rule that decided; None if the default did."""

    allowed: bool
    rule: Rule | None = None


def decide(
    rules: Iterable[Rule], subject: Subject, kind: Kind, name: str, *, default: bool
) -> Decision:
    """Decide whether ``subject`` may use ``name``; of several deciding rules name one."""
    deciding: Rule | None = None
    for rule in rules:
        if rule.kind != kind or not rule.audience.includes(subject):
            continue
        if not matches(kind, rule.target, name):
            continue
        if deciding is None or _order(rule) < _order(deciding):
            deciding = rule
    if deciding is None:
        return Decision(default)
    return Decision(deciding.effect == "allow", deciding)


def _order(rule: Rule) -> tuple[bool, int, bool, int]:
    """Sort deny rules first, then the more specific subject and target, then the older rule."""
    return rule.effect == "allow", rule.audience.rank, ANY in rule.target, rule.id


def matches(kind: Kind, target: str, name: str) -> bool:
    """Return whether a rule's target matches a name.

    In models' names case is ignored and ``*`` matches any characters; a target without a tag
    matches every tag. Other kinds match exactly, or by ``*`` alone.
    """
    if target == ANY:
        return True
    if kind != "model":
        return target == name
    return _pattern(target.casefold()).fullmatch(name.casefold()) is not None


@lru_cache(4096)
def _pattern(target: str) -> re.Pattern[str]:
    text = ".*".join(re.escape(part) for part in target.split(ANY))
    tagged = ":" in target.rpartition("/")[2] or target.endswith(ANY)
    return re.compile(text if tagged else f"{text}(:.*)?", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of a user; None: the site's setting applies.

    ``longest_context`` bounds the tokens of a prompt and its answer together, ``longest_answer``
    those of an answer. ``share_weight`` is the user's share of a queue relative to others.
    ``priority`` is 1 (before others), 0 or -1. ``open_requests`` bounds queued and running
    requests.
    """

    longest_context: int | None = None
    longest_answer: int | None = None
    share_weight: float | None = None
    priority: int | None = None
    open_requests: int | None = None


LIMIT_FIELDS: Final = tuple(Limits.__slots__)
UNLIMITED: Final = Limits()


@dataclass(frozen=True, slots=True)
class LimitRow:
    id: int
    values: Limits
    audience: Audience = EVERYONE


def combine(rows: Iterable[LimitRow], subject: Subject) -> tuple[Limits, Mapping[str, LimitRow]]:
    """Return the limits of ``subject``, and by field the row that decided it."""
    applying = [row for row in rows if row.audience.includes(subject)]
    values: dict[str, float] = {}
    sources: dict[str, LimitRow] = {}
    for name in LIMIT_FIELDS:
        rows_with = [row for row in applying if getattr(row.values, name) is not None]
        if rows_with:
            best = min(
                rows_with, key=lambda row: (row.audience.rank, -getattr(row.values, name), row.id)
            )
            values[name], sources[name] = getattr(best.values, name), best
    return Limits(**values), sources  # type: ignore[arg-type]


Unit = Literal["tokens", "requests"]
Period = Literal["hour", "day", "month"]


@dataclass(frozen=True, slots=True)
class Quota:
    """At most ``amount`` per calendar ``period``; ``shared``: by all of the audience together."""

    id: int
    unit: Unit
    period: Period
    amount: int
    audience: Audience = EVERYONE
    shared: bool = False

    def pot(self, user: int) -> int:
        """Return whose consumption counts: the user's ID, or 0 for the shared pot."""
        return 0 if self.shared else user


@dataclass(frozen=True, slots=True)
class Policy:
    """All rules, limits and quotas, and what is decided where no rule speaks."""

    rules: Mapping[Kind, Sequence[Rule]] = field(default_factory=dict)
    limits: Sequence[LimitRow] = ()
    quotas: Sequence[Quota] = ()
    defaults: Mapping[Kind, bool] = field(default_factory=dict)

    @property
    def groups(self) -> frozenset[int]:
        """Return the groups whose membership matters."""
        rows: list[Rule | LimitRow | Quota] = [*self.limits, *self.quotas]
        for rules in self.rules.values():
            rows += rules
        return frozenset(row.audience.group for row in rows if row.audience.group is not None)

    def decide(self, subject: Subject, kind: Kind, name: str) -> Decision:
        rules = self.rules.get(kind, ())
        return decide(rules, subject, kind, name, default=self.defaults.get(kind, True))

    def quotas_of(self, subject: Subject) -> list[Quota]:
        """Return the quotas that apply, by ID: all of them must hold."""
        return sorted(
            (quota for quota in self.quotas if quota.audience.includes(subject)),
            key=lambda quota: quota.id,
        )
