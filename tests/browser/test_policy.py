"""Administrators set rules and quotas; users see what is left and what is not allowed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.actions import box, done
from tests.browser.axe import violations, violations_in_both_themes
from tests.browser.conftest import sign_in
from tests.support.stack import MODEL, Stack

SECRET = "secret:1b"


@pytest.fixture(scope="module")
def stack(scripted_stack: Stack) -> Iterator[Stack]:
    """Other modules use the same stack: everything here is for one user of its own."""
    scripted_stack.manage("models", "cp", MODEL, SECRET)
    scripted_stack.create_user("boss", admin=True)
    scripted_stack.create_user("quinn")
    yield scripted_stack
    scripted_stack.manage("models", "rm", SECRET)


@pytest.fixture
def boss(browser: Browser, stack: Stack) -> Iterator[Page]:
    context = browser.new_context(base_url=stack.url, locale="en-US")
    page = context.new_page()
    sign_in(page, "boss")
    yield page
    context.close()


@pytest.fixture
def quinn(browser: Browser, stack: Stack) -> Iterator[Page]:
    context = browser.new_context(
        base_url=stack.url, locale="en-US", timezone_id="Asia/Tokyo", reduced_motion="reduce"
    )
    page = context.new_page()
    sign_in(page, "quinn")
    yield page
    context.close()


def _for_quinn(page: Page) -> None:
    page.get_by_role("radio", name="A user").check()
    page.get_by_label("Username").fill("quinn")


def _add_rule(page: Page, kind: str, target: str) -> None:
    page.goto("/admin/policy/rules/add/")
    page.get_by_role("radio", name="Deny").check()
    page.get_by_label("What").select_option(label=kind)
    if kind == "Model":
        page.get_by_label("Model name or pattern").fill(target)
    else:
        page.get_by_label("Feature").select_option(label=target)
    _for_quinn(page)
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("The change was saved.")).to_be_visible()


def _remove_all(page: Page, what: str) -> None:
    page.goto(f"/admin/policy/{what}")
    while (edit := page.get_by_role("link", name=re.compile("^Edit:"))).count():
        edit.first.click()
        page.get_by_role("button", name="Remove").click()
        expect(page.get_by_text("It was removed.")).to_be_visible()


def test_a_rule_hides_a_model_and_a_feature_from_its_user(boss: Page, quinn: Page) -> None:
    models = quinn.get_by_role("combobox", name="Model")
    expect(quinn.get_by_role("button", name="Attach files")).to_be_visible()
    assert SECRET in models.inner_text()
    _add_rule(boss, "Model", "secret")
    expect(boss.get_by_role("row").filter(has_text="secret")).to_contain_text("User quinn")
    _add_rule(boss, "Feature", "Attachments")
    boss.get_by_role("link", name="Preview").click()
    boss.get_by_label("Preview as user").fill("quinn")
    boss.get_by_role("button", name="Preview user").click()
    row = boss.get_by_role("row").filter(has_text=SECRET)
    expect(row).to_contain_text("Denied")
    expect(row).to_contain_text("denies secret to user quinn")
    expect(boss.get_by_role("row").filter(has_text=MODEL)).to_contain_text("Allowed")
    quinn.wait_for_timeout(2100)  # the age of a decision's facts
    quinn.reload()
    expect(models).to_be_visible()
    assert SECRET not in models.inner_text()
    expect(quinn.get_by_role("button", name="Attach files")).to_be_hidden()
    _remove_all(boss, "")


def test_over_the_quota_the_text_is_kept_and_the_renewal_shown(boss: Page, quinn: Page) -> None:
    boss.goto("/admin/policy/quotas/add/")
    _for_quinn(boss)
    boss.get_by_label("Amount").fill("2")
    boss.get_by_label("Unit").select_option(label="requests")
    boss.get_by_label("Period").select_option(label="month")
    boss.get_by_role("button", name="Save").click()
    expect(boss.get_by_text("2 requests per month")).to_be_visible()
    quinn.wait_for_timeout(2100)
    quinn.reload()
    note = quinn.locator("#quota-note")
    expect(note).to_be_hidden()
    quinn.get_by_role("button", name="quinn").click()
    expect(quinn.get_by_role("list", name="Your quotas")).to_contain_text("0 used, 2 left")
    expect(quinn.get_by_role("list", name="Your quotas")).to_contain_text("9:00")  # in Tokyo
    quinn.keyboard.press("Escape")
    for number in range(2):
        box(quinn).fill(f"@say Answer {number}")
        box(quinn).press("Enter")
        expect(quinn.get_by_role("article").nth(number)).to_contain_text(f"Answer {number}")
        done(quinn)
    # With the date, unless it renews today.
    used_up = re.compile("Your quota of 2 requests per month is used up. It renews (on|at) ")
    expect(note).to_contain_text(used_up)
    box(quinn).fill("One more question")
    box(quinn).press("Enter")
    problem = quinn.locator("#send-problem")
    expect(problem).to_contain_text(
        "You have used your quota of 2 requests per month. It renews at"
    )
    expect(problem).to_contain_text("9:00")
    expect(box(quinn)).to_have_value("One more question")
    expect(quinn.get_by_role("article")).to_have_count(2)
    assert violations_in_both_themes(quinn) == []
    quinn.get_by_role("button", name="quinn").click()
    assert violations(quinn) == []
    _remove_all(boss, "quotas/")
    quinn.wait_for_timeout(2100)
    quinn.reload()
    expect(note).to_be_hidden()


_PAGES = (
    "",
    "limits/",
    "quotas/",
    "preview/?user=quinn",
    "rules/add/",
    "limits/add/",
    "quotas/add/",
)


@pytest.mark.parametrize("language", ["en", "zh-hans"])
def test_axe_finds_nothing_in_the_administration(
    browser: Browser, stack: Stack, boss: Page, language: str
) -> None:
    if language == "en":
        _add_rule(boss, "Model", "secret")
    context: Any = boss.context
    context.add_cookies([{"name": "django_language", "value": language, "url": stack.url}])
    for address in _PAGES:
        boss.goto(f"/admin/policy/{address}")
        assert violations_in_both_themes(boss) == [], address
    boss.set_viewport_size({"width": 390, "height": 800})
    for address in ("", "preview/?user=quinn", "rules/add/"):
        boss.goto(f"/admin/policy/{address}")
        wide = boss.evaluate("document.documentElement.scrollWidth > innerWidth")
        assert not wide, address
    if language == "zh-hans":
        context.clear_cookies(name="django_language")
        _remove_all(boss, "")
