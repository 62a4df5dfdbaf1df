"""Sign-in from the directory in a browser: a real OpenID Connect provider and a real OpenLDAP."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.actions import ask
from tests.browser.axe import violations
from tests.support.oidc import ProviderProcess
from tests.support.slapd import Slapd, user_dn
from tests.support.stack import Stack, wait_until

PASSWORD = "erin's secret"


@pytest.fixture(scope="module")
def provider() -> Iterator[ProviderProcess]:
    process = ProviderProcess(
        {
            "0001": {
                "preferred_username": "ann",
                "email": "ann@example.org",
                "groups": ["staff", "admins"],
            },
            "0002": {"preferred_username": "guest", "groups": ["guests"]},
        }
    )
    yield process
    process.stop()


@pytest.fixture(scope="module")
def slapd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slapd]:
    server = Slapd(
        tmp_path_factory.mktemp("slapd"),
        {"erin": PASSWORD, "bob": PASSWORD},
        {"ml": [user_dn("erin")]},
    )
    yield server
    server.stop()


@pytest.fixture(scope="module")
def stack(
    starter_model: Path,
    tmp_path_factory: pytest.TempPathFactory,
    provider: ProviderProcess,
    slapd: Slapd,
) -> Iterator[Stack]:
    stack = Stack(
        tmp_path_factory.mktemp("directory"),
        CHATSITE_BACKEND="scripted",
        CHATSITE_OIDC_NAME="Acme",
        CHATSITE_OIDC_ROLES="admins=administrator",
        CHATSITE_OIDC_ALLOWED="groups=staff",
        CHATSITE_OIDC_SIGN_OUT="1",
        **provider.environment,
        **slapd.environment,
    )
    try:
        stack.prepare(starter_model)
        stack.create_user("root", admin=True)
        stack.start()
        yield stack
    finally:
        stack.discard()


def give_password(page: Page, name: str, password: str) -> None:
    page.goto("/accounts/login/")
    page.get_by_label("Username").fill(name)
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Sign in", exact=True).click()
    page.wait_for_load_state()  # the scripts have run


def test_people_of_the_directory_come_and_go(
    browser: Browser, stack: Stack, provider: ProviderProcess, slapd: Slapd
) -> None:
    complaints: list[str] = []

    def new_page(theme: Any = "light", locale: str = "en-US") -> Page:
        context = browser.new_context(base_url=stack.url, color_scheme=theme, locale=locale)
        page = context.new_page()
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on(
            "console",
            lambda said: complaints.append(said.text) if "Security" in said.text else None,
        )
        return page

    # OpenID Connect creates the account with its role and groups.
    page = new_page()
    page.goto("/accounts/login/")
    assert violations(page) == []
    page.get_by_role("link", name="Continue with Acme").click()
    page.get_by_role("button", name="0001").click()
    expect(page.get_by_role("textbox", name="Message")).to_be_visible()
    rows = stack.query("SELECT effective_role FROM accounts_user WHERE username = 'ann'")
    assert rows == [("administrator",)]
    assert {name for (name,) in stack.query("SELECT name FROM auth_group")} == {"staff", "admins"}
    page.goto("/accounts/logout/")
    page.get_by_role("button", name="Sign out").click()
    page.wait_for_url(f"{provider.issuer}/oauth2/end_session*")

    # A claim that is not allowed gets an explanation.
    for theme, locale in (("light", "en-US"), ("dark", "zh-CN")):
        other = new_page(theme, locale)
        other.goto("/accounts/login/")
        other.locator("a[href^='/accounts/oidc/login/']").click()
        other.get_by_role("button", name="0002").click()
        expect(other.get_by_role("alert")).to_be_visible()
        assert violations(other) == []

    # LDAP: a running answer of a leaver stops, and the page is signed out.
    erin = new_page()
    give_password(erin, "erin", PASSWORD)
    ask(erin, "@tokens 4000 @delay-ms 50")
    expect(erin.get_by_role("article").last).to_contain_text("w3")
    slapd.delete_user("erin")
    assert "erin: disabled" in stack.manage("people", "sync").stdout
    expect(erin.get_by_text("You are signed out")).to_be_visible()
    wait_until(
        lambda: stack.query("SELECT state FROM chat_generation WHERE state = 'cancelled'") != [],
        "the answer stops",
    )
    erin.goto("/")
    expect(erin.get_by_role("button", name="Sign in", exact=True)).to_be_visible()

    # Without the provider and the directory, local administrators still sign in.
    provider.stop()
    slapd.stop()
    local = new_page()
    give_password(local, "bob", PASSWORD)
    expect(
        local.get_by_text("The directory of your organization is not responding")
    ).to_be_visible()
    give_password(local, "root", "correct horse battery")
    expect(local.get_by_role("textbox", name="Message")).to_be_visible()
    assert complaints == []
