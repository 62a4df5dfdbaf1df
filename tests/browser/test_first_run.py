"""The first five minutes of a new site: set-up link, first administrator, a streamed answer."""

from __future__ import annotations

import re

from playwright.sync_api import Browser, expect

from tests.support.stack import PASSWORD, Stack

LOAD_MS = 60_000


def test_from_the_set_up_link_to_a_streamed_answer(stack: Stack, browser: Browser) -> None:
    link = next(line.split()[-1] for line in stack.output if "Set-up link: " in line)
    context = browser.new_context(base_url=stack.url)
    page = context.new_page()

    page.goto(link)
    page.get_by_label("Username").fill("root")
    page.get_by_label("Password", exact=True).fill(PASSWORD)
    page.get_by_label(re.compile("repeat", re.I)).fill(PASSWORD)
    page.get_by_role("button", name=re.compile("create", re.I)).click()
    expect(page.get_by_role("textbox", name="Message")).to_be_visible()

    # Sign out and in again, as on the second day.
    context.clear_cookies()
    page.goto("/")
    page.get_by_label("Username").fill("root")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()

    message = page.get_by_role("textbox", name="Message")
    expect(message).to_be_focused()
    expect(page.get_by_role("combobox", name="Model")).to_have_value("smollm2:135m")
    message.fill("What is the capital of France?")
    message.press("Enter")
    answer = page.get_by_role("article")
    # The sampled words are random; that the model knows Paris is tested greedily at the engine.
    expect(answer).to_contain_text(re.compile(r"\w{3,}"), timeout=LOAD_MS)
    expect(page.get_by_role("button", name="Send")).to_be_visible(timeout=LOAD_MS)
    expect(page).to_have_url(re.compile(r"/c/[0-9a-f-]{36}/$"))
    expect(page.get_by_role("link", name="What is the capital of France?")).to_be_visible()

    # The page shows the text that is in SQL.
    shown = answer.inner_text()
    saved = str(stack.query("SELECT content FROM chat_message WHERE role = 'assistant'")[0][0])
    assert letters(saved) in letters(shown)

    # The link works once.
    assert page.goto(link).status == 404  # type: ignore[union-attr]
    context.close()


def letters(text: str) -> str:
    """Return only the letters, which Markdown does not change."""
    return re.sub(r"[\W\d_]+", "", text)
