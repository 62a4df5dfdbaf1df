"""What goes to the model besides the message: how full its context is, and what is left out."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Browser, FilePayload, Page, expect

from tests.browser.actions import ask, attached, box, chip, done, give
from tests.browser.axe import violations_in_both_themes as violations
from tests.support.documents import pdf
from tests.support.stack import PASSWORD, Stack


@pytest.fixture(scope="module")
def stack(scripted_stack: Stack) -> Stack:
    return scripted_stack


def words(word: str, count: int) -> str:
    """Return that many different words: a repetitive answer would be ended."""
    return " ".join(f"{word}{number}" for number in range(count))


def test_the_gauge_counts_before_anything_is_sent(page: Page) -> None:
    gauge = page.get_by_role("button", name="Context:")
    expect(gauge).to_have_accessible_name(re.compile(r"^Context: \d+%, \d+ of 4,096 tokens$"))
    box(page).fill("word" + " word" * 1999)
    expect(gauge).to_have_accessible_name(re.compile(r"^Context: \d+%, 2,0\d\d of 4,096 tokens$"))
    gauge.click()
    panel = page.get_by_role("dialog", name="Context used")
    expect(panel.locator("div", has_text="This message").last).to_contain_text("2,000")
    expect(panel).to_contain_text("Left for the answer")
    page.keyboard.press("Escape")
    expect(gauge).to_be_focused()
    box(page).fill("")
    expect(gauge).to_have_accessible_name(re.compile(r"^Context: \d+%, \d\d of"))


def test_overflow_is_a_choice_and_omitted_turns_are_marked(page: Page) -> None:
    ask(page, "@say fine " + words("first", 1200))
    done(page)
    second = words("second", 1800)
    box(page).fill(second)
    choice = page.get_by_role("status").filter(has_text="context of 4,096 tokens")
    expect(choice).to_be_visible()
    box(page).press("Enter")
    expect(box(page)).to_have_value(second)
    leave_out = choice.get_by_role("button", name="Leave out the oldest messages")
    expect(leave_out).to_be_focused()
    leave_out.click()
    expect(choice).to_be_hidden()
    box(page).press("Enter")
    mark = page.get_by_text("Messages above this line are no longer sent to the model.")
    expect(mark).to_be_visible()
    expect(page.locator(".turn", has=mark)).to_contain_text("second")
    page.reload()
    expect(mark).to_be_visible()
    page.get_by_role("button", name="Context:").click()
    expect(page.get_by_role("checkbox", name="leave out the oldest")).to_be_checked()


def test_a_draft_may_go_to_a_new_chat_instead(page: Page) -> None:
    ask(page, "@say fine " + words("first", 1200))
    done(page)
    draft = words("second", 1800)
    box(page).fill(draft)
    page.get_by_role("button", name="Start a new chat").click()
    expect(page).to_have_url(re.compile("/$"))
    expect(box(page)).to_have_value(draft)
    expect(page.get_by_role("button", name="Start a new chat")).to_be_hidden()


def test_documents_go_with_a_message(page: Page) -> None:
    chips = page.get_by_role("list", name="Attachments")
    give(page, ("facts.pdf", pdf("Cats sleep a lot.")))
    give(page, ("big.txt", b"word " * 1_200_000))
    first = chips.get_by_role("listitem").first
    expect(first).to_contain_text(re.compile(r"facts\.pdf.* · \d+ tokens"))
    # More than one part, and more text than allowed.
    expect(page.get_by_role("alert")).to_contain_text("This file is too long: more than 5,000,000")
    expect(chips.get_by_role("listitem")).to_have_count(2)
    page.get_by_role("button", name="Remove big.txt").click()
    give(page, ("notes.md", b"# Notes"))
    expect(chips.get_by_role("listitem")).to_have_count(2)
    gauge = page.get_by_role("button", name="Context:")
    gauge.click()
    expect(page.get_by_role("dialog", name="Context used")).to_contain_text("Attachments")
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Remove notes.md").click()
    expect(box(page)).to_be_focused()
    page.reload()
    expect(chips.get_by_role("listitem")).to_have_count(1)
    ask(page, "@say They do.")
    done(page)
    sent = page.locator(".turn.user")
    expect(sent.get_by_role("listitem")).to_contain_text("facts.pdf")
    expect(page.locator("#files")).to_be_hidden()
    page.get_by_role("button", name="Edit").click()
    page.get_by_role("textbox", name="Edited text").fill("@say They really do.")
    page.get_by_role("button", name="Ask again").click()
    expect(page.get_by_role("article")).to_have_text("They really do.")
    page.reload()
    sent.get_by_role("button", name="facts.pdf").click()
    document = page.get_by_role("dialog", name="facts.pdf")
    expect(document).to_contain_text("Cats sleep a lot.")
    page.keyboard.press("Escape")
    expect(document).to_be_hidden()


def test_an_edit_keeps_the_draft_and_may_change_the_files(page: Page) -> None:
    for name in ("first.txt", "second.txt"):
        give(page, (name, b"Some text"))
        attached(page, name)
    ask(page, "@say one")
    done(page)
    page.get_by_role("button", name="Edit").click()
    editor = page.locator("form.edit")
    chips = editor.get_by_role("listitem")
    expect(chips).to_have_count(2)
    editor.get_by_role("button", name="Remove first.txt").click()
    third = FilePayload(name="third.txt", mimeType="text/plain", buffer=b"More text")
    editor.locator("input[type=file]").set_input_files([third])
    expect(chips.filter(has_text="third.txt")).to_contain_text("tokens")
    editor.get_by_role("textbox").fill("@say two")
    page.reload()
    expect(editor.get_by_role("textbox")).to_have_value("@say two")
    expect(chips).to_have_text([re.compile("second"), re.compile("third")])
    editor.get_by_role("textbox").press("Enter")
    expect(page.get_by_role("article")).to_have_text("two")
    sent = page.locator(".turn.user").get_by_role("listitem")
    expect(sent).to_have_text([re.compile("second"), re.compile("third")])
    page.get_by_role("button", name="Previous version").click()
    expect(sent).to_have_text([re.compile("first"), re.compile("second")])
    # Cancelling restores the message, and the focus where it was.
    page.get_by_role("button", name="Edit").click()
    editor.get_by_role("button", name="Remove first.txt").click()
    page.keyboard.press("Escape")
    expect(page.get_by_role("button", name="Edit")).to_be_focused()
    expect(sent).to_have_count(2)
    page.reload()
    expect(page.get_by_role("article")).to_have_text("one")
    expect(editor).to_have_count(0)


def test_files_can_be_dropped_and_pasted(page: Page) -> None:
    transfer = page.evaluate_handle(
        "name => { const data = new DataTransfer();"
        " data.items.add(new File(['Some text'], 'dropped.txt')); return data; }"
    )
    area = page.get_by_text("Drop files here")
    page.dispatch_event("#thread", "dragenter", {"dataTransfer": transfer})
    expect(area).to_be_visible()
    page.dispatch_event("#drop", "drop", {"dataTransfer": transfer})
    expect(area).to_be_hidden()
    chips = page.get_by_role("list", name="Attachments")
    attached(page, "dropped.txt")
    box(page).evaluate(
        "box => { const data = new DataTransfer();"
        " data.items.add(new File(['More'], 'pasted.txt'));"
        " box.dispatchEvent(new ClipboardEvent('paste', {clipboardData: data, bubbles: true})); }"
    )
    expect(chips.get_by_role("listitem")).to_have_count(2)
    attached(page, "pasted.txt")
    give(page, ("photo.png", b"\x89PNG\x00"))
    expect(page.get_by_role("alert")).to_contain_text("This file type")
    expect(chip(page, "photo.png")).to_have_class(re.compile("refused"))
    box(page).press("Enter")
    page.get_by_role("button", name="Send without it").click()
    expect(page.get_by_role("article")).to_be_visible()
    expect(page.locator(".turn.user").get_by_role("listitem")).to_have_count(2)


def test_an_assistant_is_made_chosen_and_kept(page: Page, person: str) -> None:
    page.get_by_role("button", name=person).click()
    page.get_by_role("link", name="My assistants").click()
    page.get_by_label("Name").fill("Pirate")
    page.get_by_label("Icon").fill("P")
    page.get_by_label("Instructions").fill("Arr. " * 30)
    page.get_by_label("Temperature").fill("9")
    page.get_by_label("Suggestions").fill("@say Ahoy!\nSing")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("This must be from 0 to 5.")).to_be_visible()
    page.get_by_label("Temperature").fill("1")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("status")).to_contain_text("Pirate was saved.")
    page.get_by_role("link", name="Back to chat").click()
    choice = page.get_by_role("combobox", name="Model")
    choice.select_option("smollm2:135m")
    heading = page.get_by_role("heading", level=1)
    expect(heading).to_have_text("What can I help with?")
    choice.select_option(label="P Pirate")
    expect(heading).to_have_text("P Pirate")
    gauge = page.get_by_role("button", name="Context:")
    gauge.click()
    instructions = page.get_by_role("dialog", name="Context used").get_by_text("Instructions")
    expect(instructions.locator("..")).to_contain_text(re.compile(r"[4-9]\d"))
    page.keyboard.press("Escape")
    page.get_by_role("button", name="@say Ahoy!").click()
    box(page).press("Enter")
    expect(page.get_by_role("article")).to_have_text("Ahoy!")
    expect(page.locator(".figures")).to_contain_text("P Pirate")
    page.get_by_role("button", name="New chat").click()
    choice.select_option("smollm2:135m")
    page.go_back()
    expect(page.get_by_role("article")).to_have_text("Ahoy!")
    expect(choice.locator("option:checked")).to_have_text("P Pirate")


@pytest.fixture(scope="module")
def others(stack: Stack) -> None:
    """Create two more models to choose from."""
    for name in ("second:1b", "third:1b"):
        stack.manage("models", "cp", "smollm2:135m", name)


def test_one_question_to_several_models(page: Page, others: None) -> None:
    page.reload()
    page.get_by_role("button", name="Compare with other models").click()
    panel = page.get_by_role("dialog", name="Compare answers")
    panel.get_by_label("second:1b").check()
    panel.get_by_label("third:1b").check()
    for box_left in panel.locator("input:not(:checked)").all():
        expect(box_left).to_be_disabled()
    page.keyboard.press("Escape")
    expect(page.get_by_role("button", name="Compare with second:1b, third:1b")).to_be_visible()
    box(page).fill("@delay-ms 10 @tokens 30")
    box(page).press("Enter")
    side_by_side = page.get_by_role("dialog", name="Answers side by side")
    columns = side_by_side.locator(".column")
    expect(columns).to_have_count(3)
    for name in ("SmolLM2 135M", "second:1b", "third:1b"):
        column = side_by_side.get_by_role("region", name=name)
        expect(column.get_by_role("article")).to_contain_text("w1 w2")
        expect(column).to_contain_text("30 tokens")
        expect(column).to_contain_text("Time to first token")
        expect(column).to_contain_text("Tokens/s")
    second = side_by_side.get_by_role("region", name="second:1b")
    second.get_by_role("button", name="Continue with this answer").click()
    expect(side_by_side).to_be_hidden()
    expect(box(page)).to_be_focused()
    expect(page.locator(".figures")).to_contain_text("second:1b")
    expect(page.locator("#thread")).to_contain_text("2/3")
    page.reload()
    expect(page.locator(".figures")).to_contain_text("second:1b")
    page.get_by_role("button", name="Compare the versions side by side").click()
    expect(columns).to_have_count(3)
    for column in columns.all():
        expect(column.get_by_role("article")).to_contain_text("w1 w2")
    page.get_by_role("button", name="Close").click()
    expect(side_by_side).to_be_hidden()


def test_a_comparison_can_be_stopped(page: Page, others: None) -> None:
    page.reload()
    page.get_by_role("button", name="Compare with other models").click()
    page.get_by_role("dialog", name="Compare answers").get_by_label("second:1b").check()
    page.keyboard.press("Escape")
    box(page).fill("@delay-ms 40 @tokens 900")
    box(page).press("Enter")
    columns = page.locator(".column")
    for column in (columns.first, columns.last):
        expect(column).to_contain_text("w2 ")
    page.get_by_role("button", name="Stop all").click()
    for column in (columns.first, columns.last):
        expect(column).to_contain_text("You stopped this answer.")
    expect(page.get_by_role("button", name="Stop all")).to_be_hidden()


@pytest.mark.parametrize("language", ["en-US", "zh-CN"])
def test_axe_finds_nothing(
    browser: Browser, stack: Stack, person: str, others: None, language: str
) -> None:
    """On a phone nothing is wider than the screen, either."""
    context = browser.new_context(
        base_url=stack.url,
        reduced_motion="reduce",
        locale=language,
        viewport={"width": 390, "height": 844},
    )
    page = context.new_page()
    page.goto("/accounts/login/")
    page.locator("[name=login]").fill(person)
    page.locator("[name=password]").fill(PASSWORD)
    page.keyboard.press("Enter")
    page.wait_for_url("**/")

    def check(what: str) -> None:
        assert violations(page) == [], what
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, what

    message = page.locator("#message")
    expect(page.locator("#gauge")).to_be_visible()
    give(page, ("a rather long name of a file that does not fit.md", b"# Words"))
    give(page, ("photo.png", b"\x89PNG\x00"))
    expect(page.locator("#files li.refused")).to_be_visible()
    expect(page.locator("#files li")).to_have_count(2)
    attached(page, "a rather long name")
    check("attachments")
    page.locator("#files .refused button").click()
    message.fill("word " * 5000)
    expect(page.locator("#context-problem")).to_be_visible()
    page.locator("#gauge").click()
    check("gauge")
    page.keyboard.press("Escape")
    page.locator("#compare").click()
    page.locator("#compare-list input").first.check()
    check("choice of rivals")
    page.keyboard.press("Escape")
    message.fill("@say # Title\n\nSome `text`.")
    message.press("Enter")
    expect(page.locator(".column .button")).to_have_count(2)
    check("comparison")
    page.keyboard.press("Escape")
    expect(page.locator("#comparison")).to_be_hidden()
    check("a message with attachments")
    page.locator(".turn.user .chip-button").click()
    expect(page.locator("#document-text")).to_contain_text("# Words")
    check("document")
    page.goto("/accounts/assistants/")
    check("assistants")
    context.close()


def test_an_answer_that_could_not_be_written_is_written_without_the_oldest(page: Page) -> None:
    ask(page, "@say fine " + words("first", 1200))
    done(page)
    expect(ask(page, "short")).to_have_text("short")
    done(page)
    # An edit is not counted before it is sent.
    page.get_by_role("button", name="Edit").last.click()
    page.get_by_role("textbox", name="Edited text").fill("@say late " + words("second", 1800))
    page.get_by_role("button", name="Ask again").click()
    expect(page.locator("#thread")).to_contain_text("more than the 4096")
    page.get_by_role("button", name="Leave out the oldest messages").click()
    expect(page.get_by_role("article").last).to_contain_text("late second")
    expect(
        page.get_by_text("Messages above this line are no longer sent to the model.")
    ).to_be_visible()
