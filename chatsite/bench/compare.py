"""Compares the site's API with llama-server on the same file, alternately, under the same load."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from asgiref.sync import sync_to_async

from chatsite.bench import load, users
from chatsite.bench.api import Server, llama_server
from chatsite.bench.cases import CASES, Figures, warm_up
from chatsite.inference.assemble import resolve

SITE: Final = "site"


async def compare(
    url: str,
    model: str,
    cases: Sequence[str],
    runs: int,
    program: Path,
    flag_sets: Sequence[str],
    say: Callable[[str], object],
) -> list[dict[str, Any]]:
    """Return, for each case, medians over ``runs``.

    ``figures`` are by server (`SITE`, or llama-server's flags). ``ratios`` (site / peer) are by
    flags, computed within each run.
    """
    spec = await resolve(model)
    user, key = await sync_to_async(users.with_key)()
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
        await sync_to_async(users.remove)([user])
    return results


def merged(results: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Merge measurements: a case that occurs more than once gets all its runs.

    Keeps only servers that took part in every measurement of a case.
    """
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
