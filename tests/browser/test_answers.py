"""Answers in real Chromium: their parts and ends, formulas, notes, tables, and hostile text."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.browser.actions import SLOW, ask, box, conversation, done
from tests.browser.conftest import sign_in
from tests.support.stack import Stack

HOSTILE: list[str] = json.loads((Path(__file__).parent / "hostile.json").read_text())
# No answer may contain these, whatever its text.
FORBIDDEN = (
    "script, iframe, object, embed, img, style, link, meta, base, form, video, audio, "
    "maction, mglyph, animate, [style], [id], [name], [src], [srcdoc], [action]"
)
FIND_BAD = """
article => [...article.querySelectorAll('*')].flatMap(element => [...element.attributes]
  .filter(({name, value}) => /^on/i.test(name)
    || (/href$/i.test(name) && !/^(https?:|#i-)/.test(value)))
  .map(({name, value}) => `${element.tagName} ${name}=${value}`))
"""
WATCH = """
window.found = [];
window.pwned = number => window.found.push(`ran ${number}`);
addEventListener('securitypolicyviolation',
  event => window.found.push(`${event.violatedDirective} ${event.blockedURI} ${event.sample}`));
"""


@pytest.fixture(scope="module")
def stack(scripted_stack: Stack) -> Stack:
    return scripted_stack


@pytest.fixture
def watched(browser: Browser, stack: Stack, person: str) -> Iterator[Page]:
    context = browser.new_context(base_url=stack.url, locale="en-US")
    context.add_init_script(WATCH)
    page = context.new_page()
    elsewhere: list[str] = []
    page.on("dialog", lambda dialog: pytest.fail(f"a dialog: {dialog.message}"))
    page.on(
        "request",
        lambda request: (
            None if request.url.startswith(stack.url) else elsewhere.append(request.url)
        ),
    )
    sign_in(page, person)
    yield page
    assert page.evaluate("window.found") == []
    assert elsewhere == []
    context.close()


def assert_harmless(answers: Locator) -> None:
    assert answers.locator(FORBIDDEN).count() == 0
    found: list[Any] = answers.evaluate_all(f"all => all.flatMap({FIND_BAD})")
    assert found == []


@pytest.mark.parametrize("first", range(0, len(HOSTILE), 10))
def test_sixty_hostile_texts_do_nothing(
    watched: Page, stack: Stack, person: str, first: int
) -> None:
    texts = HOSTILE[first : first + 10]
    watched.goto(f"/c/{conversation(stack, person, texts)}/")
    answers = watched.get_by_role("article")
    expect(answers).to_have_count(len(texts))
    expect(answers.locator(".plain")).to_have_count(0)
    for fold in answers.locator("summary").all():
        fold.click()
    for button in answers.get_by_role("button").all():
        button.dispatch_event("mouseover")
        button.click()
    watched.wait_for_load_state("networkidle")
    assert_harmless(answers)


def test_sixty_hostile_texts_do_nothing_while_streaming(watched: Page) -> None:
    text = "\n\n".join(snippet for snippet in HOSTILE if "```" not in snippet)
    watched.get_by_role("textbox", name="Message").fill(f"@say {text}\n\nThe end.")
    watched.keyboard.press("Enter")
    expect(watched.get_by_role("article")).to_contain_text("The end.")
    expect(watched.get_by_role("button", name="Send")).to_be_visible()
    assert_harmless(watched.get_by_role("article"))


RICH = """Euler: $e^{i\\pi}+1=0$ costs $5.[^1]

$$
\\int_0^1 x\\,dx = \\frac{1}{2}
$$

- [x] done
- [ ] not yet

| a | b |
|---|---|
| 1 | 2 |

شكرا لك على كل شيء

> شكرا

- شكرا
- two

```python
print("hi")
```

[^1]: The *note*.
"""


def test_formulas_notes_tasks_and_other_directions(page: Page, stack: Stack, person: str) -> None:
    page.goto(f"/c/{conversation(stack, person, [RICH])}/")
    answer = page.get_by_role("article")
    expect(answer.locator("math")).to_have_count(2)
    expect(answer.locator("math[display=block] mfrac")).to_have_count(1)
    expect(answer.locator("p").first).to_contain_text("costs $5.")
    boxes = answer.get_by_role("checkbox")
    expect(boxes.first).to_be_checked()
    expect(boxes.last).not_to_be_checked()
    for block in ("p:has-text('شكرا لك')", "blockquote", "ul:has-text('شكرا')"):
        direction = answer.locator(block).evaluate("node => getComputedStyle(node).direction")
        assert direction == "rtl", block
    answer.get_by_role("button", name="Footnote 1", exact=True).press("Enter")
    expect(answer.locator(".footnote")).to_be_focused()
    expect(answer.locator(".footnote em")).to_have_text("note")
    answer.get_by_role("button", name="Back to footnote 1 in the text").press("Enter")
    expect(answer.get_by_role("button", name="Footnote 1", exact=True)).to_be_focused()


def test_wide_content_scrolls_by_itself(page: Page, stack: Stack, person: str) -> None:
    row = "|".join(f" column{number} " for number in range(30))
    rule = "|".join("---" for _ in range(30))
    wide = (
        f"|{row}|\n|{rule}|\n|{row}|\n\n```\n{'x' * 4000}\n```\n\n{'y' * 4000}\n\n$${'a+' * 300}b$$"
    )
    page.goto(f"/c/{conversation(stack, person, [wide])}/")
    page.set_viewport_size({"width": 390, "height": 844})
    expect(page.locator("math")).to_have_count(1)
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    assert page.locator("#scroll").evaluate("node => node.scrollWidth - node.clientWidth") == 0
    for part in ("div.table", ".code pre", ".math.display"):
        box = page.locator(part)
        assert box.evaluate("node => node.scrollWidth > node.clientWidth"), part
        if part != ".math.display":
            box.focus()
            expect(box).to_be_focused()


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


def test_long_code_stays_in_place_while_it_grows(page: Page) -> None:
    code = "".join(f"def f{number}(x):\n    return x + {number}\n" for number in range(100))
    answer = ask(page, f"@delay-ms 2 @say ```python\n{code}```\n\nEnd.")
    first = answer.locator(".part").first.element_handle()
    done(page)
    assert first.evaluate("node => node.isConnected"), "the block was created again"
    assert first.evaluate("node => node.parentElement.children.length") > 1
    assert answer.locator("code").text_content() == code
    expect(answer.locator(".hljs-title")).to_have_count(100)
    expect(answer.locator("p")).to_have_text("End.")


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
    assert first.evaluate("node => node.isConnected"), "finished text was created again"
    expect(fold.locator("summary")).to_have_text(re.compile(r"Thought for [1-9]\d*s"))
    label = fold.locator("summary").inner_text()
    expect(answer.locator(".answer-body")).to_have_text("It is 42.")
    expect(answer.locator("details.call summary")).to_have_text("Tool call: look_up")
    expect(answer).not_to_contain_text("tool_call")
    page.get_by_role("button", name="Copy", exact=True).last.click()
    assert page.evaluate("navigator.clipboard.readText()") == "It is **42**."
    expect(page.locator("#live")).not_to_contain_text("step")
    page.reload()
    expect(answer.locator("details.reasoning summary")).to_have_text(label)
    expect(answer).not_to_contain_text("step")


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


def test_stop_responds_immediately_and_continue_resumes(page: Page) -> None:
    answer = ask(page, "@tokens 60 @delay-ms 100")
    expect(answer).to_contain_text("w5 ")
    # The page responds within the click, whatever the server is doing.
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


def test_a_message_sent_right_after_a_stop_is_accepted(page: Page) -> None:
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


# Scrolls to the first rendered message repeatedly; returns how far each moved when others were
# inserted above it.
SCROLL_UP = """async (scroll, rounds) => {
  const frame = () => new Promise(requestAnimationFrame);
  const moved = [];
  for (let round = 0; round < rounds; round += 1) {
    const count = document.querySelectorAll('article').length;
    const first = document.querySelector('.turn');
    scroll.scrollTop += first.getBoundingClientRect().top - scroll.getBoundingClientRect().top - 50;
    const before = first.getBoundingClientRect().top;
    while (document.querySelectorAll('article').length === count) await frame();
    await frame();
    moved.push(first.getBoundingClientRect().top - before);
  }
  return moved;
}"""


def test_a_long_conversation_is_rendered_as_far_as_it_is_scrolled(
    page: Page, stack: Stack, person: str
) -> None:
    answers = [f"Answer {number}.\n\n" + "Some words. " * 60 for number in range(500)]
    id = conversation(stack, person, answers)
    page.goto(f"/c/{id}/")
    articles = page.get_by_role("article")
    expect(articles.last).to_contain_text("Answer 499.")
    assert articles.count() < 40
    scroll = page.locator("#scroll")
    moved: list[float] = scroll.evaluate(SCROLL_UP, 12)
    # The browser rounds positions to whole pixels, in each of several steps.
    assert max(map(abs, moved)) < 6, moved
    assert articles.count() > 45
    page.get_by_role("button", name="Jump to latest").click()
    expect(articles.last).to_be_in_viewport()
    page.reload()
    expect(articles.last).to_contain_text("Answer 499.")
    scroll.evaluate("node => node.scrollTop = 0")
    expect(articles.filter(has_text="Answer 488.")).to_have_count(1)
