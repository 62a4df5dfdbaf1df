"""What models write, rendered in real Chromium: formulas, notes, tables, and what is hostile."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.browser.conftest import sign_in
from tests.support.stack import Stack

HOSTILE: list[str] = json.loads((Path(__file__).parent / "hostile.json").read_text())
# What no answer may contain, whatever its text.
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


def conversation(stack: Stack, person: str, answers: list[str]) -> str:
    """Saves a conversation with these answers, as if a reasoning model had given them."""
    code = (
        "import json, sys\n"
        "from tests.support.conversations import write\n"
        f"print(write({person!r}, json.load(sys.stdin)))"
    )
    made = stack.manage("shell", "--verbosity", "0", "-c", code, stdin=json.dumps(answers))
    return made.stdout.strip()


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


@pytest.mark.parametrize("first", range(0, len(HOSTILE), 15))
def test_sixty_hostile_texts_do_nothing(
    watched: Page, stack: Stack, person: str, first: int
) -> None:
    texts = HOSTILE[first : first + 15]
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


def test_nor_while_they_are_streamed(watched: Page) -> None:
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
    arabic = answer.get_by_text("شكرا")
    assert arabic.evaluate("node => getComputedStyle(node).direction") == "rtl"
    answer.get_by_role("button", name="Footnote 1", exact=True).press("Enter")
    expect(answer.locator(".footnote")).to_be_focused()
    expect(answer.locator(".footnote em")).to_have_text("note")
    answer.get_by_role("button", name="Back to footnote 1 in the text").press("Enter")
    expect(answer.get_by_role("button", name="Footnote 1", exact=True)).to_be_focused()


def test_what_is_wide_scrolls_by_itself(page: Page, stack: Stack, person: str) -> None:
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
