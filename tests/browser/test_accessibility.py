"""axe-core on every page, in both themes; and the page by keyboard alone."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.actions import SLOW, conversation
from tests.browser.axe import violations_in_both_themes as violations
from tests.browser.conftest import sign_in
from tests.support.stack import Stack


@pytest.fixture(scope="module")
def stack(scripted_stack: Stack) -> Stack:
    return scripted_stack


def test_axe_finds_nothing(browser: Browser, stack: Stack, person: str) -> None:
    context = browser.new_context(base_url=stack.url, reduced_motion="reduce", locale="en-US")
    page = context.new_page()
    for address in ("/accounts/login/", "/setup/wrong/", "/nowhere/"):
        page.goto(address)
        assert violations(page) == [], address
    sign_in(page, person)
    assert violations(page) == []
    for address in ("/accounts/logout/", "/accounts/password/change/"):
        page.goto(address)
        assert violations(page) == [], address
    page.goto("/")
    page.get_by_role("textbox", name="Message").fill(
        "@say # T\n\n- [x] a\n\n| a | b |\n|--|--|\n| 1 | 2 |\n\n"
        "```python\ndef f(): return 'x' # y\n```\n\n> quoted [link](https://example.org)"
    )
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Send")).to_be_visible()
    expect(page.locator(".hljs-comment")).to_be_visible()
    assert violations(page) == []
    page.get_by_role("button", name="Options").first.click()
    assert violations(page) == []
    page.get_by_role("menuitem", name="Delete").click()
    assert violations(page) == []
    page.keyboard.press("Escape")
    page.get_by_role("button", name=person).click()
    assert violations(page) == []
    context.close()


def test_by_keyboard_alone(page: Page) -> None:
    expect(page.get_by_role("textbox", name="Message")).to_be_focused()
    page.keyboard.type("hello keyboard")
    page.keyboard.press("Enter")
    expect(page.get_by_role("article")).to_have_text("hello keyboard")
    for _ in range(12):
        page.keyboard.press("Shift+Tab")
        expect(page.locator(":focus")).to_be_visible()
    page.locator(".skip").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("textbox", name="Message")).to_be_focused()
    page.keyboard.press("Shift+Tab")
    expect(page.locator(":focus")).to_be_visible()


def cookies(stack: Stack, person: str) -> list[Any]:
    pairs = (pair.split("=", 1) for pair in stack.sign_in(person).split("; "))
    return [{"name": name, "value": value, "url": stack.url} for name, value in pairs]


RICH = """<think>
Let me *see*.
</think>

# Sum

Euler: $e^{i\\pi}+1=0$[^1] and a very long line of code:

```python
print("LONG")  # yes
```

| a | b |
|---|---|
| 1 | 2 |

- [x] done
- [ ] not yet

> \u0634\u0643\u0631\u0627 [link](https://example.org)

<tool_call>{"name": "look_up", "arguments": {"q": "x"}}</tool_call>

[^1]: The note.
""".replace("LONG", "x" * 400)


@pytest.mark.parametrize("language", ["en-US", "zh-CN"])
def test_axe_finds_nothing_in_answers(
    browser: Browser, stack: Stack, person: str, language: str
) -> None:
    """Every part of an answer, each way it can end, and what is above the page."""
    id = conversation(stack, person, [RICH, "One.", "Half of"], cut="length")
    context = browser.new_context(base_url=stack.url, reduced_motion="reduce", locale=language)
    context.add_cookies(cookies(stack, person))
    page = context.new_page()
    page.goto(f"/c/{id}/")
    expect(page.locator("html")).to_have_attribute("lang", "zh-hans" if "zh" in language else "en")
    expect(page.locator("math")).to_have_count(1)
    expect(page.locator(".hljs-comment")).to_be_visible()
    expect(page.locator(".notice.note button")).to_be_visible()
    assert violations(page) == [], "folded"
    for fold in page.locator("details.fold > summary").all():
        fold.press("Enter")
    expect(page.locator("details.reasoning em")).to_be_visible()
    page.get_by_text("Half of").click(click_count=3)
    expect(page.locator("button.quote")).to_be_visible()
    assert violations(page) == [], "opened, and a selection"
    page.keyboard.press("Control+k")
    expect(page.locator("#palette-list [role=option]").first).to_be_visible()
    assert violations(page) == [], "palette"
    page.keyboard.press("Escape")
    page.keyboard.press("Control+/")
    expect(page.locator("dialog.shortcuts")).to_be_visible()
    assert violations(page) == [], "shortcuts"
    page.keyboard.press("Escape")
    page.set_viewport_size({"width": 390, "height": 844})
    assert violations(page) == [], "phone"
    page.locator("#message").fill("@delay-ms 40 @say <think>\nHm. " + "word " * 200)
    page.keyboard.press("Enter")
    expect(page.locator("details.running")).to_be_visible()
    assert violations(page) == [], "thinking"
    page.keyboard.press("Escape")
    expect(page.locator("details.running")).to_have_count(0)
    context.close()


def test_the_text_is_printed(page: Page, stack: Stack, person: str) -> None:
    page.goto(f"/c/{conversation(stack, person, [RICH])}/")
    expect(page.locator("math")).to_have_count(1)
    page.emulate_media(media="print")
    for part in ("#composer", "#sidebar", ".actions", ".copy-code", "#new-chat-top"):
        expect(page.locator(part).first).to_be_hidden()
    expect(page.get_by_role("article")).to_be_visible()
    assert page.locator("#scroll").evaluate("node => node.scrollHeight - node.clientHeight") <= 1


def test_a_long_conversation_is_printed_whole(page: Page, stack: Stack, person: str) -> None:
    answers = [f"Answer {number}." for number in range(60)]
    page.goto(f"/c/{conversation(stack, person, answers)}/")
    articles = page.get_by_role("article")
    expect(articles.last).to_contain_text("Answer 59.")
    page.evaluate("() => { window.print = () => { document.body.dataset.printed = 'yes'; }; }")
    page.keyboard.press("Control+p")
    expect(page.locator("body")).to_have_attribute("data-printed", "yes")
    expect(articles).to_have_count(60)


def test_motion_is_reduced_on_request(browser: Browser, stack: Stack, person: str) -> None:
    context = browser.new_context(
        base_url=stack.url,
        reduced_motion="reduce",
    )
    context.add_cookies(cookies(stack, person))
    page = context.new_page()
    page.goto("/")
    page.locator("#message").fill(SLOW)
    page.keyboard.press("Enter")
    expect(page.locator(".streaming")).to_be_visible()
    moving = "document.getAnimations().filter(a => a.effect.getTiming().iterations === Infinity)"
    assert page.evaluate(f"{moving}.length") == 0
    page.keyboard.press("Escape")
    context.close()
