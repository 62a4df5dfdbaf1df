"""An administrator finds in the audit log what others and they themselves did."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.axe import violations, violations_in_both_themes
from tests.browser.conftest import sign_in
from tests.support.stack import Stack, wait_until

# Screenshots for people to look at.
SHOTS = os.environ.get("SCREENSHOTS")


@pytest.fixture(scope="module")
def stack(scripted_stack: Stack) -> Stack:
    scripted_stack.create_user("root", admin=True)
    scripted_stack.create_user("ann")
    scripted_stack.manage("apikey", "create", "ann", "--name", "notebook")
    return scripted_stack


def shoot(page: Page, name: str) -> None:
    if SHOTS:
        page.screenshot(path=Path(SHOTS) / f"{name}.png", full_page=True)


def test_events_are_found_read_exported_and_verified(browser: Browser, stack: Stack) -> None:
    context = browser.new_context(
        base_url=stack.url, locale="en-US", timezone_id="Asia/Tokyo", reduced_motion="reduce"
    )
    page = context.new_page()
    page.goto("/accounts/login/")
    page.get_by_label("Username").fill("ann")
    page.get_by_label("Password").fill("wrong")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_label("Password")).to_be_visible()
    sign_in(page, "root")
    page.goto("/admin/")
    page.get_by_role("link", name="Audit", exact=True).click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Audit log")
    failed = page.get_by_role("row").filter(has_text="Sign-in failed").first
    expect(failed.get_by_role("link")).to_be_visible()
    expect(page.locator("[data-zone-name]")).to_have_text("Asia/Tokyo")
    shoot(page, "audit-1280")

    page.get_by_role("searchbox", name="Search").fill("cs-")
    page.get_by_label("Kind").select_option("key")
    page.get_by_role("button", name="Search").click()
    row = page.get_by_role("row").filter(has_text="API key created")
    expect(row).to_have_count(1)
    assert "zone=Asia%2FTokyo" in page.url
    shoot(page, "audit-filtered")
    row.get_by_role("link").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("API key created")
    expect(page.get_by_text("intact", exact=True)).to_be_visible()
    expect(page.get_by_text("notebook", exact=True)).to_be_visible()
    assert violations(page) == []
    shoot(page, "audit-event")

    page.get_by_role("link", name="Audit log").last.click()
    page.get_by_role("textbox", name="User", exact=True).fill("nobody")
    page.get_by_role("button", name="Search").click()
    expect(page.get_by_role("heading", name="No events match")).to_be_visible()
    assert violations(page) == []
    shoot(page, "audit-empty")
    page.get_by_role("link", name="Show all events").click()

    page.get_by_role("button", name="Export").click()
    with page.expect_download() as waiting:
        page.get_by_role("link", name="JSON lines").click()
    lines = Path(waiting.value.path()).read_text().splitlines()
    kinds = [json.loads(line)["kind"] for line in lines]
    assert {"server.started", "key.created", "auth.login_failed", "auth.login"} <= set(kinds)
    page.get_by_role("button", name="Verify now").click()
    expect(page.get_by_text("The audit log is intact")).to_be_visible()
    page.get_by_label("Kind").select_option("audit.exported")
    found = page.get_by_role("row").filter(has_text="root")

    def is_found() -> bool:
        page.get_by_role("button", name="Search").click()
        return found.count() == 1

    # Events are in the database a moment after they happened.
    wait_until(is_found, "the event of the export")
    context.close()


@pytest.mark.parametrize("locale", ["en-US", "zh-CN"])
def test_axe_finds_nothing(browser: Browser, stack: Stack, locale: str) -> None:
    cookies = stack.sign_in("root")
    context = browser.new_context(base_url=stack.url, reduced_motion="reduce", locale=locale)
    context.add_cookies(
        [
            {"name": name, "value": value, "url": stack.url}
            for name, value in (pair.split("=", 1) for pair in cookies.split("; "))
        ]
    )
    page = context.new_page()
    page.goto("/admin/audit/")
    assert violations_in_both_themes(page) == []
    page.set_viewport_size({"width": 390, "height": 844})
    assert violations_in_both_themes(page) == []
    wide = page.evaluate("document.documentElement.scrollWidth - innerWidth")
    assert wide <= 0
    shoot(page, f"audit-390-{locale}")
    page.locator(".audit-table tbody th a").first.click()
    assert violations_in_both_themes(page) == []
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    shoot(page, f"audit-event-390-{locale}")
    context.close()
