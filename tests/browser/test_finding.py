"""Finding what one has said: the search box, in real Chromium."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from tests.browser.actions import ask, box, done
from tests.support.stack import Stack


@pytest.fixture(scope="module")
def stack(scripted_stack: Stack) -> Stack:
    return scripted_stack


def test_a_search_leads_to_the_message_on_its_branch(page: Page) -> None:
    ask(page, "我们的数据库查询很慢")
    done(page)
    page.get_by_role("button", name="Edit").click()
    edited = page.get_by_role("textbox", name="Edited text")
    edited.fill("@say " + "Another line.\n\n" * 60)
    edited.press("Enter")
    done(page)
    address = page.url
    page.get_by_role("button", name="New chat").click()
    page.keyboard.press("Control+Shift+F")
    search = page.get_by_role("searchbox", name="Search your conversations")
    expect(search).to_be_focused()
    search.fill("数据库")
    results = page.get_by_role("region", name="Search results")
    expect(results.locator(".result mark")).to_have_text("数据库")
    expect(results.locator(".hit mark").first).to_have_text("数据库")
    search.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    expect(page).to_have_url(address)
    expect(page.locator("#thread .found")).to_contain_text("我们的数据库查询很慢")
    expect(page.locator("#thread .found")).to_be_in_viewport()
    # The branch that was found is the one that is kept.
    page.reload()
    expect(page.get_by_role("article")).to_have_text("我们的数据库查询很慢")
    search.fill("line another")
    link = results.get_by_role("link", name="Answer:")
    href = link.get_attribute("href") or ""
    page.goto(href)
    expect(page.locator("#thread .found")).to_contain_text("Another line.")
    search.fill('"nowhere to be found')
    expect(results).to_contain_text("Nothing found.")
    search.press("Escape")
    expect(page.get_by_role("navigation", name="Your conversations")).to_be_visible()
    expect(box(page)).to_be_visible()
    assert re.search("/c/", page.url)
