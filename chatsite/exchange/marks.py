"""Marks that other programs leave in the text of answers: citations, reasoning, tool calls.

The texts come from untrusted files, so everything here takes linear time.
"""

from __future__ import annotations

import html
import json
import re
from typing import Any, Final

from chatsite.exchange.tree import text as clean

# ChatGPT's marks: U+E200 kind U+E202 values… U+E201.
_OPEN, _BETWEEN, _CLOSE = "\ue200", "\ue202", "\ue201"
_OLD_CITATION: Final = re.compile(r"【[\d:]{1,20}†[^】\n]{0,200}】")
_DETAILS: Final = '<details type="'
_DETAILS_END: Final = "</details>"
_SUMMARY: Final = re.compile(r"\s*<summary>[^<]*</summary>\n?")


def without_citations(content: str, metadata: dict[str, Any]) -> str:
    """Return ChatGPT's ``content`` with links in place of citation marks.

    ``metadata`` has what was cited; marks that it does not explain are removed.
    """
    references = metadata.get("content_references")
    known = {
        reference["matched_text"]: _links(reference)
        for reference in (references if isinstance(references, list) else ())
        if isinstance(reference, dict) and isinstance(reference.get("matched_text"), str)
    }
    parts: list[str] = []
    at = 0
    while (opens := content.find(_OPEN, at)) >= 0:
        closes = content.find(_CLOSE, opens)
        if closes < 0:
            break
        mark = content[opens : closes + 1]
        parts += (content[at:opens], known.get(mark) or _shown(mark))
        at = closes + 1
    return _without_old_citations("".join(parts) + content[at:], metadata)


def _links(reference: dict[str, Any]) -> str:
    items = reference.get("items")
    sources = items if isinstance(items, list) else [reference]
    links = [link for source in sources if isinstance(source, dict) and (link := _link(source))]
    return f" ({', '.join(links)})" if links else ""


def _link(source: dict[str, Any]) -> str:
    url, title = clean(source.get("url")), " ".join(clean(source.get("title")).split())
    if not url.startswith(("https://", "http://")) or any(char in url for char in " \n<>"):
        return ""
    label = re.sub(r"([\[\]\\])", r"\\\1", title[:200]) or url
    return f"[{label}](<{url}>)"


def _shown(mark: str) -> str:
    """Return what ChatGPT shows for a mark that ``metadata`` does not explain."""
    kind, *values = mark[1:-1].split(_BETWEEN)
    if kind == "url" and len(values) == 2:
        return _link({"title": values[0], "url": values[1]}) or values[0]
    if kind == "entity" and values:
        try:
            named = json.loads(values[0])
        except (ValueError, RecursionError):
            return ""
        if isinstance(named, list) and len(named) > 1 and isinstance(named[1], str):
            return named[1]
    return ""


def _without_old_citations(content: str, metadata: dict[str, Any]) -> str:
    """Replace marks like 【11†source】, for which ``citations`` may have positions and links."""
    citations = metadata.get("citations")
    links: dict[str, str] = {}
    for citation in citations if isinstance(citations, list) else ():
        if not isinstance(citation, dict) or not isinstance(citation.get("metadata"), dict):
            continue
        start, end = citation.get("start_ix"), citation.get("end_ix")
        if isinstance(start, int) and isinstance(end, int) and 0 <= start < end:
            links[content[start:end]] = _links(citation["metadata"])
    return _OLD_CITATION.sub(lambda found: links.get(found[0], ""), content)


def separated(content: str) -> tuple[str, str, int]:
    """Split Open WebUI's ``content`` into answer, reasoning and the number of tool calls."""
    answer: list[str] = []
    reasoning: list[str] = []
    calls, at = 0, 0
    while (opens := content.find(_DETAILS, at)) >= 0:
        begins = content.find(">", opens)
        ends = content.find(_DETAILS_END, begins)
        kind = content[opens + len(_DETAILS) : begins].partition('"')[0]
        if begins < 0 or ends < 0:
            break
        answer.append(content[at:opens])
        at = ends + len(_DETAILS_END)
        if kind == "reasoning":
            reasoning.append(_unquoted(content[begins + 1 : ends]))
        elif kind in {"tool_calls", "code_interpreter"}:
            calls += 1
        else:
            answer.append(content[opens:at])
    answer.append(content[at:])
    whole = "".join(answer)
    return (whole.strip() if at else whole), "\n\n".join(filter(None, reasoning)), calls


def _unquoted(block: str) -> str:
    """Return reasoning as it was before it was quoted and escaped for display."""
    summary = _SUMMARY.match(block)
    lines = html.unescape(block[summary.end() if summary else 0 :]).strip().split("\n")
    return "\n".join(re.sub(r"^> ?", "", line) for line in lines)
