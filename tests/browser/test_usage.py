"""Ratings, one's own usage, and the administrators' reports of a busy site, in Chromium."""

from __future__ import annotations

import re
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.actions import ask, conversation, done
from tests.browser.axe import violations
from tests.browser.conftest import sign_in
from tests.support.stack import PASSWORD, Stack


@pytest.fixture(scope="module")
def stack(scripted_stack: Stack) -> Stack:
    return scripted_stack


@pytest.fixture(scope="module")
def busy(stack: Stack, person: str) -> None:
    """Fill the site with users, requests and ratings."""
    stack.create_user("root", admin=True)
    code = f"from tests.support.usage import busy, rated; busy(requests=800); rated({person!r})"
    stack.manage("shell", "--verbosity", "0", "-c", code)


def test_an_answer_is_rated(page: Page, stack: Stack, person: str) -> None:
    ask(page, "The contract ends in June.")
    done(page)
    bad = page.get_by_role("button", name="Bad answer")
    good = page.get_by_role("button", name="Good answer")
    form = page.get_by_role("form", name="Feedback")
    # By keyboard: the rating is saved at once, the form may stay as it is.
    bad.focus()
    page.keyboard.press("Enter")
    expect(bad).to_have_attribute("aria-pressed", "true")
    expect(bad).to_have_attribute("aria-expanded", "true")
    expect(form.get_by_role("status")).to_have_text("Thank you.")
    page.keyboard.press("Tab")  # to "Regenerate", then into the form
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowDown")
    expect(form.get_by_role("radio", name="Not helpful")).to_be_checked()
    form.get_by_role("radio", name="Wrong or made up").check()
    form.get_by_label("Comment").fill("It ends in December.")
    form.get_by_role("button", name="Save").click()
    expect(form).to_have_count(0)
    expect(bad).to_be_focused()
    # It survives a reload and can be changed.
    page.reload()
    expect(bad).to_have_attribute("aria-pressed", "true")
    bad.click()
    expect(form.get_by_role("radio", name="Wrong or made up")).to_be_checked()
    expect(form.get_by_label("Comment")).to_have_value("It ends in December.")
    expect(form.get_by_role("checkbox", name="Share this conversation")).not_to_be_checked()
    page.keyboard.press("Escape")
    bad.click()
    form.get_by_role("checkbox").focus()
    page.keyboard.press("Escape")
    expect(form).to_have_count(0)
    good.click()
    expect(good).to_have_attribute("aria-pressed", "true")
    expect(bad).to_have_attribute("aria-pressed", "false")
    expect(form.get_by_role("radio", name="Correct")).to_be_visible()
    form.get_by_role("button", name="Remove rating").click()
    expect(good).to_have_attribute("aria-pressed", "false")
    expect(good).to_be_focused()
    page.reload()
    expect(page.get_by_role("article")).to_be_visible()
    page.wait_for_load_state("networkidle")
    expect(good).to_have_attribute("aria-pressed", "false")


def test_a_rating_that_cannot_be_saved_is_taken_back(page: Page, stack: Stack, person: str) -> None:
    page.goto(f"/c/{conversation(stack, person, ['An answer.'])}/")
    good = page.get_by_role("button", name="Good answer")
    expect(good).to_be_visible()
    page.context.set_offline(True)
    good.click()
    turn = page.locator(".turn.answer").last
    expect(turn.get_by_role("alert")).to_contain_text("can't be reached")
    expect(good).to_have_attribute("aria-pressed", "false")
    page.context.set_offline(False)
    good.click()
    expect(good).to_have_attribute("aria-pressed", "true")
    expect(turn.get_by_role("alert")).to_have_count(0)


@pytest.mark.parametrize(("theme", "language"), [("light", "en-US"), ("dark", "zh-CN")])
def test_the_pages_of_a_busy_site(
    browser: Browser, stack: Stack, person: str, busy: None, theme: Any, language: str
) -> None:
    context = browser.new_context(
        base_url=stack.url, color_scheme=theme, locale=language, reduced_motion="reduce"
    )
    page = context.new_page()
    page.goto("/accounts/login/")
    sign_in_in_any_language(page, "root")
    expect(page.locator("html")).to_have_attribute("lang", "zh-hans" if "zh" in language else "en")
    for address in (
        "/admin/usage/?period=90",
        "/admin/usage/?period=today",
        "/admin/usage/?period=custom&from=2001-01-01&to=2001-01-02",
        "/admin/usage/?period=custom&from=x",
        "/admin/usage/user/?period=90&sort=-completion_tokens",
        "/admin/usage/feedback/",
    ):
        page.goto(address)
        if page.locator("[data-chart]").count():
            expect(page.locator("[data-chart] canvas").first).to_be_visible()
        assert violations(page) == [], address
        page.set_viewport_size({"width": 390, "height": 844})
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), address
        page.set_viewport_size({"width": 1280, "height": 900})
    page.locator("ul.comments a").first.click()
    expect(page.get_by_role("article")).to_contain_text("42")
    assert violations(page) == []
    context.close()


def test_reports_are_sorted_narrowed_and_downloaded(
    browser: Browser, stack: Stack, person: str, busy: None
) -> None:
    context = browser.new_context(base_url=stack.url, locale="en-US")
    page = context.new_page()
    sign_in(page, "root")
    page.goto("/admin/usage/?period=90")
    groups = page.get_by_role("region", name="By group")
    groups.get_by_role("link", name="Output tokens").click()
    expect(groups.get_by_role("columnheader", name="Output tokens")).to_have_attribute(
        "aria-sort", "descending"
    )
    groups.get_by_role("link", name="Engineering").click()
    expect(page.get_by_text("Group: Engineering")).to_be_visible()
    page.get_by_role("region", name="By model").get_by_role("link", name="qwen3:8b").click()
    expect(page.get_by_text("Model: qwen3:8b")).to_be_visible()
    page.get_by_role("link", name="Remove filter Group: Engineering").click()
    expect(page.get_by_text("Group: Engineering")).to_have_count(0)
    with page.expect_download() as download:
        page.get_by_role("link", name="Download CSV: By user").click()
    assert re.fullmatch(r"usage-user-\S+\.csv", download.value.suggested_filename)
    page.get_by_label("From").fill("2026-01-01")
    page.get_by_role("button", name="Show").click()
    expect(page.get_by_text("Model: qwen3:8b")).to_be_visible()
    context.close()


def test_ones_own_usage(page: Page) -> None:
    page.goto("/usage/")
    expect(page.get_by_role("heading", name="Your usage")).to_be_visible()
    expect(page.locator("[data-chart] canvas").first).to_be_visible()
    assert violations(page) == []
    page.set_viewport_size({"width": 390, "height": 844})
    assert violations(page) == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def sign_in_in_any_language(page: Page, name: str) -> None:
    page.locator("input[name=login]").fill(name)
    page.locator("input[name=password]").fill(PASSWORD)
    page.locator("form button[type=submit]").first.click()
    page.wait_for_url("**/")
