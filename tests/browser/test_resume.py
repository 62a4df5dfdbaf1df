"""Reload, a second browser, and kill -9 in the middle of an answer, seen on the page."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.browser.conftest import sign_in
from tests.support.stack import Stack

QUESTION = "Write a long story about a lighthouse keeper and the sea."
END_MS = 120_000


def letters(text: str) -> str:
    """What Markdown can't change."""
    return re.sub(r"[\W\d_]+", "", text)


def body(page: Page) -> Locator:
    return page.get_by_role("article").last.locator(".answer-body")


def begin(page: Page) -> str:
    """Asks, waits for some text, returns what is shown."""
    page.get_by_role("textbox", name="Message").fill(QUESTION)
    page.get_by_role("button", name="Send").click()
    expect(body(page)).to_contain_text(re.compile(r"\w+(\W+\w+){15}"), timeout=END_MS)
    expect(page.get_by_role("button", name="Stop")).to_be_visible()
    return letters(body(page).inner_text())


def finish(stack: Stack, page: Page, shown: str) -> None:
    expect(page.get_by_role("button", name="Send")).to_be_visible(timeout=END_MS)
    conversation = page.url.rstrip("/").rpartition("/")[2].replace("-", "")
    saved = str(
        stack.query(
            "SELECT content FROM chat_message WHERE role = 'assistant' AND conversation_id = ?",
            conversation,
        )[0][0]
    )
    assert letters(body(page).inner_text()) == letters(saved)
    assert letters(saved).startswith(shown)
    assert len(letters(saved)) > len(shown)


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
    expect(page.get_by_role("button", name="Send")).to_be_visible(timeout=5_000)
    after = letters(body(page).inner_text())
    assert after.startswith(shown)
    page.reload()
    assert letters(body(page).inner_text()) == after
