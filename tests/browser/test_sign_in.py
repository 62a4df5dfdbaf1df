"""Local sign-in in Chromium: invitation, second factors, sessions, sign-up, reset by mail."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from allauth.mfa.totp.internal.auth import format_hotp_value, hotp_value
from playwright.sync_api import Browser, BrowserContext, Page, expect

from tests.browser.axe import violations_in_both_themes as violations
from tests.support.mail_sink import MailSink, mail_sink
from tests.support.stack import PASSWORD, Stack, wait_until

NEW_PASSWORD = "another horse battery"


@pytest.fixture(scope="module")
def sink() -> Iterator[MailSink]:
    with mail_sink() as sink:
        yield sink


@pytest.fixture(scope="module")
def stack(
    starter_model: Path, tmp_path_factory: pytest.TempPathFactory, sink: MailSink
) -> Iterator[Stack]:
    """Run the product at a host name, which passkeys need, with mail and sign-up."""
    stack = Stack(
        tmp_path_factory.mktemp("sign-in"),
        CHATSITE_BACKEND="scripted",
        CHATSITE_SMTP_HOST="127.0.0.1",
        CHATSITE_SMTP_PORT=str(sink.port),
        CHATSITE_SMTP_TLS="none",
        CHATSITE_SMTP_SENDER="Chat <chat@example.org>",
        CHATSITE_SIGNUP_MODE="approval",
    )
    try:
        stack.prepare(starter_model)
        stack.start()
        stack.url = stack.url.replace("127.0.0.1", "localhost")
        stack.create_user("root", admin=True)
        yield stack
    finally:
        stack.discard()


def code(secret: str) -> str:
    return format_hotp_value(hotp_value(secret, int(time.time()) // 30))


def sign_in(page: Page, name: str, password: str = PASSWORD) -> None:
    page.goto("/accounts/login/")
    page.get_by_label("Username or email").fill(name)
    page.get_by_label("Password", exact=True).fill(password)
    page.get_by_role("button", name="Sign in", exact=True).click()


def sign_out(page: Page) -> None:
    page.goto("/accounts/logout/")
    page.get_by_role("button", name="Sign out").click()
    page.wait_for_url("**/accounts/login/")


def add_authenticator(context: BrowserContext, page: Page) -> None:
    """Give the browser a device with fingerprint that keeps passkeys."""
    session = context.new_cdp_session(page)
    session.send("WebAuthn.enable")
    options = {
        "protocol": "ctap2",
        "transport": "internal",
        "hasResidentKey": True,
        "hasUserVerification": True,
        "isUserVerified": True,
        "automaticPresenceSimulation": True,
    }
    session.send("WebAuthn.addVirtualAuthenticator", {"options": options})


def is_at_chat(page: Page) -> None:
    expect(page.get_by_role("textbox", name="Message")).to_be_visible()


def accept_invitation(page: Page, stack: Stack, sink: MailSink) -> None:
    stack.manage("people", "invite", "bo@example.org", "--username", "bo", "--send")
    # Without CHATSITE_ORIGINS a command names the address that the server binds.
    page.goto(urlsplit(sink.link("bo@example.org")).path)
    expect(page.get_by_label("Email address")).to_be_disabled()
    page.get_by_label("Password", exact=True).fill(PASSWORD)
    page.get_by_label("Repeat the password").fill(PASSWORD)
    page.get_by_role("button", name="Create account").click()
    is_at_chat(page)


def set_up_app(page: Page) -> tuple[str, list[str]]:
    """Return the secret of the app and the recovery codes."""
    page.goto("/accounts/2fa/")
    page.get_by_role("link", name="Set up app").click()
    expect(page.get_by_role("img", name="QR code")).to_be_visible()
    secret = page.locator("code.secret").inner_text()
    page.get_by_label("Authenticator code").fill(code(secret))
    page.get_by_role("button", name="Turn on").click()
    expect(page.get_by_role("heading", name="Recovery codes")).to_be_visible()
    codes = page.locator(".recovery-codes code").all_inner_texts()
    assert len(codes) == 10
    return secret, codes


def sign_in_with_code(page: Page, name: str, text: str) -> None:
    sign_in(page, name)
    page.get_by_label("Code").fill(text)
    page.get_by_role("button", name="Sign in").click()
    is_at_chat(page)


def use_passkey(page: Page) -> None:
    """Add a passkey; use it as the second factor and alone."""
    add_authenticator(page.context, page)
    page.goto("/accounts/2fa/passkeys/add/")
    page.get_by_label("Name of the passkey").fill("Laptop")
    page.get_by_role("button", name="Add passkey").click()
    expect(page.locator(".rows strong", has_text="Laptop")).to_be_visible()
    sign_out(page)
    sign_in(page, "bo")
    page.get_by_role("button", name="Use a passkey").click()
    is_at_chat(page)
    sign_out(page)
    page.get_by_role("button", name="Sign in with a passkey").click()
    is_at_chat(page)


def sign_out_everywhere(page: Page, other: Page, recovery_code: str) -> None:
    """Sign in as "bo" in ``other``, sign out everywhere in ``page``: the socket is closed."""
    closed: list[bool] = []
    sign_in_with_code(other, "bo", recovery_code)
    other.on("websocket", lambda socket: socket.on("close", lambda _: closed.append(True)))
    other.goto("/")
    is_at_chat(other)
    other.wait_for_timeout(500)
    assert closed == []
    page.goto("/accounts/sessions/")
    expect(page.locator(".rows li")).to_have_count(2)
    expect(page.get_by_text("This browser")).to_have_count(1)
    expect(page.locator(".rows li").first).to_contain_text("Chrome on Linux")
    page.get_by_role("button", name="Sign out everywhere").click()
    page.wait_for_url("**/accounts/login/")

    def is_closed() -> bool:
        other.wait_for_timeout(50)  # runs the handlers of the page
        return bool(closed)

    wait_until(is_closed, "a closed socket")
    other.goto("/")
    other.wait_for_url("**/accounts/login/**")


def test_from_the_invitation_to_sign_out_everywhere(
    browser: Browser, stack: Stack, sink: MailSink
) -> None:
    complaints: list[str] = []
    context = browser.new_context(base_url=stack.url, locale="en-US")
    page = context.new_page()
    page.on(
        "console",
        lambda message: (
            complaints.append(message.text) if "Content Security Policy" in message.text else None
        ),
    )
    accept_invitation(page, stack, sink)
    secret, codes = set_up_app(page)
    sign_out(page)
    sign_in_with_code(page, "BO@example.org", code(secret))
    sign_out(page)
    sign_in_with_code(page, "bo", codes[3])
    use_passkey(page)

    second = browser.new_context(base_url=stack.url, locale="en-US")
    sign_out_everywhere(page, second.new_page(), codes[5])
    assert complaints == []
    context.close()
    second.close()


def test_sign_up_by_approval_and_a_new_password_by_mail(
    browser: Browser, stack: Stack, sink: MailSink
) -> None:
    context = browser.new_context(base_url=stack.url, locale="en-US")
    page = context.new_page()
    page.goto("/accounts/login/")
    page.get_by_role("link", name="Create an account").click()
    page.get_by_label("Username").fill("cy")
    page.get_by_label("Email address").fill("cy@example.org")
    page.get_by_label("Password", exact=True).fill(PASSWORD)
    page.get_by_label("Repeat the password").fill(PASSWORD)
    page.get_by_role("button", name="Create account").click()
    expect(page.get_by_role("heading", name="Waiting for approval")).to_be_visible()
    sign_in(page, "cy")
    expect(page.get_by_role("heading", name="Waiting for approval")).to_be_visible()
    stack.manage("people", "sign-ups", "--approve", "cy")
    assert "approved" in sink.newest("cy@example.org")["Subject"]
    page.goto("/accounts/login/")
    page.get_by_role("link", name="Forgot your password?").click()
    page.get_by_label("Email address").fill("CY@example.org")
    page.get_by_role("button", name="Send link").click()
    expect(page.get_by_text("If an account has this address")).to_be_visible()
    wait_until(lambda: "New password" in sink.newest("cy@example.org")["Subject"], "a link")
    page.goto(sink.link("cy@example.org"))
    page.get_by_label("New password", exact=True).fill(NEW_PASSWORD)
    page.get_by_label("Repeat the password").fill(NEW_PASSWORD)
    page.get_by_role("button", name="Change password").click()
    sign_in(page, "cy", NEW_PASSWORD)
    is_at_chat(page)
    context.close()


# Pages by whether they need a session.
_OUTSIDE = [
    "/accounts/login/",
    "/accounts/signup/",
    "/accounts/signup/waiting/approval/",
    "/accounts/signup/waiting/confirmation/",
    "/accounts/password/reset/",
    "/accounts/password/new/wrong/",
]
_INSIDE = [
    "/accounts/",
    "/accounts/password/change/",
    "/accounts/2fa/",
    "/accounts/2fa/app/",
    "/accounts/2fa/passkeys/add/",
    "/accounts/sessions/",
    "/accounts/keys/",
]


@pytest.mark.parametrize("language", ["en-US", "zh-CN"])
def test_axe_finds_nothing(browser: Browser, stack: Stack, language: str) -> None:
    context = browser.new_context(base_url=stack.url, reduced_motion="reduce", locale=language)
    page = context.new_page()
    invitation = stack.manage("people", "invite").stdout.strip()
    password = stack.manage("people", "reset-password", "root").stdout.strip()
    for address in [*_OUTSIDE, invitation, password]:
        page.goto(address)
        assert violations(page) == [], address
    pairs = (pair.split("=", 1) for pair in stack.sign_in("root").split("; "))
    context.add_cookies([{"name": n, "value": v, "url": stack.url} for n, v in pairs])
    for size in ((1280, 800), (390, 844)):
        page.set_viewport_size({"width": size[0], "height": size[1]})
        for address in _INSIDE:
            page.goto(address)
            assert page.url.endswith(address)
            assert violations(page) == [], (address, size)
            wide = page.evaluate("document.documentElement.scrollWidth > innerWidth")
            assert not wide, (address, size)
    context.close()
