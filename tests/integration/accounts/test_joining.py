"""Invitations, sign-up, password reset: from the link to the account."""

import re
from datetime import timedelta

import pytest
from django.contrib.auth.models import Group
from django.core import mail as django_mail
from django.core.exceptions import ValidationError
from django.core.management import CommandError, call_command
from django.test import Client
from django.utils import timezone

from chatsite.accounts import invitations, links, mail, signup
from chatsite.accounts.models import AccountLink, Invitation, SignUp, User
from chatsite.accounts.roles import Role
from chatsite.env import BadSetting, load
from chatsite.management.commands.doctor import findings
from tests.support.mail_sink import mail_sink

PASSWORD = "correct horse battery"
PASSWORDS = {"password1": PASSWORD, "password2": PASSWORD}
NEW = {"new_password1": "another horse battery", "new_password2": "another horse battery"}

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("redis")]


@pytest.fixture
def alice():
    return User.objects.create_user("alice", "alice@example.org", PASSWORD)


@pytest.fixture
def root():
    return User.objects.create_superuser("root", "root@example.org", PASSWORD)


def path(url: str) -> str:
    return re.sub(r"^https?://[^/]+", "", url)


def mailed(to: str) -> str:
    """Return the path of the link in the newest mail to an address."""
    body = [one.body for one in django_mail.outbox if one.to == [to]][-1]
    return path(re.findall(r"https?://\S+", str(body))[0])


def sign_in(client, login="alice", password=PASSWORD):
    return client.post("/accounts/login/", {"login": login, "password": password})


# Invitations.


def test_an_invitation_becomes_an_account_once(client, root, audited):
    team = Group.objects.create(name="team")
    invitation, url = invitations.create(
        by=root,
        email="bo@example.org",
        username="bo",
        first_name="Bo",
        role=Role.AUDITOR,
        groups=[team],
    )
    token = url.rstrip("/").rpartition("/")[2]
    assert token not in str(Invitation.objects.values())
    page = client.get(path(url))
    assert 'value="bo@example.org"' in page.text
    form = {"username": "bo", "email": "eve@example.org", "first_name": "Bo", **PASSWORDS}
    assert client.post(path(url), form).url == "/"
    user = User.objects.get(username="bo")
    assert (user.email, user.effective_role) == ("bo@example.org", Role.AUDITOR)
    assert list(user.groups.all()) == [team]
    assert client.session["_auth_user_id"] == str(user.pk)
    for again in (Client().get(path(url)), Client().post(path(url), {**form, "username": "x"})):
        assert again.status_code == 404
    assert User.objects.count() == 2
    invitation.refresh_from_db()
    assert invitation.accepted_by == user
    assert audited.last("invitation.accepted")["actor_name"] == "bo"
    assert audited.last("invitation.created")["actor_name"] == "root"


def test_revoked_and_expired_invitations_are_refused(client, root):
    first, url = invitations.create(by=root)
    assert invitations.revoke(first, by=root)
    assert not invitations.revoke(first, by=root)
    second, other = invitations.create(by=root)
    Invitation.objects.filter(pk=second.pk).update(expires_at=timezone.now() - timedelta(days=1))
    for one in (url, other):
        assert client.get(path(one)).status_code == 404
    assert not invitations.pending().exists()


@pytest.mark.usefixtures("alice")
@pytest.mark.parametrize(
    "values",
    [
        {"email": "ALICE@example.org"},
        {"username": "Alice"},
        {"username": "a b"},
        {"email": "nonsense"},
        {"username": "alice@example.org"},
        {"days": 0},
        {"role": "king"},
    ],
)
def test_an_invitation_that_can_not_become_an_account_is_refused(values):
    with pytest.raises(ValidationError):
        invitations.create(by=None, **values)


def test_a_taken_name_keeps_the_invitation(client, alice):
    _invitation, url = invitations.create(by=None, email="bo@example.org")
    for name in ("alice", "ALICE", "alice@example.org"):
        page = client.post(path(url), {"username": name, **PASSWORDS})
        assert page.context["form"].errors["username"], name
    assert client.post(path(url), {"username": "bo", **PASSWORDS}).status_code == 302


def test_the_command_invites_and_resets(capsys, alice, audited):
    call_command("people", "invite", "bo@example.org", "--role", "auditor", "--days", "3")
    assert invitations.find(capsys.readouterr().out.strip().rstrip("/").rpartition("/")[2])
    with pytest.raises(CommandError, match="no group nobody"):
        call_command("people", "invite", "--group", "nobody")
    with pytest.raises(CommandError, match="No mail server"):
        call_command("people", "invite", "cy@example.org", "--send")
    capsys.readouterr()
    call_command("people", "reset-password", "alice@example.org")
    url = capsys.readouterr().out.strip()
    assert Client().get(path(url)).status_code == 200
    with pytest.raises(CommandError, match="no user"):
        call_command("people", "reset-mfa", "nobody")
    assert audited.last("invitation.created")["via"] == "cli"


