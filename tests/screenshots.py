"""Screenshots for the documentation: ``python -m tests.screenshots`` writes `docs/screens/*.png`.

Runs the whole product with scripted answers, so the images change only when the pages do. Needs an
installed Chromium and, in `CHATSITE_TEST_MODEL`, a small GGUF file.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright

from tests.browser.actions import box, done
from tests.browser.conftest import sign_in
from tests.support.stack import MODEL, ROOT, Stack

FOLDER = ROOT / "docs" / "screens"
DESKTOP = {"width": 1280, "height": 800}
PHONE = {"width": 390, "height": 844}
ANSWER = """@delay-ms 12 @say Use a dictionary to count, then sort by the counts:

```python
from collections import Counter

def most_common(words: list[str], n: int = 3) -> list[tuple[str, int]]:
    return Counter(words).most_common(n)
```

| step | cost |
|------|------|
| counting | $O(n)$ |
| choosing the best $k$ | $O(n \\log k)$ |

- [x] works for any hashable value
- [ ] ties are in order of first appearance"""


def main() -> None:
    model = os.environ.get("CHATSITE_TEST_MODEL")
    if not model:
        raise SystemExit("CHATSITE_TEST_MODEL names no GGUF file.")
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        stack = Stack(Path(folder), CHATSITE_BACKEND="scripted")
        chromium = os.environ.get("CHROMIUM") or shutil.which("chromium")
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        try:
            stack.prepare(Path(model))
            stack.create_user("ann", admin=True)
            stack.start()
            _talk(browser, stack)
            for scheme in ("light", "dark"):
                _take(browser, stack, scheme, DESKTOP, f"chat-{scheme}", _chat)
            _take(browser, stack, "light", PHONE, "phone-light", _chat)
            _take(browser, stack, "dark", PHONE, "phone-dark", _list_on_a_phone)
            _take(browser, stack, "light", DESKTOP, "start", _start)
            _take(browser, stack, "light", DESKTOP, "search", _search)
            _take(browser, stack, "light", DESKTOP, "catalogue", _admin("catalogue/"))
            _take(browser, stack, "dark", DESKTOP, "hosts", _admin("hosts/"))
        finally:
            browser.close()
            stack.stop()


def _take(
    browser: Browser,
    stack: Stack,
    scheme: Any,
    size: Any,
    name: str,
    arrange: Callable[[Page], None],
) -> None:
    context = browser.new_context(
        base_url=stack.url,
        viewport=size,
        color_scheme=scheme,
        reduced_motion="reduce",
        locale="en-US",
    )
    page = context.new_page()
    sign_in(page, "ann")
    arrange(page)
    page.wait_for_timeout(500)
    page.screenshot(path=FOLDER / f"{name}.png")
    context.close()


def _talk(browser: Browser, stack: Stack) -> None:
    """Create the conversations in the screenshots."""
    context = browser.new_context(base_url=stack.url, locale="en-US")
    page = context.new_page()
    sign_in(page, "ann")
    for question in (
        "Draft a polite reminder for the report",
        "Explain what a firewall does",
        "Plan a workshop of three hours",
        ANSWER,
    ):
        page.goto("/")
        page.get_by_role("combobox", name="Model").select_option(MODEL)
        box(page).fill(question)
        box(page).press("Enter")
        page.wait_for_url("**/c/**")
        done(page)
    page.wait_for_timeout(500)
    page.locator("nav").get_by_role("link").first.click()
    page.get_by_role("button", name="Options").first.click()
    page.get_by_role("menuitem", name="Rename").click()
    page.keyboard.press("Control+A")
    page.keyboard.type("The most common words of a list")
    page.keyboard.press("Enter")
    page.wait_for_timeout(500)
    context.close()


def _chat(page: Page) -> None:
    if page.viewport_size == PHONE:
        page.get_by_role("button", name="Show conversations").click()
    page.locator("nav").get_by_role("link").first.click()
    page.get_by_role("article").last.wait_for()
    page.mouse.move(0, 0)


def _list_on_a_phone(page: Page) -> None:
    page.get_by_role("button", name="Show conversations").click()


def _start(page: Page) -> None:
    page.goto("/")


def _search(page: Page) -> None:
    page.get_by_role("searchbox", name="Search your conversations").fill("words")
    page.wait_for_timeout(1000)


def _admin(path: str) -> Callable[[Page], None]:
    def arrange(page: Page) -> None:
        page.goto(f"/admin/{path}")

    return arrange


if __name__ == "__main__":
    main()
