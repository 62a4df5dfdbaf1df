"""Signing in and out, and pages that are not reachable."""

import pytest
from django.conf import settings
from django.core.management import CommandError, call_command
from django.test import Client
from django.urls import NoReverseMatch, reverse

from chatsite.accounts.models import User

PASSWORD = "correct horse battery"

pytestmark = pytest.mark.django_db


@pytest.fixture
def alice(db):
    return User.objects.create_user("alice", password=PASSWORD)


def sign_in(client, **fields):
    return client.post("/accounts/login/", {"login": "alice", "password": PASSWORD} | fields)


@pytest.mark.usefixtures("alice", "redis")
@pytest.mark.parametrize("login", ["alice", "ALICE"])
def test_a_user_signs_in_by_name_in_any_case(client, login):
    response = sign_in(client, login=login)
    assert (response.status_code, response.url) == (302, "/")


@pytest.mark.usefixtures("alice", "redis")
@pytest.mark.parametrize(
    ("after", "target"),
    [("/c/1/", "/c/1/"), ("https://evil.example/", "/"), ("//evil.example/", "/")],
)
def test_sign_in_redirects_only_within_the_site(client, after, target):
    assert sign_in(client, next=after).url == target


@pytest.mark.usefixtures("alice", "redis")
@pytest.mark.parametrize(
    "fields", [{"password": "wrong"}, {"login": "nobody"}, {"login": "x\0"}, {"password": ""}]
)
def test_wrong_credentials_get_the_form_again(client, fields):
    response = sign_in(client, **fields)
    assert response.status_code == 200
    assert response.context["form"].errors


@pytest.mark.usefixtures("redis")
def test_an_inactive_user_can_not_sign_in(client, alice):
    User.objects.update(is_active=False)
    sign_in(client)
    assert "_auth_user_id" not in client.session


def is_refused(response) -> bool:
    """Return whether the attempt was refused by the rate limit, whatever the password."""
    return response.status_code == 200 and "Too many" in str(response.context["form"].errors)


def guess(times, *, address, login="alice"):
    """Try wrong passwords from ``address`` and return the last response."""
    for _ in range(times):
        client = Client(REMOTE_ADDR=address)
        response = sign_in(client, login=login, password="wrong")
    return response


@pytest.mark.usefixtures("alice", "redis")
def test_guessing_is_slowed_down():
    assert not is_refused(guess(5, address="10.0.0.5"))
    assert is_refused(guess(1, address="10.0.0.5"))
    # The right password is refused at that address too, for a while.
    assert is_refused(sign_in(Client(REMOTE_ADDR="10.0.0.5")))


@pytest.mark.usefixtures("alice", "redis")
def test_m3_guessing_at_one_address_does_not_lock_out_the_user_at_another():
    assert is_refused(guess(8, address="10.0.0.5"))
    assert sign_in(Client(REMOTE_ADDR="10.0.0.6")).status_code == 302


@pytest.mark.usefixtures("alice", "redis")
def test_m3_guessing_many_names_is_slowed_down_by_address():
    for number in range(21):
        last = guess(1, address="10.0.0.5", login=f"user{number}")
    assert is_refused(last)


@pytest.mark.usefixtures("alice", "redis")
def test_m3_a_known_device_can_sign_in_beside_an_attacker_at_the_same_address():
    """As behind a proxy missing in CHATSITE_TRUSTED_PROXIES, where all share one address."""
    known = Client(REMOTE_ADDR="10.0.0.5")
    assert sign_in(known).status_code == 302
    known.post("/accounts/logout/")
    assert is_refused(guess(30, address="10.0.0.5"))
    assert sign_in(known).status_code == 302


@pytest.mark.usefixtures("redis")
def test_m3_a_device_cookie_counts_for_its_own_user_alone(alice):
    User.objects.create_user("mallory", password=PASSWORD)
    attacker = Client(REMOTE_ADDR="10.0.0.5")
    assert sign_in(attacker, login="mallory").status_code == 302
    attacker.post("/accounts/logout/")
    for _ in range(5):
        assert not is_refused(sign_in(attacker, password="wrong"))
    assert is_refused(sign_in(attacker, password="wrong"))


