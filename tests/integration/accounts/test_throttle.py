"""Guessing passwords and codes: the attacker gets nowhere, the victim still signs in."""

import re
import time
from contextlib import suppress
from ipaddress import ip_network

import pytest
from allauth.core import context
from allauth.mfa.totp.internal.auth import TOTP, format_hotp_value, hotp_value
from django.core.exceptions import ValidationError
from django.test import Client

from chatsite.accounts import invitations
from chatsite.accounts.adapter import AccountAdapter
from chatsite.accounts.models import User
from chatsite.web import proxies

PASSWORD = "correct horse battery"
SECRET = "JBSWY3DPEHPK3PXP" * 2

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("redis")]


@pytest.fixture
def alice():
    return User.objects.create_user("alice", "alice@example.org", PASSWORD)


def sign_in(client, password=PASSWORD, login="alice"):
    return client.post("/accounts/login/", {"login": login, "password": password})


def is_in(client) -> bool:
    return "_auth_user_id" in client.session


@pytest.mark.usefixtures("alice")
def test_a_thousand_guesses_lock_nobody_out_and_find_nothing(rf):
    known = Client(REMOTE_ADDR="192.0.2.1")
    assert sign_in(known).status_code == 302
    known.post("/accounts/logout/")
    addresses = [f"198.51.100.{number}" for number in range(1, 11)]
    checked = 0
    for number in range(1000):
        # The right password is among the guesses, after the limit; half use the email address.
        password = PASSWORD if number >= 500 and number % 50 == 0 else f"guess {number}"
        login = "alice@example.org" if number % 20 < 10 else "Alice"
        request = rf.post("/accounts/login/", REMOTE_ADDR=addresses[number % 10])
        with context.request_context(request), suppress(ValidationError):
            assert AccountAdapter().authenticate(request, username=login, password=password) is None
            checked += 1
    assert checked == 5 * len(addresses)
    # The same at the page.
    attacker = Client(REMOTE_ADDR=addresses[0])
    assert "Too many" in str(sign_in(attacker).context["form"].errors)
    assert not is_in(attacker)
    assert sign_in(known).status_code == 302
    unknown = Client(REMOTE_ADDR="192.0.2.2")
    assert sign_in(unknown).status_code == 302


def code(number: int = 0) -> str:
    return format_hotp_value(hotp_value(SECRET, int(time.time()) // 30 + number))


def test_codes_are_limited_and_the_owner_still_signs_in(alice):
    TOTP.activate(alice, SECRET)
    victim = Client(REMOTE_ADDR="192.0.2.1")
    sign_in(victim)
    assert victim.post("/accounts/2fa/authenticate/", {"code": code()}).status_code == 302
    assert is_in(victim)
    victim.post("/accounts/logout/")
    refused = 0
    for number in range(12):
        attacker = Client(REMOTE_ADDR=f"198.51.100.{number}")
        sign_in(attacker)  # who knows the password
        for guess in range(6):
            page = attacker.post("/accounts/2fa/authenticate/", {"code": f"{guess:06}"})
            refused += "Too many" in page.text
    # 5 at each address, 50 in all.
    assert refused == 12 * 6 - 50
    stranger = Client(REMOTE_ADDR="198.51.100.99")
    sign_in(stranger)
    page = stranger.post("/accounts/2fa/authenticate/", {"code": code(1)})
    assert "Too many" in page.text
    sign_in(victim)
    assert victim.post("/accounts/2fa/authenticate/", {"code": code(1)}).status_code == 302
    assert is_in(victim)


def test_sign_up_and_links_are_limited_by_address(site):
    site(signup_mode="approval")
    passwords = {"password1": PASSWORD, "password2": PASSWORD}
    url = re.sub(r"^https?://[^/]+", "", invitations.create(by=None)[1])
    for action, most, address in (("/accounts/signup/", 20, "192.0.2.5"), (url, 60, "192.0.2.6")):
        for number in range(most):
            ratelimited = Client(REMOTE_ADDR=address)
            page = ratelimited.post(action, {"username": f"user{number}", "password1": "x"})
            assert page.status_code == 200
        # Input with errors does not count.
        assert "Too many" not in page.text
    client = Client(REMOTE_ADDR="192.0.2.5")
    for number in range(20):
        client.post("/accounts/signup/", {"username": f"user{number}", **passwords})
    page = client.post("/accounts/signup/", {"username": "last", **passwords})
    assert "Too many attempts from your address" in page.text
    assert User.objects.filter(is_active=False).count() == 20


@pytest.mark.parametrize("header", ["203.0.113.9", "203.0.113.9, 10.0.0.1", "::1"])
def test_a_forged_forwarded_for_changes_nothing(header):
    """The address under which attempts are counted is the peer's, unless a trusted proxy says."""
    scope = {
        "type": "http",
        "client": ("198.51.100.7", 1234),
        "headers": [(b"x-forwarded-for", header.encode())],
    }
    trusted = [ip_network("10.0.0.0/8")]
    for networks in ([], trusted):
        assert proxies.with_client(scope, networks)["client"][0] == "198.51.100.7"
    client = Client(REMOTE_ADDR="198.51.100.7", headers={"X-Forwarded-For": header})
    for _ in range(5):
        sign_in(client, "wrong", "nobody")
    other = Client(REMOTE_ADDR="198.51.100.7", headers={"X-Forwarded-For": "203.0.113.77"})
    assert "Too many" in sign_in(other, "wrong", "nobody").text
