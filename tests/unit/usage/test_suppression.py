"""What a report shows never reveals figures of fewer users than the smallest group."""

from __future__ import annotations

from itertools import chain, combinations

from hypothesis import given
from hypothesis import strategies as st

from chatsite.usage.suppression import overlapping, partition

people = st.sets(st.sampled_from("abcdefghijkl"), min_size=1)
tables = st.dictionaries(st.sampled_from(["m1", "m2", "m3", "m4", "m5", "m6"]), people, min_size=1)
memberships = st.dictionaries(
    st.frozensets(st.sampled_from(["g1", "g2", "g3", "g4"]), min_size=1), people, min_size=1
)
least = st.integers(2, 6)


@given(tables, least)
def test_lines_and_the_rest_of_the_total_cover_enough_users(
    users: dict[str, set[str]], least: int
) -> None:
    hidden = partition(users, least)
    shown = users.keys() - hidden
    assert all(len(users[key]) >= least for key in shown)
    rest = set().union(*(users[key] for key in hidden))
    # With nothing shown the rest is the total, which the caller checks.
    assert not hidden or not shown or len(rest) >= least
    assert len(hidden) != 1 or not shown or len(users[next(iter(hidden))]) >= least


@given(tables, least)
def test_nothing_is_hidden_without_need(users: dict[str, set[str]], least: int) -> None:
    if all(len(some) >= least for some in users.values()):
        assert partition(users, least) == set()


def test_a_second_line_is_hidden_with_a_small_one() -> None:
    users = {"big": set("abcdefgh"), "medium": set("abcde"), "small": {"z"}}
    assert partition(users, 5) == {"small", "medium"}
    assert partition(users, 1) == set()


def derivable(users: dict[frozenset[str], set[str]], shown: set[str]) -> list[set[frozenset[str]]]:
    """Return each set of memberships whose figures are a sum or difference of shown figures.

    Coefficients of -1, 0 and 1 for each shown group and the total, where the result is the figure
    of a set of users: each membership counts once or not at all.
    """
    shapes = list(users)
    found = []
    known = [set(shapes), *({one for one in shapes if group in one} for group in shown)]
    signs: list[tuple[int, ...]] = [()]
    for _one in known:
        signs = [(*before, sign) for before in signs for sign in (-1, 0, 1)]
    for sign in signs:
        weight = [
            sum(s for s, some in zip(sign, known, strict=True) if shape in some) for shape in shapes
        ]
        if set(weight) <= {0, 1} and any(weight):
            found.append({shape for shape, one in zip(shapes, weight, strict=True) if one})
    return found


@given(memberships, least)
def test_sums_and_differences_of_groups_cover_enough_users(
    users: dict[frozenset[str], set[str]], least: int
) -> None:
    everybody = set().union(*users.values())
    if len(everybody) < least:
        return  # the caller shows nothing
    groups = set(chain.from_iterable(users))
    hidden: set[str] = overlapping(users, least)
    shown = groups - hidden
    for shapes in derivable(users, shown):
        covered = set().union(*(users[shape] for shape in shapes))
        assert len(covered) >= least, (shown, shapes)


def test_a_group_that_leaves_out_one_user_is_hidden() -> None:
    users = {frozenset({"all"}): {"boss"}, frozenset({"all", "team"}): set("abcdefgh")}
    assert overlapping(users, 5) == {"team"}


def test_disjoint_large_groups_are_all_shown() -> None:
    users = {frozenset({name}): {f"{name}{n}" for n in range(5)} for name in ("a", "b", "c")}
    assert overlapping(users, 5) == set()
    pairs = combinations("abc", 2)
    assert all(not overlapping({frozenset(p): set("vwxyz")}, 5) for p in pairs)
