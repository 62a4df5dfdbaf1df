"""Search, and organising conversations, in real Chromium."""

from __future__ import annotations

import io
import json
import re
import zipfile

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.actions import ask, box, done
from tests.browser.axe import violations_in_both_themes as violations
from tests.support.stack import PASSWORD, Stack
from tests.unit.exchange.test_readers import chatgpt, chatgpt_node


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
    # The branch that was found is the one that is saved.
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
    """Choose from the menu of a conversation in the list."""
    row = page.locator("#conversations").get_by_role("listitem").filter(has_text=title)
    row.hover()
    row.get_by_role("button", name="Options").click()
    page.get_by_role("menuitem", name=action, exact=True).click()


def test_the_model_names_a_conversation_in_every_tab(page: Page) -> None:
    ask(page, "Tell me how the names of computers are found @next @say How Names Are Resolved")
    done(page)
    other = page.context.new_page()
    other.goto(page.url)
    for tab in (page, other):
        expect(tab).to_have_title(re.compile("^How Names Are Resolved"))
        current = tab.locator("#conversations [aria-current=page]")
        expect(current).to_have_text("How Names Are Resolved")
    page.reload()
    expect(page.get_by_role("heading", name="How Names Are Resolved")).to_be_visible()


def test_folders_pins_archive_and_the_way_back(page: Page) -> None:
    for title in ("about apples", "about pears", "about plums"):
        page.goto("/")
        ask(page, title)
        done(page)
    shown = page.get_by_role("navigation", name="Your conversations")
    # Without archived conversations the archive is not offered.
    expect(shown.get_by_role("button", name="Archive")).to_have_count(0)
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
    back = shown.get_by_role("button", name="All conversations")
    back.click()
    pears = shown.get_by_role("link", name="about pears")
    pears.drag_to(shown.get_by_role("button", name="Fruit"))
    expect(pears).to_have_count(0)
    shown.get_by_role("button", name="Fruit").click()
    pears.drag_to(back)
    expect(pears).to_have_count(0)
    back.click()
    options(page, "about pears", "Archive")
    expect(shown.get_by_role("link", name="about pears")).to_have_count(0)
    page.reload()
    shown.get_by_role("button", name="Archive").click()
    expect(shown.get_by_role("link")).to_have_text(["about pears"])
    shown.get_by_role("button", name="All conversations").click()
    expect(pinned.get_by_role("link")).to_have_text(["about apples"])
    # Several at once.
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


def test_a_change_from_another_tab_does_not_interrupt_a_drag(page: Page) -> None:
    for title in ("dragged one", "renamed one"):
        page.goto("/")
        ask(page, title)
        done(page)
    shown = page.get_by_role("navigation", name="Your conversations")
    options(page, "renamed one", "Move to folder…")
    page.get_by_role("menuitem", name="New folder…").click()
    page.get_by_role("textbox", name="Name").fill("Held")
    page.get_by_role("textbox", name="Name").press("Enter")
    folder = shown.get_by_role("button", name="Held", exact=False).first
    other = page.context.new_page()
    other.goto("/")
    page.bring_to_front()
    row = shown.get_by_role("link", name="dragged one")
    row.hover()
    page.mouse.down()
    pressed = row.element_handle()
    # The list changes in both tabs between the press and the first movement.
    ask(other, "meanwhile")
    done(other)
    expect(other.get_by_role("link", name="meanwhile")).to_be_visible()
    page.wait_for_timeout(300)
    assert pressed is not None
    assert pressed.evaluate("row => row.isConnected")
    folder.hover()
    folder.hover()
    page.mouse.up()
    expect(row).to_have_count(0)
    expect(shown.get_by_role("link", name="meanwhile")).to_be_visible()


def test_a_shared_copy_is_read_and_revoked(page: Page) -> None:
    ask(page, "@say # Shared\n\n```python\nprint('x')\n```")
    done(page)
    current = page.get_by_role("listitem").filter(has=page.locator("[aria-current=page]"))
    current.get_by_role("button", name="Options").click()
    page.get_by_role("menuitem", name="Share…").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("button", name="Create link").click()
    link = dialog.get_by_role("textbox", name="Link")
    expect(link).to_have_value(re.compile(r"/share/\S+/$"))
    reader = page.context.new_page()
    reader.goto(link.input_value())
    expect(reader.get_by_role("article").get_by_role("heading", name="Shared")).to_be_visible()
    expect(reader.locator(".hljs-string")).to_have_text("'x'")
    expect(reader.get_by_role("textbox")).to_have_count(0)
    dialog.get_by_role("button", name="Revoke").click()
    expect(dialog).to_contain_text("Not shared")
    response = reader.reload()
    assert response
    assert response.status == 404


