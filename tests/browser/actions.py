"""What people do on the chat page."""

from __future__ import annotations

import json

from playwright.sync_api import Locator, Page, expect

from tests.support.stack import Stack

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


def conversation(stack: Stack, person: str, answers: list[str], *, cut: str = "") -> str:
    """Saves a conversation with these answers, as if a reasoning model had given them; the last
    one may have been ``cut`` for a reason. Returns its id."""
    code = (
        "import json, sys\n"
        "from tests.support.conversations import write\n"
        f"print(write({person!r}, json.load(sys.stdin), cut={cut!r}))"
    )
    made = stack.manage("shell", "--verbosity", "0", "-c", code, stdin=json.dumps(answers))
    return made.stdout.strip()
