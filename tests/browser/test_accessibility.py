"""axe-core on every page, in both themes; and the page by keyboard alone."""

from __future__ import annotations

import json
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import sign_in
from tests.support.stack import ROOT, Stack

AXE = ROOT / "static" / "node_modules" / "axe-core" / "axe.min.js"


@pytest.fixture(scope="module")
def stack(scripted_stack: Stack) -> Stack:
    return scripted_stack


def violations(page: Page) -> list[str]:
    # Evaluated by the debugger, which the page's policy does not concern.
    page.evaluate(AXE.read_text())
    found: list[dict[str, Any]] = page.evaluate("axe.run().then(result => result.violations)")
    return [f"{item['id']}: {json.dumps([n['target'] for n in item['nodes']])}" for item in found]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing(browser: Browser, stack: Stack, person: str, theme: Any) -> None:
    context = browser.new_context(
        base_url=stack.url, color_scheme=theme, reduced_motion="reduce", locale="en-US"
    )
    page = context.new_page()
    for address in ("/accounts/login/", "/setup/wrong/", "/nowhere/"):
        page.goto(address)
        assert violations(page) == [], address
    sign_in(page, person)
    assert violations(page) == []
    for address in ("/accounts/logout/", "/accounts/password/change/"):
        page.goto(address)
        assert violations(page) == [], address
    page.goto("/")
    page.get_by_role("textbox", name="Message").fill(
        "@say # T\n\n- [x] a\n\n| a | b |\n|--|--|\n| 1 | 2 |\n\n"
        "```python\ndef f(): return 'x' # y\n```\n\n> quoted [link](https://example.org)"
    )
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Send")).to_be_visible()
    expect(page.locator(".hljs-comment")).to_be_visible()
    assert violations(page) == []
    page.get_by_role("button", name="Options").first.click()
    assert violations(page) == []
    page.get_by_role("menuitem", name="Delete").click()
    assert violations(page) == []
    page.keyboard.press("Escape")
    page.get_by_role("button", name=person).click()
    assert violations(page) == []
    context.close()


def test_by_keyboard_alone(page: Page) -> None:
    expect(page.get_by_role("textbox", name="Message")).to_be_focused()
    page.keyboard.type("hello keyboard")
    page.keyboard.press("Enter")
    expect(page.get_by_role("article")).to_have_text("hello keyboard")
    for _ in range(12):
        page.keyboard.press("Shift+Tab")
        expect(page.locator(":focus")).to_be_visible()
    page.locator(".skip").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("textbox", name="Message")).to_be_focused()
    page.keyboard.press("Shift+Tab")
    expect(page.locator(":focus")).to_be_visible()