@pytest.mark.usefixtures("alice", "redis")
def test_m3_a_known_device_is_limited_too():
    known = Client(REMOTE_ADDR="10.0.0.5")
    sign_in(known)
    known.post("/accounts/logout/")
    for _ in range(10):
        assert not is_refused(sign_in(known, password="wrong"))
    assert is_refused(sign_in(known, password="wrong"))
    # A forged cookie does not help either.
    forged = Client(REMOTE_ADDR="10.0.0.7")
    forged.cookies[settings.DEVICE_COOKIE_NAME] = "x" * 60
    assert sign_in(forged).status_code == 302


@pytest.mark.usefixtures("alice", "redis")
def test_successful_sign_ins_use_up_no_limit():
    for _ in range(30):
        assert sign_in(Client(REMOTE_ADDR="10.0.0.5")).status_code == 302


@pytest.mark.usefixtures("alice")
def test_without_redis_sign_in_says_so(client, settings, caplog):
    settings.CACHES = {
        "default": {
            "BACKEND": "django.core.cache.backends.redis.RedisCache",
            "LOCATION": "unix:///nowhere/redis.sock",
        }
    }
    response = client.post(
        "/accounts/login/",
        {"login": "alice", "password": PASSWORD, "next": "/c/1/"},
        follow=True,
    )
    assert "right now" in response.text
    assert response.redirect_chain == [("/accounts/login/?next=%2Fc%2F1%2F", 302)]
    assert "_auth_user_id" not in client.session


def test_sign_out_needs_a_post(client, alice):
    client.force_login(alice)
    client.get("/accounts/logout/")
    assert "_auth_user_id" in client.session
    response = client.post("/accounts/logout/")
    assert response.url == "/accounts/login/"
    assert "_auth_user_id" not in client.session


@pytest.mark.usefixtures("redis")
def test_a_user_changes_their_password_and_stays_signed_in(client, alice):
    client.force_login(alice)
    assert client.get("/accounts/password/change/").status_code == 200
    new = "another horse battery"
    response = client.post(
        "/accounts/password/change/",
        {"oldpassword": PASSWORD, "password1": new, "password2": new},
    )
    assert response.status_code == 302
    alice.refresh_from_db()
    assert alice.check_password(new)
    assert client.get("/accounts/password/change/").status_code == 200


def test_a_user_without_a_password_can_not_set_one(client, alice):
    alice.set_unusable_password()
    alice.save()
    client.force_login(alice)
    assert client.get("/accounts/password/change/").status_code == 404


def test_a_stranger_changes_no_password(client):
    assert client.get("/accounts/password/change/").url.startswith("/accounts/login/")


@pytest.mark.parametrize(
    "path",
    [
        "signup/",
        "email/",
        "password/set/",
        "confirm-email/",
        "login/code/",
        "2fa/trust/",
        "2fa/passkeys/signup/",
        "password/reset/key/1-set-password/",
        "3rdparty/",
    ],
)
def test_pages_of_allauth_that_are_not_in_use_do_not_exist(client, alice, path):
    assert client.get(f"/accounts/{path}").status_code == 404
    client.force_login(alice)
    assert client.post(f"/accounts/{path}").status_code == 404


def test_sign_up_has_no_name_either():
    with pytest.raises(NoReverseMatch):
        reverse("account_signup")


class TestCreateSuperuser:
    @pytest.fixture(autouse=True)
    def _password(self, monkeypatch):
        monkeypatch.setenv("DJANGO_SUPERUSER_PASSWORD", PASSWORD)

    def create(self, *arguments):
        call_command("createsuperuser", "--noinput", *arguments, verbosity=0)

    def test_it_needs_a_name_and_no_mail(self, monkeypatch):
        monkeypatch.setenv("DJANGO_SUPERUSER_USERNAME", "root")
        self.create()
        user = User.objects.get()
        assert (user.username, user.email, user.is_superuser) == ("root", "", True)
        assert user.check_password(PASSWORD)

    def test_it_takes_an_address_as_django_does(self, monkeypatch):
        self.create("--username", "a", "--email", "a@example.org")
        monkeypatch.setenv("DJANGO_SUPERUSER_EMAIL", "b@example.org")
        self.create("--username", "b")
        emails = User.objects.order_by("username").values_list("email", flat=True)
        assert list(emails) == ["a@example.org", "b@example.org"]

    @pytest.mark.parametrize("name", ["alice", "Alice"])
    def test_a_taken_name_is_reported(self, alice, name):
        with pytest.raises(CommandError, match="already"):
            self.create("--username", name)