# Sign-up.


def test_sign_up_is_closed_at_first(client, site, root):
    assert client.get("/accounts/signup/").status_code == 404
    site(signup_mode="domain", signup_domains=("example.org",))
    assert signup.mode() == "closed"  # without a mail server
    site(signup_mode="approval")
    assert "Create an account" in client.get("/accounts/login/").text
    site(local_passwords="administrators_only")
    assert client.get("/accounts/signup/").status_code == 404


@pytest.mark.usefixtures("mailing")
def test_sign_up_by_approval(client, root, site, audited):
    site(signup_mode="approval")
    form = {"username": "bo", "email": "bo@example.org", **PASSWORDS}
    assert client.post("/accounts/signup/", form).url.endswith("/waiting/approval/")
    user = User.objects.get(username="bo")
    assert not user.is_active
    # The right password leads to the page that says so, a wrong one does not.
    assert sign_in(client, "bo").url.endswith("/waiting/approval/")
    assert sign_in(client, "bo", "wrong").status_code == 200
    assert [one.user for one in signup.pending()] == [user]
    assert signup.approve(user, by=root)
    assert not signup.approve(user, by=root)
    assert "approved" in django_mail.outbox[-1].subject
    assert sign_in(client, "bo").url == "/"
    assert audited.last("signup.approved")["target_name"] == "bo"


def test_a_refused_sign_up_is_deleted(client, root, site, alice):
    site(signup_mode="approval")
    client.post("/accounts/signup/", {"username": "bo", **PASSWORDS})
    assert signup.refuse(User.objects.get(username="bo"), by=root)
    assert not User.objects.filter(username="bo").exists()
    # Users who do not wait are not deleted.
    assert not signup.refuse(alice, by=root)
    assert User.objects.filter(pk=alice.pk).exists()


@pytest.mark.usefixtures("mailing", "alice")
def test_sign_up_by_domain_needs_a_confirmed_address(client, site):
    site(signup_mode="domain", signup_domains=("example.org",))
    form = {"username": "bo", "email": "bo@example.com", **PASSWORDS}
    page = client.post("/accounts/signup/", form)
    assert "example.org" in str(page.context["form"].errors["email"])
    form["email"] = "Bo@Example.org"
    assert client.post("/accounts/signup/", form).url.endswith("/waiting/confirmation/")
    assert sign_in(client, "bo").url.endswith("/waiting/confirmation/")
    link = mailed("Bo@example.org")
    client.get(link)  # a scanner of mails
    assert not User.objects.get(username="bo").is_active
    assert client.post(link).status_code == 302
    assert client.post(link).status_code == 404
    assert sign_in(client, "bo").url == "/"
    # Nobody learns which addresses have an account: its owner gets a mail.
    form = {"username": "eve", "email": "alice@example.org", **PASSWORDS}
    answer = Client().post("/accounts/signup/", form)
    assert answer.headers["Location"].endswith("/waiting/confirmation/")
    assert not User.objects.filter(username="eve").exists()
    assert "have an account" in django_mail.outbox[-1].subject


def test_waiting_accounts_are_bounded_and_purged(client, site, monkeypatch):
    site(signup_mode="approval")
    monkeypatch.setattr(signup, "WAITING_MAX", 1)
    client.post("/accounts/signup/", {"username": "bo", **PASSWORDS})
    page = client.post("/accounts/signup/", {"username": "cy", **PASSWORDS})
    assert "Too many people" in page.text
    before = timezone.now() - timedelta(days=4)
    SignUp.objects.update(waiting_for=SignUp.Waiting.CONFIRMATION, created_at=before)
    client.post("/accounts/signup/", {"username": "cy", **PASSWORDS})
    assert list(User.objects.values_list("username", flat=True)) == ["cy"]


# New passwords.


@pytest.mark.usefixtures("mailing")
def test_a_reset_by_mail_ends_all_sessions(client, alice, audited):
    other = Client()
    sign_in(other)
    known = client.post("/accounts/password/reset/", {"email": "ALICE@example.org"})
    unknown = client.post("/accounts/password/reset/", {"email": "nobody@example.org"})
    strip = r'name="csrfmiddlewaretoken" value="\w+"'
    assert re.sub(strip, "", known.text) == re.sub(strip, "", unknown.text)
    assert [one.to for one in django_mail.outbox] == [["alice@example.org"]]
    link = mailed("alice@example.org")
    assert client.post(link, {**NEW, "new_password2": "x"}).context["form"].errors
    assert client.post(link, NEW).url == "/accounts/login/"
    assert client.get(link).status_code == 404
    assert other.get("/accounts/sessions/").status_code == 302
    assert sign_in(client).status_code == 200
    assert sign_in(client, password=NEW["new_password1"]).url == "/"
    assert audited.last("auth.password_changed")["target_name"] == "alice"
    assert "Your password was changed" in django_mail.outbox[-1].subject


