"""Which lines of a report are hidden, because they or what they reveal cover too few users. Pure.

A line with fewer users than ``least`` is hidden. Since totals are shown, the hidden lines could be
computed as the rest, so further lines are hidden until that rest covers ``least`` users too.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Set
from typing import TypeVar

Key = TypeVar("Key", bound=Hashable)


def partition(users: Mapping[Key, Set[str]], least: int) -> set[Key]:
    """Return the hidden keys of lines that add up to a shown total.

    ``users`` are those of each line; a user may appear in several. All sums that can be derived
    are the total less shown lines, so either nothing is hidden, or the hidden lines have ``least``
    users together, or nothing is shown.
    """
    hidden = {key for key, some in users.items() if len(some) < least}
    if not hidden:
        return hidden
    together: set[str] = set().union(*(users[key] for key in hidden))
    shown = sorted(users.keys() - hidden, key=lambda key: (len(users[key]), str(key)))
    for key in shown:
        if len(together) >= least:
            break
        hidden.add(key)
        together |= users[key]
    return hidden


def overlapping(users: Mapping[frozenset[Key], Set[str]], least: int) -> set[Key]:
    """Return the hidden groups, where a user may be in several groups at once.

    ``users`` are those of each combination of groups. Whatever is derived by adding and subtracting
    shown groups and the total covers whole sets of users who are in the same shown groups. Groups
    are hidden until each of these sets is empty or has ``least`` users.
    """
    shown: set[Key] = set().union(*users)
    size = {
        key: len(set().union(*(some for groups, some in users.items() if key in groups)))
        for key in shown
    }

    def order(key: Key) -> tuple[int, str]:
        return size[key], str(key)

    hidden = {key for key in shown if size[key] < least}
    shown -= hidden
    while shown:
        alike: dict[frozenset[Key], set[str]] = {}
        for groups, some in users.items():
            alike.setdefault(groups & shown, set()).update(some)
        few = min(
            (groups for groups, some in alike.items() if len(some) < least),
            key=lambda groups: sorted(map(str, groups)),
            default=None,
        )
        if few is None:
            break
        # One whose absence joins them with others where possible, and the smallest of these.
        joining = [key for key in shown if few ^ {key} in alike]
        worst = min(joining or few or shown, key=order)
        hidden.add(worst)
        shown.remove(worst)
    return hidden
