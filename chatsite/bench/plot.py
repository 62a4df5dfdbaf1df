"""Draws the results of `compare` as SVG, readable on light and dark pages."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any, Final

from chatsite.bench.compare import SITE

# Case, figure and title of each panel, in rows of three.
_PANELS: Final = (
    ("8", "tokens_per_s", "Tokens/s, 8 users (more is better)"),
    ("8", "ttft_p50_ms", "TTFT p50, 8 users, ms (less is better)"),
    ("8", "ttft_p95_ms", "TTFT p95, 8 users, ms"),
    ("8", "gap_max_ms", "Longest gap in a stream, 8 users, ms"),
    ("1", "tokens_per_s", "Tokens/s, 1 user"),
    ("24", "tokens_per_s", "Tokens/s, 24 users on 8 slots"),
    ("private", "tokens_per_s", "Tokens/s, 8 private prompts of 800 words"),
    ("private", "gap_max_ms", "Longest gap, the same, ms"),
    ("edit", "tokens_per_s", "Tokens/s, giving back 60 lines, one changed"),
)
_COLUMNS: Final = 3
_WIDTH, _ROW, _TITLE, _SPACE = 300, 22, 26, 18
_BAR: Final = _WIDTH - 80  # leaves room for the value beside the longest bar
_STYLE: Final = """
text { font: 12px system-ui, sans-serif; fill: #1f2328 }
.title { font-weight: 600 }
.s0 { fill: #0969da } .s1 { fill: #8c959f } .s2 { fill: #bcc3cb }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 }
  .s0 { fill: #4493f8 } .s1 { fill: #7d8590 } .s2 { fill: #484f58 }
}
"""


def svg(results: Sequence[dict[str, Any]]) -> str:
    """Return an SVG with bars for each server: the site first, then llama-server by its flags."""
    by_case = {result["case"]: result["figures"] for result in results}
    panels = [panel for panel in _PANELS if panel[0] in by_case]
    servers = list(dict.fromkeys(name for figures in by_case.values() for name in figures))
    height = _TITLE + _ROW * len(servers) + _SPACE
    rows = -(-len(panels) // _COLUMNS)
    total = (_COLUMNS * (_WIDTH + _SPACE), _TITLE + rows * height)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {total[0]} {total[1]}" role="img">',
        f"<style>{_STYLE}</style>",
    ]
    for place, server in enumerate(servers):
        x = place * (_WIDTH + _SPACE)
        label = "this site" if server == SITE else f"llama-server {server}"
        parts.append(f'<rect class="s{place % 3}" x="{x}" y="4" width="12" height="12"/>')
        parts.append(f'<text x="{x + 18}" y="14">{escape(label)}</text>')
    for number, (case, figure, title) in enumerate(panels):
        x = number % _COLUMNS * (_WIDTH + _SPACE)
        y = _TITLE + number // _COLUMNS * height
        parts.append(f'<text class="title" x="{x}" y="{y + 16}">{escape(title)}</text>')
        values = {name: figures[figure] for name, figures in by_case[case].items()}
        most = max(values.values()) or 1
        for place, server in enumerate(servers):
            if (value := values.get(server)) is None:
                continue
            top = y + _TITLE + place * _ROW
            width = max(1, round(_BAR * value / most))
            parts.append(
                f'<rect class="s{place % 3}" x="{x}" y="{top}" width="{width}" height="16"/>'
            )
            parts.append(f'<text x="{x + width + 6}" y="{top + 12}">{value:,.0f}</text>')
    return "\n".join([*parts, "</svg>", ""])
