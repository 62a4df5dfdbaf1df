"""What axe-core finds on a page."""

from __future__ import annotations

import json
from typing import Any

from playwright.sync_api import Page

from tests.support.stack import ROOT

_AXE = ROOT / "static" / "node_modules" / "axe-core" / "axe.min.js"


def violations(page: Page) -> list[str]:
    # Evaluated by the debugger, which the page's policy does not concern.
    page.evaluate(_AXE.read_text())
    found: list[dict[str, Any]] = page.evaluate("axe.run().then(result => result.violations)")
    return [f"{item['id']}: {json.dumps([n['target'] for n in item['nodes']])}" for item in found]
