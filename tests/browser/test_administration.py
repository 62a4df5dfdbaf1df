"""The administration: overview of a busy site, settings that take effect, maintenance, axe."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from tests.browser.axe import violations
from tests.browser.conftest import sign_in
from tests.support.stack import Stack
from tests.unit.site_settings.test_logo import png

LIVE_MS = 60_000
PAGES = (
    *("", "settings/", "catalogue/", "jobs/", "hosts/", "exchange/", "modelfile/", "advanced/"),
    *("models_admin/modelname/", "accounts/user/1/change/", "chat/generation/"),
)


@pytest.fixture(scope="module")
def stack(scripted_stack: Stack) -> Stack:
    scripted_stack.create_user("root", admin=True)
    return scripted_stack


@pytest.fixture(scope="module")
def administrator(browser: Browser, stack: Stack) -> Iterator[BrowserContext]:
    context = browser.new_context(base_url=stack.url, locale="en-US")
    sign_in(context.new_page(), "root")
    yield context
    context.close()


def test_the_overview_follows_a_busy_site(administrator: BrowserContext, page: Page) -> None:
    overview = administrator.new_page()
    overview.goto("/admin/")
    expect(overview.get_by_role("heading", name="Everything is well.")).to_be_visible()
    expect(overview.locator(".uplot canvas")).to_have_count(4)
    page.get_by_role("textbox", name="Message").fill("@delay-ms 50 @say " + "word " * 600)
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Stop")).to_be_visible()
    tiles = overview.get_by_role("region", name="Figures")
    running = tiles.get_by_role("link", name=re.compile("Running answers"))
    expect(running).to_contain_text("1", timeout=LIVE_MS)
    expect(tiles).to_contain_text(re.compile(r"Active users\s*1"))
    expect(overview.locator(".host-card")).to_contain_text("1 of 8 slots busy", timeout=LIVE_MS)
    tokens = overview.locator("#tokens-now")
    expect(tokens).not_to_have_text(re.compile(r"^0(\.0)? "), timeout=LIVE_MS)
    running.click()
    expect(overview).to_have_url(re.compile("state__exact=running"))
    expect(overview.locator("#changelist")).to_contain_text("ann")
    page.keyboard.press("Escape")
    overview.close()


SHARED_SECONDS = 2.1  # other processes use new values within two seconds


def change_settings(settings: Page) -> None:
    """Correct a rejected form; set texts, maintenance and a logo."""
    settings.goto("/admin/")
    settings.get_by_role("link", name="Settings", exact=True).click()
    settings.get_by_label("Site name").fill("")
    settings.get_by_label("Greeting").fill("Hello from Acme")
    settings.get_by_role("button", name="Save settings").click()
    expect(settings.get_by_role("alert").first).to_contain_text("Nothing was saved")
    expect(settings.get_by_label("Greeting")).to_have_value("Hello from Acme")
    settings.get_by_label("Site name").fill("Acme")
    settings.locator("#id_banner_text").fill("We move on Friday: https://intra.example.org/")
    settings.get_by_label("Maintenance mode").check()
    settings.get_by_label("Message to users").fill("Back at noon.")
    settings.get_by_role("button", name="Save settings").click()
    expect(settings.get_by_text("5 settings saved.")).to_be_visible()
    settings.get_by_label("Image file").set_input_files(
        {"name": "x.png", "mimeType": "image/png", "buffer": png()}
    )
    settings.get_by_role("button", name="Upload logo").click()
    expect(settings.get_by_text("The logo was changed.")).to_be_visible()


def see_maintenance(page: Page) -> None:
    """As a user: see the new texts, keep the typed one, dismiss the announcement for good."""
    page.goto("/")
    expect(page).to_have_title("Acme")
    expect(page.get_by_role("heading", name="Hello from Acme")).to_be_visible()
    expect(page.get_by_text("Back at noon.").first).to_be_visible()
    expect(page.locator(".brand img")).to_have_attribute("src", re.compile("/logo/"))
    box = page.get_by_role("textbox", name="Message")
    box.fill("Keep this text")
    page.keyboard.press("Enter")
    expect(page.locator("#send-problem")).to_contain_text("Back at noon.")
    expect(box).to_have_value("Keep this text")
    page.get_by_role("button", name="Dismiss the announcement").click()
    expect(page.get_by_text("We move on Friday")).to_have_count(0)
    page.reload()
    expect(page.get_by_role("textbox", name="Message")).to_be_visible()
    expect(page.get_by_text("We move on Friday")).to_have_count(0)


def test_settings_take_effect_and_maintenance_keeps_the_typed_text(
    administrator: BrowserContext, page: Page
) -> None:
    settings = administrator.new_page()
    change_settings(settings)
    page.wait_for_timeout(SHARED_SECONDS * 1000)
    see_maintenance(page)

    chat = administrator.new_page()
    chat.goto("/")
    expect(chat.get_by_text("We move on Friday")).to_be_visible()
    chat.get_by_role("textbox", name="Message").fill("administrators can work")
    chat.keyboard.press("Enter")
    expect(chat.get_by_role("article")).to_contain_text("administrators can work")
    chat.close()

    settings.get_by_label("Maintenance mode").uncheck()
    settings.get_by_role("button", name="Save settings").click()
    expect(settings.get_by_text("1 setting saved.")).to_be_visible()
    settings.close()
    # The page of the user is open since before and is not reloaded.
    expect(page.locator("#site-notices")).not_to_contain_text("Back at noon.", timeout=20_000)


def test_terms_are_accepted_by_everybody(administrator: BrowserContext, page: Page) -> None:
    settings = administrator.new_page()
    settings.goto("/admin/settings/")
    settings.locator("#id_terms_text").fill("Be kind.")
    settings.get_by_label("Version").fill("1")
    settings.get_by_role("button", name="Save settings").click()
    # The administrator has to accept them as well.
    settings.wait_for_url("**/accounts/terms/**")
    assert violations(settings) == []
    settings.get_by_role("button", name="Accept and continue").click()
    settings.wait_for_url("**/admin/settings/")
    page.wait_for_timeout(SHARED_SECONDS * 1000)
    page.goto("/")
    page.get_by_role("button", name="Accept and continue").click()
    page.get_by_role("textbox", name="Message").fill("hello again")
    page.keyboard.press("Enter")
    expect(page.get_by_role("article")).to_contain_text("hello again")
    settings.close()


@pytest.mark.parametrize(("theme", "language"), [("light", "en-US"), ("dark", "zh-CN")])
def test_axe_finds_nothing_and_the_menu_is_a_drawer_on_phones(
    administrator: BrowserContext, browser: Browser, stack: Stack, theme: Any, language: str
) -> None:
    context = browser.new_context(
        base_url=stack.url, color_scheme=theme, locale=language, reduced_motion="reduce"
    )
    context.add_cookies(administrator.cookies())  # type: ignore[arg-type]
    page = context.new_page()
    for name in PAGES:
        page.goto(f"/admin/{name}")
        assert violations(page) == [], name
    page.set_viewport_size({"width": 390, "height": 844})
    for name in PAGES:
        page.goto(f"/admin/{name}")
        wide = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        assert page.evaluate(wide) <= 0, name
    page.goto("/admin/")
    menu = page.locator("#admin-menu")
    expect(menu).to_be_hidden()
    page.locator(".admin-topbar button").click()
    expect(menu).to_be_visible()
    assert violations(page) == []
    page.keyboard.press("Escape")
    expect(menu).to_be_hidden()
    expect(page.locator(".admin-topbar button")).to_be_focused()
    assert violations(page) == []
    context.close()
