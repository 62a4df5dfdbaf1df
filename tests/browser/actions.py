"""User actions on the chat page."""

from __future__ import annotations

import json
import re

from playwright.sync_api import FilePayload, Locator, Page, expect

from tests.support.stack import Stack

SLOW = "@delay-ms 40 @tokens 500"


def box(page: Page) -> Locator:
    return page.get_by_role("textbox", name="Message")


def ask(page: Page, text: str) -> Locator:
    """Send a message; return the last answer once it has text."""
    box(page).fill(text)
    box(page).press("Enter")
    answer = page.get_by_role("article").last
    expect(answer).to_be_visible()
    return answer


def done(page: Page) -> None:
    expect(page.get_by_role("button", name="Send")).to_be_visible()


def give(page: Page, *files: tuple[str, bytes]) -> None:
    """Choose files with the button; `attached` waits until they can be sent."""
    payloads: list[FilePayload] = [
        {"name": name, "mimeType": "application/octet-stream", "buffer": data}
        for name, data in files
    ]
    page.set_input_files("#file-picker", payloads)


def chip(page: Page, name: str) -> Locator:
    return page.locator("#composer .files li").filter(has_text=name)


def attached(page: Page, *names: str) -> None:
    """Wait until files are uploaded and read: before that Enter sends nothing."""
    for name in names:
        expect(chip(page, name)).to_be_visible()
        expect(chip(page, name)).not_to_have_class(re.compile(r"\b(busy|refused)\b"))


def conversation(stack: Stack, person: str, answers: list[str], *, cut: str = "") -> str:
    """Save a conversation with these answers, as by a reasoning model; return its ID.

    The last answer may have been ``cut`` for a reason.
    """
    code = (
        "import json, sys\n"
        "from tests.support.conversations import write\n"
        f"print(write({person!r}, json.load(sys.stdin), cut={cut!r}))"
    )
    made = stack.manage("shell", "--verbosity", "0", "-c", code, stdin=json.dumps(answers))
    return made.stdout.strip()
