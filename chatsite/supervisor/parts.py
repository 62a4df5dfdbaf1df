"""The parts of the product that `manage.py up --only` can run apart from the others."""

from __future__ import annotations

PARTS = ("redis", "inference", "worker", "web")


class UnknownPart(SystemExit):
    """Ends the process with a message that names the parts."""


def parse(text: str | None) -> frozenset[str]:
    """Return the parts that ``text`` names, separated by commas; all of them for None.

    Raises `UnknownPart`.
    """
    if text is None:
        return frozenset(PARTS)
    named = frozenset(word.strip() for word in text.split(",")) - {""}
    if unknown := sorted(named - {*PARTS}):
        raise UnknownPart(f"--only {', '.join(unknown)}: choose from {', '.join(PARTS)}.")
    if not named:
        raise UnknownPart(f"--only needs at least one of {', '.join(PARTS)}.")
    return named


def suffix(parts: frozenset[str]) -> str:
    """Return what distinguishes the files of a run of ``parts``; empty for a run of all."""
    return "" if parts == {*PARTS} else f"-{'-'.join(sorted(parts))}"
