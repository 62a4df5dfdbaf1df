"""The site's API and llama-servers on the same file, in turn, with the same load."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from asgiref.sync import sync_to_async

from chatsite.accounts import keys
from chatsite.accounts.models import User
from chatsite.bench import load
from chatsite.bench.api import Server, llama_server
from chatsite.bench.cases import CASES, Figures, warm_up
from chatsite.inference.assemble import resolve

SITE: Final = "site"


@sync_to_async
def new_key() -> tuple[User, str]:
    """A person for the time of a measurement, whom the caller deletes, and a key of theirs."""
    user = User(username=f"bench-{secrets.token_hex(4)}")
    user.set_unusable_password()
    user.save()
    return user, keys.create(user, name="bench", days=1)[1]


async def compare(
    url: str,
    model: str,
    cases: Sequence[str],
    runs: int,
    program: Path,
    flag_sets: Sequence[str],
    say: Callable[[str], object],
) -> list[dict[str, Any]]:
    """For each case medians of ``runs``: ``figures`` by server (`SITE`, or a llama-server's
    flags), and ``ratios`` by flags (site / peer) of what was measured in the same run."""
    spec = await resolve(model)
    user, key = await new_key()
    site = Server(url, model, key)
    results = []
    try:
        for case in cases:
            figures: dict[str, list[Figures]] = {SITE: [], **{flags: [] for flags in flag_sets}}
            for seed in range(runs):
                await warm_up(site)
                figures[SITE].append(await CASES[case](site, seed))
                for flags in flag_sets:
                    with llama_server(program, spec.path, flags.split()) as address:
                        peer = Server(address, model)
                        await warm_up(peer)
                        figures[flags].append(await CASES[case](peer, seed))
                say(f"{case}: {seed + 1}/{runs}")
            results.append(_summary(case, figures))
    finally:
        await user.adelete()
    return results


def merged(results: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Several measurements as one: cases that are there more than once have all their runs. Of
    servers only those that took part in each of them."""
    by_case: dict[str, list[dict[str, list[Figures]]]] = {}
    for result in results:
        by_case.setdefault(result["case"], []).append(result["measured"])
    return [
        _summary(
            case,
            {
                server: [one for measured in found for one in measured[server]]
                for server in found[0]
                if all(server in measured for measured in found)
            },
        )
        for case, found in by_case.items()
    ]


def _summary(case: str, figures: dict[str, list[Figures]]) -> dict[str, Any]:
    ours = figures[SITE]
    return {
        "case": case,
        "runs": len(ours),
        "figures": {server: load.median(measured) for server, measured in figures.items()},
        "ratios": {
            server: load.median([_ratios(*pair) for pair in zip(ours, measured, strict=True)])
            for server, measured in figures.items()
            if server != SITE
        },
        "errors": [one["first_error"] for all in figures.values() for one in all if one["errors"]],
        "measured": figures,
    }


def _ratios(ours: Figures, theirs: Figures) -> Figures:
    return {
        name: round(ours[name] / (theirs[name] or 1), 3)
        for name in ours
        if name not in {"errors", "first_error"}
    }
