"""Hints on rules that change nothing: shown to administrators, never enforced."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from chatsite.policy.decide import ANY, Audience, Policy, Rule, matches


@dataclass(frozen=True)
class Hint:
    """``other`` is the rule that makes this one ineffective, None for the default.

    ``overridden``: an allow rule that a deny rule defeats for all of its audience. ``redundant``: a
    rule that decides nothing that would be decided otherwise without it.
    """

    what: Literal["overridden", "redundant"]
    other: Rule | None = None


def hint(rule: Rule, policy: Policy) -> Hint | None:
    """Return why the rule has no effect at present, None if it may have one."""
    others = [other for other in policy.rules.get(rule.kind, ()) if other.id != rule.id]
    covering = [other for other in others if _covers(other, rule)]
    denies = [other for other in covering if other.effect == "deny"]
    default = policy.defaults.get(rule.kind, True)
    if rule.effect == "allow":
        if denies:
            return Hint("overridden", denies[0])
        if covering:
            return Hint("redundant", covering[0])
        return Hint("redundant") if default else None
    if denies:
        return Hint("redundant", denies[0])
    allowed = default or any(other.effect == "allow" for other in others)
    return None if allowed else Hint("redundant")


def _covers(one: Rule, other: Rule) -> bool:
    """Return whether ``one`` matches whatever ``other`` matches, for certain."""
    if not _includes(one.audience, other.audience):
        return False
    if one.target in {ANY, other.target}:
        # Of two equal rules the later one is redundant.
        equal = (one.target, one.audience) == (other.target, other.audience)
        return not (equal and one.effect == other.effect and one.id > other.id)
    # A pattern covers another one if it matches it as text.
    return (
        one.kind == "model" and other.target != ANY and matches("model", one.target, other.target)
    )


def _includes(one: Audience, other: Audience) -> bool:
    return one == other or (one.user is None and one.group is None)
