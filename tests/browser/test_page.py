"""The chat page in real Chromium, with the scripted engine: what a user can do on it."""

from __future__ import annotations

import json
import re

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.actions import SLOW, ask, box, done
from tests.browser.conftest import sign_in
from tests.support.stack import Stack


@pytest.fixture(scope="module")
def stack(scripted_stack: Stack) -> Stack:
    return scripted_stack


def test_enter_sends_and_shift_enter_does_not(page: Page) -> None:
    box(page).press_sequentially("one")
    box(page).press("Shift+Enter")
    box(page).press_sequentially("two")
    expect(box(page)).to_have_value("one\ntwo")
    box(page).press("Enter")
    expect(box(page)).to_have_value("")
    expect(box(page)).to_be_focused()
    expect(page.get_by_role("article")).to_have_text("one two")


def test_an_enter_of_an_input_method_does_not_send(page: Page) -> None:
    box(page).fill("你好")
    box(page).dispatch_event("keydown", {"key": "Enter", "isComposing": True, "bubbles": True})
    expect(box(page)).to_have_value("你好")


def test_edit_makes_another_branch(page: Page) -> None:
    ask(page, "first wording")
    done(page)
    page.get_by_role("button", name="Edit").click()
    edited = page.get_by_role("textbox", name="Edited text")
    expect(edited).to_be_focused()
    edited.fill("second wording")
    edited.press("Enter")
    expect(page.get_by_role("article")).to_have_text("second wording")
    page.get_by_role("button", name="Previous version").click()
    expect(page.get_by_role("article")).to_have_text("first wording")


def test_conversations_open_without_reload(page: Page) -> None:
    ask(page, "about apples")
    done(page)
    first = page.url
    page.evaluate("window.stays = true")
    page.get_by_role("button", name="New chat").click()
    expect(box(page)).to_be_focused()
    expect(page.get_by_role("article")).to_have_count(0)
    ask(page, "about pears")
    done(page)
    page.get_by_role("link", name="about apples").first.click()
    expect(page).to_have_url(first)
    expect(page.get_by_role("article")).to_have_text("about apples")
    expect(page).to_have_title(re.compile("about apples"))
    current = page.locator("[aria-current=page]")
    expect(current).to_have_text("about apples")
    page.go_back()
    expect(page.get_by_role("article")).to_have_text("about pears")
    assert page.evaluate("window.stays")


def test_rename_and_delete(page: Page) -> None:
    ask(page, "to be renamed")
    done(page)
    row = page.get_by_role("listitem").filter(has=page.locator("[aria-current=page]"))
    row.get_by_role("button", name="Options").click()
    page.get_by_role("menuitem", name="Rename").click()
    title = page.get_by_role("textbox", name="Title")
    title.fill("A better name")
    title.press("Enter")
    expect(row.get_by_role("link")).to_have_text("A better name")
    expect(page.get_by_role("heading", name="A better name")).to_be_visible()
    row.get_by_role("button", name="Options").click()
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("A better name")
    page.keyboard.press("Escape")
    expect(row.get_by_role("link")).to_have_text("A better name")
    row.get_by_role("button", name="Options").click()
    page.get_by_role("menuitem", name="Delete").click()
    dialog.get_by_role("button", name="Delete").click()
    expect(page.get_by_role("link", name="A better name")).to_have_count(0)
    expect(page).to_have_url(re.compile("/$"))


def test_another_tab_sees_the_answer_stream(page: Page) -> None:
    ask(page, "hello there")
    done(page)
    other = page.context.new_page()
    other.goto(page.url)
    expect(other.get_by_role("article")).to_have_text("hello there")
    ask(page, SLOW)
    expect(other.get_by_role("article").last).to_contain_text("w5 ")
    other.get_by_role("button", name="Stop").click()
    done(page)
    done(other)
    same = page.get_by_role("article").last.inner_text()
    expect(other.get_by_role("article").last).to_have_text(same)


def test_a_draft_is_kept_per_conversation(page: Page) -> None:
    ask(page, "with a draft")
    done(page)
    box(page).fill("unfinished thought")
    page.get_by_role("button", name="New chat").click()
    expect(box(page)).to_have_value("")
    page.get_by_role("link", name="with a draft").first.click()
    expect(box(page)).to_have_value("unfinished thought")
    page.reload()
    expect(box(page)).to_have_value("unfinished thought")


