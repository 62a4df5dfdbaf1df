"""Hands pip's configuration on to uv, which reads none of it.

Who has told pip about a mirror, a proxy's certificate or an extra index means all installing.
What is set for uv itself (`UV_*`) wins.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from pathlib import Path

_SECTIONS = (":env:", "install", "global")


def parse(listing: str) -> dict[str, str]:
    """Takes the output of `pip config list`; the section that pip prefers wins."""
    found: dict[str, dict[str, str]] = {section: {} for section in _SECTIONS}
    for line in listing.splitlines():
        name, separator, value = line.partition("=")
        section, _, option = name.rpartition(".")
        if not separator or section not in found:
            continue
        try:
            found[section][option] = str(ast.literal_eval(value))
        except (SyntaxError, ValueError):
            continue
    return {
        option: value for section in reversed(_SECTIONS) for option, value in found[section].items()
    }


def for_uv(options: Mapping[str, str], environ: Mapping[str, str]) -> dict[str, str]:
    """The environment variables that tell uv the same, without those that are set already."""
    result = {}
    if url := options.get("index-url"):
        result["UV_DEFAULT_INDEX"] = url
    if urls := options.get("extra-index-url", "").split():
        result["UV_EXTRA_INDEX_URL"] = " ".join(urls)
    # pip takes the best candidate of all indexes; every one of ours is pinned by its hash.
    if urls or options.get("index-url"):
        result["UV_INDEX_STRATEGY"] = "unsafe-best-match"
    if links := [link for link in options.get("find-links", "").split() if _exists(link)]:
        result["UV_FIND_LINKS"] = ",".join(links)
    if options.get("no-index", "").lower() in {"1", "true", "yes", "on"}:
        result["UV_NO_INDEX"] = "1"
    if hosts := options.get("trusted-host", "").split():
        result["UV_INSECURE_HOST"] = " ".join(hosts)
    if certificate := options.get("cert"):
        result["SSL_CERT_FILE"] = certificate
    if seconds := options.get("timeout") or options.get("default-timeout"):
        result["UV_HTTP_TIMEOUT"] = seconds
    if proxy := options.get("proxy"):
        result |= {"HTTPS_PROXY": proxy, "HTTP_PROXY": proxy}
    if "UV_INDEX_URL" in environ:
        result.pop("UV_DEFAULT_INDEX", None)
    return {name: value for name, value in result.items() if name not in environ}


def _exists(link: str) -> bool:
    """uv stops at a local folder that is not there, where pip goes on with a warning."""
    return "://" in link or Path(link).expanduser().exists()
