"""What people do on the chat page."""

from __future__ import annotations

from playwright.sync_api import Locator, Page, expect

SLOW = "@delay-ms 40 @tokens 500"


def box(page: Page) -> Locator:
    return page.get_by_role("textbox", name="Message")


def ask(page: Page, text: str) -> Locator:
    """Sends a message; the last answer once it has text."""
    box(page).fill(text)
    box(page).press("Enter")
    answer = page.get_by_role("article").last
    expect(answer).to_be_visible()
    return answer


def done(page: Page) -> None:
    expect(page.get_by_role("button", name="Send")).to_be_visible()
