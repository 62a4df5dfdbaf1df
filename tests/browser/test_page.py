"""The chat page in real Chromium, with the scripted engine: what a person can do on it."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.browser.conftest import sign_in
from tests.support.stack import Stack

SLOW = "@delay-ms 40 @tokens 500"


@pytest.fixture(scope="module")
def stack(scripted_stack: Stack) -> Stack:
    return scripted_stack


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


def test_markdown_is_drawn(page: Page) -> None:
    source = (
        "@say # Title\n\nSome **bold** text.\n\n1. one\n2. two\n\n"
        "| a | b |\n|--|--:|\n| 1 | 2 |\n\n```python\nprint('hello')\n```\n\nEnd."
    )
    answer = ask(page, source)
    done(page)
    expect(answer.get_by_role("heading", name="Title")).to_be_visible()
    expect(answer.get_by_role("listitem")).to_have_text(["one", "two"])
    expect(answer.get_by_role("cell", name="2")).to_have_class("align-right")
    expect(answer.locator(".code")).to_have_attribute("data-language", "python")
    expect(answer.locator(".hljs-string")).to_have_text("'hello'")
    answer.get_by_role("button", name="Copy code").click()
    assert page.evaluate("navigator.clipboard.readText()") == "print('hello')\n"
    page.get_by_role("button", name="Copy", exact=True).last.click()
    assert page.evaluate("navigator.clipboard.readText()") == source.removeprefix("@say ")


def test_reasoning_and_calls_fold_away(page: Page) -> None:
    reasoning = "\n\n".join(f"step{number}" for number in range(60))
    answer = ask(
        page,
        f"@delay-ms 25 @say <think>\n{reasoning}\n</think>\n\nIt is **42**.\n"
        '<tool_call>{"name": "look_up", "arguments": {"q": "x"}}</tool_call>',
    )
    fold = answer.locator("details.reasoning")
    expect(fold.locator("summary")).to_have_text("Thinking…")
    expect(answer).not_to_contain_text("step")
    fold.locator("summary").focus()
    page.keyboard.press("Enter")
    expect(answer).to_contain_text("step9")
    first = fold.get_by_text("step1", exact=True).element_handle()
    done(page)
    assert first.evaluate("node => node.isConnected"), "finished text was made anew"
    expect(fold.locator("summary")).to_have_text(re.compile(r"Thought for [1-9]s"))
    label = fold.locator("summary").inner_text()
    expect(answer.locator(".answer-body")).to_have_text("It is 42.")
    expect(answer.locator("details.call summary")).to_have_text("Call of the tool look_up")
    expect(answer).not_to_contain_text("tool_call")
    page.get_by_role("button", name="Copy", exact=True).last.click()
    assert page.evaluate("navigator.clipboard.readText()") == "It is **42**."
    expect(page.locator("#live")).not_to_contain_text("step")
    page.reload()
    expect(answer.locator("details.reasoning summary")).to_have_text(label)
    expect(answer).not_to_contain_text("step")


def test_what_a_model_writes_can_do_nothing(page: Page) -> None:
    page.on("dialog", lambda _: pytest.fail("a script ran"))
    answer = ask(
        page,
        "@say <script>alert(1)</script> <img src=x onerror=alert(2)> [a](javascript:alert(3)) "
        '![p](http://elsewhere.example/p.png) <b style="color:red">b</b>\n\n'
        '```x"><img/src=x/onerror=alert(4)>\ncode\n```\n\n[ok](https://example.org)',
    )
    done(page)
    assert answer.locator("script, img, b, [style], [onerror]").count() == 0
    links = answer.get_by_role("link")
    expect(links).to_have_text(["p", "ok"])
    expect(links.last).to_have_attribute("rel", "noopener noreferrer")
    expect(links.last).to_have_attribute("target", "_blank")


def test_stop_regenerate_and_branches(page: Page) -> None:
    answer = ask(page, SLOW)
    expect(answer).to_contain_text("w5 ")
    page.get_by_role("button", name="Stop").click()
    done(page)
    thread = page.locator("#thread")
    expect(thread).to_contain_text("You stopped this answer.")
    text = answer.inner_text()
    page.get_by_role("button", name="Regenerate").click()
    expect(thread).to_contain_text("2/2")
    page.get_by_role("button", name="Stop").click()
    done(page)
    with page.expect_response("**/chat/conversations/*/"):
        page.get_by_role("button", name="Previous version").click()
    expect(thread).to_contain_text("1/2")
    expect(answer).to_have_text(text)
    page.reload()
    expect(answer).to_have_text(text)


def test_stop_answers_at_once_and_continue_goes_on(page: Page) -> None:
    answer = ask(page, "@tokens 60 @delay-ms 30")
    expect(answer).to_contain_text("w5 ")
    # The page answers within the click, whatever the server is at.
    label = page.evaluate(
        "() => { const send = document.getElementById('send');"
        " send.click(); return send.ariaLabel; }"
    )
    assert label == "Send"
    box(page).fill("@say next")
    expect(page.locator("#thread")).to_contain_text("You stopped this answer.")
    shown = answer.inner_text().split()
    page.get_by_role("button", name="Continue").click()
    expect(page.locator("#thread")).not_to_contain_text("You stopped")
    expect(answer).to_contain_text("w60")
    done(page)
    assert answer.inner_text().split() == [f"w{number}" for number in range(1, 61)]
    assert answer.locator("p").count() == 1
    assert 5 <= len(shown) < 60
    expect(page.get_by_role("button", name="Continue")).to_have_count(0)
    expect(box(page)).to_have_value("@say next")
    page.reload()
    expect(answer).to_contain_text("w60")


def test_what_is_sent_right_after_a_stop_is_taken(page: Page) -> None:
    answer = ask(page, SLOW)
    expect(answer).to_contain_text("w5 ")
    page.evaluate("document.getElementById('send').click()")
    box(page).fill("and now this")
    box(page).press("Enter")
    expect(page.get_by_role("article").last).to_have_text("and now this")
    expect(page.locator("#send-problem")).to_be_hidden()


def test_a_selection_is_quoted(page: Page) -> None:
    answer = ask(page, "@say Some **bold** claim.\n\nAnd another.")
    done(page)
    box(page).fill("Before")
    quote = page.get_by_role("button", name="Quote")
    expect(quote).to_be_hidden()
    answer.get_by_text("claim").click(click_count=3)
    quote.click()
    expect(box(page)).to_have_value("Before\n\n> Some bold claim.\n\n")
    expect(box(page)).to_be_focused()
    expect(quote).to_be_hidden()


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
    page.keyboard.press("ArrowDown")
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


def test_another_tab_sees_the_answer_as_it_is_written(page: Page) -> None:
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
    # Last of all: the page takes the list anew now and then.
    page.locator("#model").evaluate(
        "select => { select.add(new Option('gone')); select.value = 'gone'; }"
    )
    box(page).press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("not installed")
    expect(box(page)).to_have_value("precious words")


def test_too_long_is_told_before_sending(page: Page) -> None:
    box(page).fill("x" * 100_001)
    expect(page.locator("#counter")).to_contain_text("Too long: 100,001 of 100,000")
    expect(page.get_by_role("button", name="Send")).to_be_disabled()
    box(page).fill("x" * 95_000)
    expect(page.locator("#counter")).to_have_text("95,000 / 100,000")


def test_a_conversation_that_is_not_there(page: Page) -> None:
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
    ask(page, "@delay-ms 10 @say " + "Another line of text.\n\n" * 200)
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
    """On http the clipboard interface and `crypto.randomUUID` do not exist."""
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
