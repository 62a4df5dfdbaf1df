"""Real Chromium against the running product."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from tests.support.stack import PASSWORD, Stack

# How long to wait for a state of the page: it only limits a hang. A busy machine is slow.
expect.set_options(timeout=30_000)


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """Yield the installed Chromium; Playwright's own download is not used.

    Its scope is not the session: while it lives, Playwright's event loop counts as running in this
    thread, and no asyncio test can run.
    """
    path = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("no Chromium is installed; `make test` installs it")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=path, args=["--no-sandbox", "--disable-gpu", "--disable-quic"]
        )
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def person(stack: Stack) -> str:
    """Create a user who can sign in to the stack."""
    stack.create_user("ann")
    return "ann"


@pytest.fixture
def context(browser: Browser, stack: Stack) -> Iterator[BrowserContext]:
    context = browser.new_context(
        base_url=stack.url, permissions=["clipboard-read", "clipboard-write"], locale="en-US"
    )
    yield context
    context.close()


def sign_in(page: Page, name: str) -> None:
    page.goto("/accounts/login/")
    page.get_by_label("Username").fill(name)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url("**/")


@pytest.fixture(scope="module")
def session() -> list[Any]:
    """Return the cookies of a session of ``person``, shared by the contexts of the tests."""
    return []


@pytest.fixture
def page(context: BrowserContext, person: str, session: list[Any]) -> Iterator[Page]:
    """Yield the chat page of a signed-in user.

    Uncaught errors and violations of the content security policy fail the test.
    """
    complaints: list[str] = []
    page = context.new_page()
    page.on("pageerror", lambda error: complaints.append(f"page error: {error}"))
    page.on(
        "console",
        lambda message: (
            complaints.append(message.text)
            if message.type == "error" and "Content Security Policy" in message.text
            else None
        ),
    )
    context.add_cookies(session)
    page.goto("/")
    if "/accounts/login/" in page.url:  # the first test, or one after a test that ended the session
        sign_in(page, person)
        session[:] = context.cookies()
    yield page
    assert complaints == []
