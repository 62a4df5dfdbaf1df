"""Reload, a second browser, and kill -9 in the middle of an answer, seen on the page."""

from __future__ import annotations

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.browser.conftest import sign_in
from tests.support.stack import Stack

# Equally long on every machine: the scripted engine writes 300 words, one per 30 ms. (That a real
# model resumes too is tested on the socket by `tests/faults/`.)
QUESTION = "@tokens 300 @delay-ms 30"
END_MS = 60_000


@pytest.fixture(scope="module")
def stack(scripted_stack: Stack) -> Stack:
    return scripted_stack


def body(page: Page) -> Locator:
    return page.get_by_role("article").last.locator(".answer-body")


def begin(page: Page) -> list[str]:
    """Ask, wait for some text, and return the text shown."""
    page.get_by_role("textbox", name="Message").fill(QUESTION)
    page.get_by_role("button", name="Send").click()
    expect(body(page)).to_contain_text("w15 ", timeout=END_MS)
    expect(page.get_by_role("button", name="Stop")).to_be_visible()
    return body(page).inner_text().split()


def starts(words: list[str], shown: list[str]) -> bool:
    """Return whether the text shown before is a prefix; its last word may be incomplete."""
    return words[: len(shown) - 1] == shown[:-1]


def finish(stack: Stack, page: Page, shown: list[str]) -> None:
    expect(page.get_by_role("button", name="Send")).to_be_visible(timeout=END_MS)
    conversation = page.url.rstrip("/").rpartition("/")[2].replace("-", "")
    saved = str(
        stack.query(
            "SELECT content FROM chat_message WHERE role = 'assistant' AND conversation_id = ?",
            conversation,
        )[0][0]
    )
    assert body(page).inner_text().split() == saved.split()
    assert saved.split() == [f"w{number}" for number in range(1, 301)]
    assert starts(saved.split(), shown)
    assert len(shown) < 300


def test_reload(stack: Stack, page: Page) -> None:
    shown = begin(page)
    page.reload()
    finish(stack, page, shown)


def test_second_browser(stack: Stack, page: Page, browser: Browser, person: str) -> None:
    shown = begin(page)
    other = browser.new_context(base_url=stack.url)
    second = other.new_page()
    sign_in(second, person)
    second.goto(page.url)
    expect(second.get_by_role("button", name="Stop")).to_be_visible()
    finish(stack, second, shown)
    finish(stack, page, shown)
    other.close()


@pytest.mark.parametrize("role", ["daphne", "inference", "engine"])
def test_kill_9(stack: Stack, page: Page, role: str) -> None:
    shown = begin(page)
    stack.kill(role)
    finish(stack, page, shown)


def test_stop_keeps_the_text(stack: Stack, page: Page) -> None:
    shown = begin(page)
    page.get_by_role("button", name="Stop").click()
    expect(page.get_by_role("button", name="Send")).to_be_visible()
    # Immediately: a stopped answer is stopped, whether or not its page still exists.
    page.reload()
    expect(page.locator("#thread")).to_contain_text("You stopped this answer.")
    after = body(page).inner_text().split()
    assert starts(after, shown)
    assert len(after) < 300
