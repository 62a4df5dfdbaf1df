"""The decision function: properties over arbitrary policies."""

from __future__ import annotations

import random
import time

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chatsite.policy.decide import (
    EVERYONE,
    UNLIMITED,
    Audience,
    LimitRow,
    Limits,
    Policy,
    Quota,
    Rule,
    Subject,
    combine,
    decide,
    matches,
)

calm = settings(suppress_health_check=[HealthCheck.too_slow])
_MODELS = ("llama:8b", "llama:70b", "qwen:4b")
_audiences = st.one_of(
    st.just(EVERYONE),
    st.builds(Audience, user=st.integers(1, 2)),
    st.builds(Audience, group=st.integers(1, 3)),
)
_targets = st.sampled_from([*_MODELS, "*", "llama", "llama:*", "*:4b"])
_rules = st.lists(
    st.builds(
        Rule,
        id=st.integers(1, 1000),
        effect=st.sampled_from(["allow", "deny"]),
        kind=st.just("model"),
        target=_targets,
        audience=_audiences,
    ),
    max_size=8,
)
_subjects = st.builds(
    Subject, user=st.integers(1, 3), groups=st.frozensets(st.integers(1, 4), max_size=3)
)
_names = st.sampled_from(_MODELS)


def _matching(rules: list[Rule], subject: Subject, name: str) -> list[Rule]:
    return [
        rule
        for rule in rules
        if rule.audience.includes(subject) and matches("model", rule.target, name)
    ]


@calm
@given(_rules, _subjects, _names, st.booleans())
def test_deny_wins_then_allow_then_the_default(
    rules: list[Rule], subject: Subject, name: str, default: bool
) -> None:
    decision = decide(rules, subject, "model", name, default=default)
    effects = {rule.effect for rule in _matching(rules, subject, name)}
    expected = "deny" not in effects if effects else default
    assert decision.allowed == expected
    assert (decision.rule is None) == (not effects)
    if decision.rule is not None:
        assert (decision.rule.effect == "allow") == decision.allowed


@calm
@given(_rules, _subjects, _names, st.booleans(), st.randoms(use_true_random=False))
def test_order_of_rules_is_irrelevant(
    rules: list[Rule], subject: Subject, name: str, default: bool, chance: random.Random
) -> None:
    unique = list({rule.id: rule for rule in rules}.values())
    shuffled = unique[:]
    chance.shuffle(shuffled)
    first = decide(unique, subject, "model", name, default=default)
    assert decide(shuffled, subject, "model", name, default=default) == first


@calm
@given(_rules, _subjects, _names, st.booleans(), _targets, _audiences)
def test_an_allow_rule_never_removes_and_a_deny_rule_never_grants(
    rules: list[Rule],
    subject: Subject,
    name: str,
    default: bool,
    target: str,
    audience: Audience,
) -> None:
    before = decide(rules, subject, "model", name, default=default).allowed
    allow = Rule(5000, "allow", "model", target, audience)
    deny = Rule(5000, "deny", "model", target, audience)
    assert decide([*rules, allow], subject, "model", name, default=default).allowed >= before
    assert decide([*rules, deny], subject, "model", name, default=default).allowed <= before


def test_a_more_specific_allow_does_not_override_a_deny() -> None:
    rules = [
        Rule(1, "deny", "model", "llama:70b", Audience(group=1)),
        Rule(2, "allow", "model", "llama:70b", Audience(user=7)),
    ]
    decision = decide(rules, Subject(7, frozenset({1})), "model", "llama:70b", default=True)
    assert not decision.allowed
    assert decision.rule is rules[0]


def test_patterns_of_models() -> None:
    assert matches("model", "llama3.2", "llama3.2:1b")
    assert matches("model", "LLaMA3.2:1B", "llama3.2:1b")
    assert not matches("model", "llama3.2:1b", "llama3.2:3b")
    assert not matches("model", "llama3", "llama3.2:1b")
    assert matches("model", "llama3*", "llama3.2:1b")
    assert matches("model", "hf.co/org/*", "hf.co/org/some-model:q4_k_m")
    assert not matches("model", "hf.co/org/x.y", "hf.co/org/xzy:latest")  # a dot is a dot
    assert matches("assistant", "*", "9f6c")
    assert not matches("assistant", "9f*", "9f6c")


@calm
@given(_subjects, st.randoms(use_true_random=False))
def test_limits_prefer_the_user_then_the_most_generous_group(
    subject: Subject, chance: random.Random
) -> None:
    rows = [
        LimitRow(1, Limits(longest_answer=100, open_requests=5)),
        LimitRow(2, Limits(longest_answer=500), Audience(group=1)),
        LimitRow(3, Limits(longest_answer=300), Audience(group=2)),
        LimitRow(4, Limits(longest_answer=50), Audience(user=1)),
    ]
    chance.shuffle(rows)
    found, sources = combine(rows, subject)
    expected = (
        50
        if subject.user == 1
        else 500
        if 1 in subject.groups
        else 300
        if 2 in subject.groups
        else 100
    )
    assert found == Limits(longest_answer=expected, open_requests=5)
    assert sources["open_requests"].id == 1
    assert combine([], subject)[0] == UNLIMITED


def test_all_quotas_of_a_user_apply() -> None:
    quotas = [
        Quota(3, "tokens", "day", 1000, Audience(group=1), shared=True),
        Quota(1, "requests", "hour", 5),
        Quota(2, "tokens", "day", 10, Audience(user=9)),
    ]
    policy = Policy(quotas=quotas)
    assert [q.id for q in policy.quotas_of(Subject(7, frozenset({1})))] == [1, 3]
    assert [q.pot(7) for q in policy.quotas_of(Subject(7, frozenset({1})))] == [7, 0]


def test_a_decision_over_a_thousand_rules_is_cheap() -> None:
    """It takes about 0.1 ms; the bound only finds another order of growth."""
    rules = [
        Rule(id, "allow" if id % 3 else "deny", "model", f"m{id}:*", Audience(group=id % 40))
        for id in range(1000)
    ]
    policy = Policy(rules={"model": rules})
    subject = Subject(1, frozenset(range(5)))
    policy.decide(subject, "model", "warm-up:1b")
    costs = []
    for turn in range(30):
        began = time.thread_time()
        policy.decide(subject, "model", f"llama{turn}:8b")
        costs.append(time.thread_time() - began)
    assert min(costs) < 20e-3
