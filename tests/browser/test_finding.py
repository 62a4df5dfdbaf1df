"""Finding what one has said, and keeping it in order, in real Chromium."""

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


def options(page: Page, title: str, action: str) -> None:
    """Chooses from the menu of a conversation in the list."""
    row = page.locator("#conversations").get_by_role("listitem").filter(has_text=title)
    row.hover()
    row.get_by_role("button", name="Options").click()
    page.get_by_role("menuitem", name=action, exact=True).click()


def test_folders_pins_archive_and_the_way_back(page: Page) -> None:
    for title in ("about apples", "about pears", "about plums"):
        page.goto("/")
        ask(page, title)
        done(page)
    shown = page.get_by_role("navigation", name="Your conversations")
    undo = page.get_by_role("button", name="Undo")
    options(page, "about apples", "Pin")
    pinned = shown.get_by_role("region", name="Pinned")
    expect(pinned.get_by_role("link")).to_have_text(["about apples"])
    options(page, "about pears", "Move to folder…")
    page.get_by_role("menuitem", name="New folder…").click()
    name = page.get_by_role("textbox", name="Name")
    name.fill("Fruit")
    name.press("Enter")
    expect(shown.get_by_role("link", name="about pears")).to_have_count(0)
    shown.get_by_role("button", name="Fruit").click()
    expect(shown.get_by_role("link")).to_have_text(["about pears"])
    undo.click()
    expect(shown).to_contain_text("There are no conversations here.")
    shown.get_by_role("button", name="All conversations").click()
    options(page, "about pears", "Archive")
    expect(shown.get_by_role("link", name="about pears")).to_have_count(0)
    page.reload()
    shown.get_by_role("button", name="Archive").click()
    expect(shown.get_by_role("link")).to_have_text(["about pears"])
    shown.get_by_role("button", name="All conversations").click()
    expect(pinned.get_by_role("link")).to_have_text(["about apples"])
    # Many at once.
    options(page, "about plums", "Select…")
    shown.get_by_role("checkbox", name="about apples").check()
    bar = page.get_by_role("toolbar", name="Selected conversations")
    expect(bar).to_contain_text("2 selected")
    bar.get_by_role("button", name="Delete").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(shown.get_by_role("link", name="about plums")).to_have_count(0)
    expect(page).to_have_url(re.compile("/$"))
    undo.click()
    expect(shown.get_by_role("link", name="about plums")).to_be_visible()
    expect(pinned.get_by_role("link")).to_have_text(["about apples"])