@pytest.mark.usefixtures("mailing", "alice")
def test_asking_again_and_again_sends_few_mails(client):
    for _ in range(10):
        client.post("/accounts/password/reset/", {"email": "alice@example.org"})
    assert len(django_mail.outbox) == 3


def test_without_mail_the_page_names_the_administrator(client, alice, root):
    assert "Ask an administrator" in client.get("/accounts/password/reset/").text
    first = links.password_link(alice, by=root)
    second = links.password_link(alice, by=root)
    assert client.get(path(first)).status_code == 404  # the newer one replaces it
    page = client.get(path(second))
    assert page.status_code == 200
    assert "no-store" in page["Cache-Control"]
    User.objects.filter(pk=alice.pk).update(is_active=False)
    assert client.post(path(second), NEW).status_code == 404


@pytest.mark.usefixtures("mailing", "alice")
def test_a_link_in_a_mail_has_the_address_of_the_site(client, settings):
    settings.ENV = settings.ENV.model_copy(update={"origins": ("https://chat.example.org",)})
    client.post("/accounts/password/reset/", {"email": "alice@example.org"})
    assert "https://chat.example.org/accounts/password/new/" in django_mail.outbox[-1].body


@pytest.mark.usefixtures("mailing")
def test_a_new_address_is_confirmed_first(client, alice):
    sign_in(client)
    form = {"first_name": "Alice", "last_name": "", "email": "al@example.org"}
    assert client.post("/accounts/", form).status_code == 302
    alice.refresh_from_db()
    assert (alice.first_name, alice.email) == ("Alice", "alice@example.org")
    client.post(mailed("al@example.org"))
    alice.refresh_from_db()
    assert alice.email == "al@example.org"
    assert AccountLink.objects.get().used_at


def test_sign_in_by_address_needs_a_single_owner(client, alice):
    assert sign_in(client, "ALICE@Example.org").url == "/"
    User.objects.create_user("twin", "alice@example.org", PASSWORD)
    assert sign_in(Client(), "alice@example.org").status_code == 200


def test_passwords_can_be_for_administrators_only(client, alice, root, site, audited):
    site(local_passwords="administrators_only")
    page = sign_in(client)
    assert page.url == "/accounts/login/"
    assert "_auth_user_id" not in client.session
    assert audited.last("auth.login_failed")["details"]["reason"] == "local_passwords"
    assert sign_in(client, "root").url == "/"
    with pytest.raises(ValidationError):
        invitations.create(by=root)


# The mail server.


def test_mails_reach_a_real_server(settings):
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    with mail_sink(login=("chat", "secret")) as sink:
        settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", sink.port
        settings.EMAIL_USE_TLS = settings.EMAIL_USE_SSL = False
        settings.EMAIL_HOST_USER, settings.EMAIL_HOST_PASSWORD = "chat", "secret"
        settings.DEFAULT_FROM_EMAIL = "Chat <chat@example.org>"
        values = {"smtp_host": "127.0.0.1", "smtp_port": sink.port, "smtp_tls": "none"}
        settings.ENV = settings.ENV.model_copy(update=values)
        assert mail.problem() == ""
        mail.send_later(mail.Mail("bo@example.org", "Größe", "你好 https://x.example.org/a\n"))
        got = sink.newest("bo@example.org")
        assert (got["Subject"], got["From"]) == ("Größe", "Chat <chat@example.org>")
        assert sink.link("bo@example.org") == "https://x.example.org/a"
        assert any("accepts the connection" in one.what for one in mail_findings())
        settings.EMAIL_HOST_PASSWORD = "wrong"
        assert "535" in mail.problem()
        assert [one.level for one in mail_findings()] == ["FAIL"]
    assert mail.problem()


def mail_findings():
    return [one for one in findings() if "mail server" in one.what]


@pytest.mark.parametrize(
    ("variables", "named"),
    [
        ({"SMTP_HOST": "mail.example.org"}, "CHATSITE_SMTP_SENDER"),
        ({"SMTP_HOST": "https://x", "SMTP_SENDER": "a@b.c"}, "CHATSITE_SMTP_HOST"),
        ({"SMTP_SENDER": "nonsense"}, "CHATSITE_SMTP_SENDER"),
        ({"SMTP_SENDER": "a@b.c\nBcc: d@e.f"}, "CHATSITE_SMTP_SENDER"),
        ({"SMTP_TLS": "yes"}, "CHATSITE_SMTP_TLS"),
        ({"SMTP_PASSWORD": "secret-one"}, "CHATSITE_SMTP_USER"),
        (
            {
                "SMTP_HOST": "mail.example.org",
                "SMTP_SENDER": "a@b.c",
                "SMTP_USER": "u",
                "SMTP_TLS": "none",
            },
            "unencrypted",
        ),
    ],
)
def test_wrong_settings_stop_the_start(monkeypatch, variables, named):
    for name, value in variables.items():
        monkeypatch.setenv(f"CHATSITE_{name}", value)
    with pytest.raises(BadSetting, match=named) as caught:
        load()
    assert "secret-one" not in str(caught.value)
