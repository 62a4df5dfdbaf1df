"""What goes to the model besides the message: how full its context is, and what it leaves out."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from tests.browser.actions import ask, box, done
from tests.support.stack import Stack


@pytest.fixture(scope="module")
def stack(scripted_stack: Stack) -> Stack:
    return scripted_stack


def test_the_gauge_counts_before_anything_is_sent(page: Page) -> None:
    gauge = page.get_by_role("button", name="Context:")
    expect(gauge).to_have_accessible_name(re.compile(r"^Context: \d+ of 4,096 tokens$"))
    box(page).fill("word" + " word" * 1999)
    expect(gauge).to_have_accessible_name(re.compile(r"^Context: 2,0\d\d of 4,096 tokens$"))
    gauge.click()
    panel = page.get_by_role("dialog", name="The model's context")
    expect(panel.locator("div", has_text="This message").last).to_contain_text("2,000")
    expect(panel).to_contain_text("Room for the answer")
    page.keyboard.press("Escape")
    expect(gauge).to_be_focused()
    box(page).fill("")
    expect(gauge).to_have_accessible_name(re.compile(r"^Context: \d\d of"))


def test_what_does_not_fit_is_a_choice_and_what_is_left_out_is_marked(page: Page) -> None:
    ask(page, "@say fine " + "first " * 1200)
    done(page)
    second = "second " * 1800
    box(page).fill(second)
    choice = page.get_by_role("status").filter(has_text="more than the 4,096")
    expect(choice).to_be_visible()
    box(page).press("Enter")
    expect(box(page)).to_have_value(second)
    leave_out = choice.get_by_role("button", name="Leave out the oldest messages")
    expect(leave_out).to_be_focused()
    leave_out.click()
    expect(choice).to_be_hidden()
    box(page).press("Enter")
    mark = page.get_by_text("The model no longer sees what is above.")
    expect(mark).to_be_visible()
    expect(page.locator(".turn", has=mark)).to_contain_text("second")
    page.reload()
    expect(mark).to_be_visible()
    page.get_by_role("button", name="Context:").click()
    expect(page.get_by_role("checkbox", name="leave out the oldest")).to_be_checked()


def test_a_draft_may_go_to_a_new_chat_instead(page: Page) -> None:
    ask(page, "@say fine " + "first " * 1200)
    done(page)
    draft = "second " * 1800
    box(page).fill(draft)
    page.get_by_role("button", name="Start a new chat").click()
    expect(page).to_have_url(re.compile("/$"))
    expect(box(page)).to_have_value(draft)
    expect(page.get_by_role("button", name="Start a new chat")).to_be_hidden()