def test_a_refused_message_returns_to_the_box(page: Page) -> None:
    box(page).fill("precious words")
    # Last, because the page refreshes the list now and then.
    page.locator("#model").evaluate(
        "select => { select.add(new Option('gone')); select.value = 'gone'; }"
    )
    box(page).press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("not installed")
    expect(box(page)).to_have_value("precious words")


def test_a_message_too_long_is_reported_before_sending(page: Page) -> None:
    box(page).fill("x" * 100_001)
    expect(page.locator("#counter")).to_contain_text("Too long: 100,001 of 100,000")
    expect(page.get_by_role("button", name="Send")).to_be_disabled()
    box(page).fill("x" * 95_000)
    expect(page.locator("#counter")).to_have_text("95,000 / 100,000")


def test_a_missing_conversation(page: Page) -> None:
    response = page.goto("/c/00000000-0000-4000-8000-000000000000/")
    assert response
    assert response.status == 404
    expect(page.get_by_role("alert")).to_contain_text("does not exist")
    page.get_by_role("button", name="Start another conversation").click()
    expect(box(page)).to_be_focused()


def test_signed_out_keeps_the_text(page: Page, stack: Stack, person: str) -> None:
    box(page).fill("not lost")
    stack.end_sessions(person)
    box(page).press("Enter")
    expect(page.get_by_role("link", name="Sign in")).to_be_visible()
    expect(box(page)).to_have_value("not lost")
    page.get_by_role("link", name="Sign in").click()
    sign_in(page, person)
    expect(box(page)).to_have_value("not lost")


def test_the_text_is_followed_until_the_reader_scrolls(page: Page) -> None:
    ask(page, "@delay-ms 10 @say " + "Another line of text.\n\n" * 600)
    scroller = page.locator("#scroll")
    jump = page.get_by_role("button", name="Jump to latest")
    distance = "e => e.scrollHeight - e.scrollTop - e.clientHeight"
    expect(page.get_by_role("paragraph").nth(60)).to_be_attached()
    assert scroller.evaluate(distance) < 100
    expect(jump).to_be_hidden()
    scroller.hover()
    page.mouse.wheel(0, -400)
    expect(jump).to_be_visible()
    top = scroller.evaluate("e => e.scrollTop")
    count = page.get_by_role("paragraph").count()
    expect(page.get_by_role("paragraph").nth(count + 20)).to_be_attached()
    assert abs(scroller.evaluate("e => e.scrollTop") - top) < 5
    jump.click()
    expect(jump).to_be_hidden()
    page.get_by_role("button", name="Stop").click()


def test_sentences_are_announced_whole(page: Page) -> None:
    ask(page, "@delay-ms 5 @say One sentence. And **two** of them. The rest")
    done(page)
    live = page.locator("#live p")
    expect(live).to_contain_text(["One sentence.", "And two of them.", "The rest"])
    assert page.locator("#live").get_attribute("aria-live") == "polite"


def test_the_theme_is_chosen_and_kept(page: Page, person: str) -> None:
    page.get_by_role("button", name=person).click()
    page.get_by_text("Dark", exact=True).click()
    page.reload()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")


def test_chinese(page: Page, person: str) -> None:
    page.get_by_role("button", name=person).click()
    page.get_by_role("button", name="简体中文").click()
    expect(page.locator("html")).to_have_attribute("lang", "zh-hans")
    expect(page.get_by_role("button", name="新对话")).to_be_visible()
    expect(page.get_by_role("textbox", name="消息")).to_be_visible()
    page.get_by_role("button", name=person).click()
    page.get_by_role("button", name="English").click()
    expect(page.get_by_role("button", name="New chat")).to_be_visible()


def test_the_list_folds_and_on_a_phone_it_is_a_drawer(page: Page) -> None:
    page.get_by_role("button", name="Hide conversations").click()
    expect(page.get_by_role("button", name="New chat")).to_have_count(1)
    page.reload()
    expect(page.get_by_role("button", name="Show conversations")).to_be_visible()
    page.get_by_role("button", name="Show conversations").click()
    page.set_viewport_size({"width": 390, "height": 844})
    expect(page.get_by_role("navigation")).to_have_count(0)
    page.get_by_role("button", name="Show conversations").click()
    expect(page.get_by_role("navigation")).to_be_visible()
    expect(page.get_by_role("button", name="New chat")).to_have_count(1)
    page.keyboard.press("Escape")
    expect(page.get_by_role("button", name="Show conversations")).to_be_focused()
    width = page.evaluate("document.documentElement.scrollWidth")
    assert width == 390


