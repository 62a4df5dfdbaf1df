"""Second factors: set up, used, required, reset."""

import re
import time

import pytest
from allauth.mfa.models import Authenticator
from allauth.mfa.totp.internal.auth import TOTP, format_hotp_value, hotp_value
from asgiref.sync import async_to_sync
from django.contrib.auth.models import Group
from django.core import mail as django_mail
from django.core.management import call_command
from django.test import Client

from chatsite.accounts import identity, keys, mfa_adapter, second_factor
from chatsite.accounts.models import GroupProfile, User

PASSWORD = "correct horse battery"
SECRET = "JBSWY3DPEHPK3PXP" * 2

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("redis")]


@pytest.fixture
def alice():
    return User.objects.create_user("alice", "alice@example.org", PASSWORD)


def sign_in(client, login="alice", password=PASSWORD):
    return client.post("/accounts/login/", {"login": login, "password": password})


def code(secret: str = SECRET) -> str:
    return format_hotp_value(hotp_value(secret, int(time.time()) // 30))


def set_up(client) -> list[str]:
    """Set up an authenticator app; return the recovery codes."""
    page = client.get("/accounts/2fa/app/")
    secret = page.context["form"].secret
    page = client.post("/accounts/2fa/app/", {"code": code(secret)}, follow=True)
    return re.findall(r"<code>(\d{8})</code>", page.text)


@pytest.mark.usefixtures("alice", "mailing")
def test_set_up_and_sign_in_with_a_recovery_code(
    client, audited, django_capture_on_commit_callbacks
):
    sign_in(client)
    page = client.get("/accounts/2fa/app/")
    assert '<svg class="qr"' in page.text
    assert "style=" not in page.context["totp_svg"]
    with django_capture_on_commit_callbacks(execute=True):
        codes = set_up(client)
    assert len(codes) == 10
    stored = Authenticator.objects.get(type="totp").data["secret"]
    assert page.context["form"].secret not in stored
    assert "second factor was added" in django_mail.outbox[-1].subject
    other = Client()
    assert sign_in(other)["Location"] == "/accounts/2fa/authenticate/"
    assert "_auth_user_id" not in other.session
    assert "Incorrect" in other.post("/accounts/2fa/authenticate/", {"code": "000000"}).text
    assert audited.last("auth.login_failed")["details"]["reason"] == "wrong_code"
    answer = other.post("/accounts/2fa/authenticate/", {"code": codes[0]})
    assert answer.headers["Location"] == "/"
    assert audited.last("mfa.recovery_code_used")["details"]["left"] == 9
    again = Client()
    sign_in(again)
    assert "Incorrect" in again.post("/accounts/2fa/authenticate/", {"code": codes[0]}).text
    assert {"mfa.added", "mfa.recovery_code_used"} <= set(audited.kinds())


def test_a_code_works_once(alice):
    TOTP.activate(alice, SECRET)
    first, second = Client(), Client()
    used = code()
    for client, status in ((first, 302), (second, 200)):
        sign_in(client)
        answer = client.post("/accounts/2fa/authenticate/", {"code": used})
        assert answer.status_code == status


def test_a_change_of_the_secret_key_refuses_codes(alice, settings, caplog):
    TOTP.activate(alice, SECRET)
    settings.SECRET_KEY = "another key" * 5
    client = Client()
    sign_in(client)
    assert "Incorrect" in client.post("/accounts/2fa/authenticate/", {"code": code()}).text
    assert "can't be decrypted" in caplog.text
    adapter = mfa_adapter.MfaAdapter()
    assert adapter.decrypt("nonsense") != adapter.decrypt("nonsense")


def test_later_changes_ask_for_the_password_again(client, alice, settings):
    sign_in(client)
    settings.ACCOUNT_REAUTHENTICATION_TIMEOUT = 0
    answer = client.get("/accounts/2fa/app/")
    assert answer.url.startswith("/accounts/reauthenticate/")
    page = client.post(answer.url, {"password": "wrong"})
    assert page.context["form"].errors
    settings.ACCOUNT_REAUTHENTICATION_TIMEOUT = 300
    assert client.post(answer.url, {"password": PASSWORD})["Location"] == "/accounts/2fa/app/"


@pytest.mark.parametrize("by", ["site", "group"])
def test_who_must_have_one_can_do_nothing_else(client, alice, site, by):
    sign_in(client)
    if by == "site":
        site(mfa_required="everyone")
    else:
        group = Group.objects.create(name="team")
        profile = GroupProfile.objects.get(group=group)
        profile.mfa_required = True
        profile.save()
        alice.groups.add(group)
    html = {"Accept": "text/html"}
    for path in ("/", "/accounts/", "/accounts/keys/", "/accounts/sessions/"):
        assert client.get(path, headers=html)["Location"] == "/accounts/2fa/", path
    answer = client.post("/accounts/keys/", {"name": "x"}, headers=html)
    assert answer.json()["error"]["code"] == "second_factor_required"
    assert "requires a second factor" in client.get("/accounts/2fa/", headers=html).text
    socket_user = async_to_sync(identity.session_user)
    assert socket_user(client.session.session_key) is None
    # A key that exists keeps working.
    _key, text = keys.create(alice)
    assert keys.caller(text, "chat").user == alice
    set_up(client)
    assert client.get("/accounts/keys/", headers=html).status_code == 200
    assert socket_user(client.session.session_key) == alice


def test_required_for_administrators_alone(alice, site):
    site(mfa_required="administrators")
    root = User.objects.create_superuser("root", password=PASSWORD)
    assert second_factor.required(root)
    assert not second_factor.required(alice)


def test_sessions_of_an_identity_provider_are_exempt(alice, site):
    site(mfa_required="everyone")
    session = {"account_authentication_methods": [{"method": "socialaccount"}]}
    assert not second_factor.must_set_up(alice, session)
    assert second_factor.must_set_up(alice, {})


@pytest.mark.usefixtures("mailing")
def test_an_administrator_resets_it(client, alice, audited, capsys):
    sign_in(client)
    set_up(client)
    call_command("people", "reset-mfa", "alice")
    assert "1 second factors of alice" in capsys.readouterr().out
    assert not Authenticator.objects.exists()
    assert client.get("/accounts/sessions/").status_code == 302
    assert audited.last("mfa.reset")["target_name"] == "alice"
    assert sign_in(client)["Location"] == "/"
    assert "removed your second factors" in django_mail.outbox[-1].subject


def test_where_nothing_is_required_a_page_costs_no_query(client, alice, django_assert_num_queries):
    client.force_login(alice)
    client.get("/accounts/inactive/")
    with django_assert_num_queries(0):
        assert not second_factor.possible()
        assert not second_factor.required(alice)


def test_passkeys_of_other_users_are_missing(client, alice):
    eve = User.objects.create_user("eve", password=PASSWORD)
    key = Authenticator.objects.create(user=eve, type="webauthn", data={"name": "x"})
    sign_in(client)
    for action in ("edit", "remove"):
        assert client.post(f"/accounts/2fa/passkeys/{key.pk}/{action}/").status_code == 404
    assert Authenticator.objects.filter(pk=key.pk).exists()
