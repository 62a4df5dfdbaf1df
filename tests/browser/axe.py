"""Checks a page with axe-core."""

from __future__ import annotations

import json
from typing import Any

from playwright.sync_api import Page

from tests.support.stack import ROOT

_AXE = (ROOT / "static" / "node_modules" / "axe-core" / "axe.min.js").read_text()
# The rules whose result depends on colours.
_OF_COLOURS = {"runOnly": {"type": "rule", "values": ["color-contrast", "link-in-text-block"]}}
# Until the transitions of colours that a change of theme or focus has begun are over.
_SETTLED = """async () => {
  const frame = () => new Promise(requestAnimationFrame);
  do {
    await frame();
    await frame();
    const running = document.getAnimations().filter((one) => one instanceof CSSTransition);
    await Promise.allSettled(running.map((one) => one.finished));
  } while (document.getAnimations().some((one) => one instanceof CSSTransition));
}"""


def violations(page: Page) -> list[str]:
    return _run(page, {})


def violations_in_both_themes(page: Page) -> list[str]:
    """Check in the light theme, then in the dark one, in which only colours differ.

    Motion is reduced from then on.
    """
    page.emulate_media(color_scheme="light", reduced_motion="reduce")
    found = _run(page, {})
    page.emulate_media(color_scheme="dark", reduced_motion="reduce")
    found += [f"dark: {item}" for item in _run(page, _OF_COLOURS)]
    page.emulate_media(color_scheme="light", reduced_motion="reduce")
    return found


def _run(page: Page, options: dict[str, Any]) -> list[str]:
    page.evaluate(_SETTLED)
    # Evaluated through the debugger, which the page's content security policy does not affect.
    if not page.evaluate("'axe' in window"):
        page.evaluate(_AXE)
    found: list[dict[str, Any]] = page.evaluate(
        "options => axe.run(options).then(result => result.violations)", options
    )
    return [f"{item['id']}: {json.dumps([n['target'] for n in item['nodes']])}" for item in found]
