"""Translation of pip's configuration for uv, which does not read it.

A mirror, a proxy's certificate or an extra index configured for pip is meant for all installation.
Settings for uv itself (`UV_*`) take precedence.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from pathlib import Path

_SECTIONS = (":env:", "install", "global")


def parse(listing: str) -> dict[str, str]:
    """Return the options in the output of `pip config list`, by pip's precedence of sections."""
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
    """Return the equivalent environment variables for uv, except those that are set already."""
    result = {}
    if url := options.get("index-url"):
        result["UV_DEFAULT_INDEX"] = url
    if urls := options.get("extra-index-url", "").split():
        result["UV_EXTRA_INDEX_URL"] = " ".join(urls)
    # As in pip, the best candidate of all indexes is used. This is safe: all packages are pinned by
    # hash.
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
    """Return whether a link exists: uv fails for a missing local folder, where pip only warns."""
    return "://" in link or Path(link).expanduser().exists()