def test_a_plain_address_can_copy_too(browser: Browser, stack: Stack, person: str) -> None:
    """On http the clipboard API and `crypto.randomUUID` do not exist."""
    context = browser.new_context(base_url=stack.url)
    context.add_init_script(
        "Object.defineProperty(navigator, 'clipboard', {value: undefined});"
        "Object.defineProperty(crypto, 'randomUUID', {value: undefined});"
    )
    page = context.new_page()
    sign_in(page, person)
    ask(page, "plain words")
    done(page)
    page.get_by_role("button", name="Copy", exact=True).last.click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    box(page).press("ControlOrMeta+v")
    expect(box(page)).to_have_value("plain words")
    context.close()


def test_the_palette_finds_commands_by_name(page: Page) -> None:
    ask(page, "about quinces")
    done(page)
    page.keyboard.press("Control+Shift+o")
    expect(page).to_have_url(re.compile("/$"))
    expect(box(page)).to_be_focused()
    page.keyboard.press("Control+k")
    palette = page.get_by_role("dialog")
    field = palette.get_by_role("combobox")
    expect(field).to_be_focused()
    page.keyboard.type("quinc")
    expect(palette.get_by_role("option", name="about quinces")).to_have_count(1)
    page.keyboard.press("Enter")
    expect(page.get_by_role("article")).to_have_text("about quinces")
    page.keyboard.press("Control+k")
    page.keyboard.type("dark")
    page.keyboard.press("Enter")
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    page.keyboard.press("Control+k")
    page.keyboard.type("nothing like it")
    expect(palette.get_by_text("Nothing found")).to_be_visible()
    page.keyboard.press("Escape")
    expect(palette).to_have_count(0)
    page.keyboard.press("Control+k")
    page.keyboard.type("smollm2")
    expect(palette.get_by_role("option", name="smollm2:135m")).to_have_count(1)
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Enter")
    page.keyboard.press("Control+k")
    page.keyboard.type("中文")
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="新对话")).to_be_visible()
    page.keyboard.press("Control+k")
    expect(page.get_by_role("option", name="键盘快捷键")).to_have_count(1)
    page.keyboard.type("english")
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="New chat")).to_be_visible()


def test_shortcuts_and_their_sheet(page: Page) -> None:
    box(page).press_sequentially("?")
    expect(box(page)).to_have_value("?")
    page.locator("#scroll").focus()
    page.keyboard.press("?")
    sheet = page.get_by_role("dialog", name="Keyboard shortcuts")
    expect(sheet).to_contain_text("New chat")
    expect(sheet.get_by_role("button", name="Close")).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.locator("#scroll")).to_be_focused()
    page.keyboard.press("Shift+Escape")
    expect(box(page)).to_be_focused()
    ask(page, SLOW)
    page.keyboard.press("Escape")
    done(page)
    expect(page.locator("#thread")).to_contain_text("You stopped this answer.")
    page.keyboard.press("Control+Shift+c")
    assert str(page.evaluate("navigator.clipboard.readText()")).startswith("w1")
    page.keyboard.press("Control+ArrowUp")
    edited = page.get_by_role("textbox", name="Edited text")
    expect(edited).to_be_focused()
    edited.fill("instead")
    page.keyboard.press("Enter")
    expect(page.get_by_role("article")).to_have_text("instead")
    expect(box(page)).to_be_focused()
    page.get_by_role("button", name="Previous version").press("Enter")
    expect(page.get_by_role("button", name="Next version")).to_be_focused()
    page.keyboard.press("Control+Shift+s")
    expect(page.get_by_role("button", name="Show conversations")).to_be_focused()


def test_the_page_can_be_installed(page: Page) -> None:
    client = page.context.new_cdp_session(page)
    manifest = client.send("Page.getAppManifest")
    assert manifest["errors"] == []
    icons = json.loads(manifest["data"])["icons"]
    for icon in icons:
        response = page.request.get(icon["src"])
        assert response.ok
        assert response.headers["content-type"] == icon["type"]
    # A private window can't install anything; that must be the only obstacle.
    errors = client.send("Page.getInstallabilityErrors")["installabilityErrors"]
    assert {error["errorId"] for error in errors} <= {"in-incognito"}
