"""Signing in and out, and what is not reachable."""

import pytest
from django.core.cache import cache
from django.core.management import CommandError, call_command
from django.urls import NoReverseMatch, reverse

from chatsite.accounts.models import User

PASSWORD = "correct horse battery"

pytestmark = pytest.mark.django_db


@pytest.fixture
def alice(db):
    return User.objects.create_user("alice", password=PASSWORD)


@pytest.fixture
def redis(redis_url):
    cache.clear()
    yield
    cache.clear()
    cache.close()


def sign_in(client, **fields):
    return client.post("/accounts/login/", {"login": "alice", "password": PASSWORD} | fields)


@pytest.mark.usefixtures("alice", "redis")
@pytest.mark.parametrize("login", ["alice", "ALICE"])
def test_a_person_signs_in_by_name_whatever_its_case(client, login):
    response = sign_in(client, login=login)
    assert (response.status_code, response.url) == (302, "/")


@pytest.mark.usefixtures("alice", "redis")
@pytest.mark.parametrize(
    ("after", "target"),
    [("/c/1/", "/c/1/"), ("https://evil.example/", "/"), ("//evil.example/", "/")],
)
def test_after_sign_in_one_stays_on_the_site(client, after, target):
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
def test_an_inactive_person_does_not_get_in(client, alice):
    User.objects.update(is_active=False)
    sign_in(client)
    assert "_auth_user_id" not in client.session


@pytest.mark.usefixtures("alice", "redis")
def test_guessing_is_slowed_down(client):
    for _ in range(12):
        response = sign_in(client, password="wrong")
    assert "Too many" in str(response.context["form"].errors)
    assert sign_in(client).status_code == 200  # the right one is refused too, for a while


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
def test_a_person_changes_their_password_and_stays_signed_in(client, alice):
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


def test_who_has_no_password_here_can_not_set_one(client, alice):
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
        "password/reset/",
        "password/set/",
        "confirm-email/",
        "login/code/",
        "reauthenticate/",
        "",
    ],
)
def test_what_needs_mail_or_opens_the_door_is_not_there(client, alice, path):
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
    def test_a_name_that_is_taken_is_said(self, alice, name):
        with pytest.raises(CommandError, match="already"):
            self.create("--username", name)