def test_a_file_of_another_program_is_imported_once(page: Page) -> None:
    tree = chatgpt(
        chatgpt_node("q", None, "user", "imported question"),
        chatgpt_node("a", "q", "assistant", "imported *answer*"),
        head="a",
    )
    with io.BytesIO() as buffer:
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("conversations.json", json.dumps([tree, {"title": "Broken"}]))
        content = buffer.getvalue()
    page.locator(".account > button").click()
    page.get_by_role("button", name="Import and export").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_be_visible()
    for line in ("1 conversation was imported.", "1 already imported"):
        page.locator("#exchange-file").set_input_files(
            {"name": "export.zip", "mimeType": "application/zip", "buffer": content}
        )
        expect(dialog).to_contain_text(line)
        expect(dialog).to_contain_text("Broken")
    dialog.get_by_role("button", name="Close").click()
    search = page.get_by_role("searchbox")
    search.fill("imported answer")
    page.get_by_role("region", name="Search results").locator("a.hit").click()
    expect(page.get_by_role("article")).to_have_text("imported answer")
    with page.expect_download() as download:
        page.locator(".account > button").click()
        page.get_by_role("button", name="Import and export").click()
        dialog.get_by_role("link", name="Export everything").click()
    with zipfile.ZipFile(download.value.path()) as archive:
        assert "conversations.json" in archive.namelist()


def signed_in(page: Page, person: str) -> None:
    """Sign in without using labels, which are translated."""
    page.goto("/accounts/login/")
    page.locator("[name=login]").fill(person)
    page.locator("[name=password]").fill(PASSWORD)
    page.keyboard.press("Enter")
    expect(page.locator("#message")).to_be_focused()


@pytest.mark.parametrize(("locale", "width"), [("en-US", 1280), ("zh-CN", 390)])
def test_axe_finds_nothing_in_these_states(
    browser: Browser, stack: Stack, person: str, locale: str, width: int
) -> None:
    context = browser.new_context(
        base_url=stack.url,
        locale=locale,
        reduced_motion="reduce",
        viewport={"width": width, "height": 844},
    )
    page = context.new_page()
    signed_in(page, person)
    page.locator("#message").fill("@say words for axe")
    page.keyboard.press("Enter")
    expect(page.get_by_role("article")).to_have_text("words for axe")
    if width < 768:
        page.locator("#sidebar-open").click()
    row = page.locator("#conversations li:has([aria-current=page])")

    def chosen(number: int) -> None:
        row.locator("button").click()
        page.get_by_role("menuitem").nth(number).click()

    row.locator("button").click()
    assert violations(page) == []
    page.keyboard.press("Escape")
    chosen(2)
    page.get_by_role("menuitem").last.click()
    assert violations(page) == []
    page.locator("#ask-value").fill(f"Folder {locale}")
    page.keyboard.press("Enter")
    expect(page.locator("#toast")).to_be_visible()
    assert violations(page) == []
    page.locator(".places").get_by_role("button", name=f"Folder {locale}").click()
    expect(page.locator(".view-heading")).to_be_visible()
    assert violations(page) == []
    chosen(4)
    expect(page.locator("#share-publish")).to_be_visible()
    page.locator("#share-publish").click()
    expect(page.locator("#share-address")).to_be_visible()
    assert violations(page) == []
    link = page.locator("#share-address").input_value()
    page.keyboard.press("Escape")
    chosen(6)
    expect(page.locator("#selection")).to_be_visible()
    assert violations(page) == []
    page.locator("#selection button").filter(visible=True).last.click()
    page.locator("#search").fill("axe")
    expect(page.locator("#results mark").first).to_be_visible()
    assert violations(page) == []
    page.locator(".account > button").click()
    page.locator("#exchange-open").click()
    expect(page.locator("#exchange")).to_be_visible()
    assert violations(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") == width
    for place in (link, "/share/"):
        page.goto(place)
        assert violations(page) == []
        assert page.evaluate("document.documentElement.scrollWidth") == width
    context.close()
