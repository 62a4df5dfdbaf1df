"""Hashes of passwords: argon2, upgrades, and how many are computed at the same time."""

import threading

import pytest
from django.contrib.auth.hashers import PBKDF2PasswordHasher, make_password
from django.test import Client

from chatsite.accounts import hashers
from chatsite.accounts.models import User
from chatsite.errors import ServerBusy

PASSWORD = "correct horse battery"
OURS = [
    "chatsite.accounts.hashers.Argon2Hasher",
    "chatsite.accounts.hashers.BoundedPBKDF2Hasher",
]

pytestmark = pytest.mark.django_db


@pytest.fixture
def ours(settings):
    settings.PASSWORD_HASHERS = OURS


def old_user() -> User:
    """Create a user whose hash an earlier release made."""
    user = User.objects.create_user("alice")
    User.objects.filter(pk=user.pk).update(
        password=PBKDF2PasswordHasher().encode(PASSWORD, "salt" * 6, iterations=1000)
    )
    return User.objects.get(pk=user.pk)


@pytest.mark.usefixtures("ours")
def test_a_new_password_is_hashed_by_argon2() -> None:
    encoded = make_password(PASSWORD)
    assert encoded.startswith("argon2$argon2id$v=19$m=32768,t=3,p=1$")
    user = User.objects.create_user("alice", password=PASSWORD)
    assert user.check_password(PASSWORD)
    assert not user.check_password("wrong")


@pytest.mark.usefixtures("ours", "redis")
def test_a_sign_in_upgrades_the_hash_and_ends_no_session() -> None:
    user = old_user()
    first, second = Client(), Client()
    first.force_login(user)
    response = second.post("/accounts/login/", {"login": "alice", "password": PASSWORD})
    assert response.status_code == 302
    user.refresh_from_db()
    assert user.password.startswith("argon2$")
    assert user.check_password(PASSWORD)
    for client in (first, second):
        assert client.get("/accounts/sessions/").status_code == 200
    # A new password ends them.
    user.set_password("another horse")
    user.save(update_fields=["password"])
    assert first.get("/accounts/sessions/").status_code == 302


def test_few_passwords_are_hashed_at_the_same_time(monkeypatch) -> None:
    together, most, lock = 0, 0, threading.Lock()
    go = threading.Event()

    def encode(_self, _password, _salt):
        nonlocal together, most
        with lock:
            together += 1
            most = max(most, together)
        go.wait(60)
        with lock:
            together -= 1
        return ""

    monkeypatch.setattr("django.contrib.auth.hashers.Argon2PasswordHasher.encode", encode)
    threads = [
        threading.Thread(target=hashers.Argon2Hasher().encode, args=("x", "s")) for _ in range(20)
    ]
    for thread in threads:
        thread.start()
    go.set()
    for thread in threads:
        thread.join(60)
    assert 1 <= most <= hashers.CONCURRENT


def test_a_burst_is_refused_rather_than_queued_without_end(monkeypatch) -> None:
    monkeypatch.setattr(hashers, "WAITING_MAX", 0)
    with pytest.raises(ServerBusy):
        hashers.Argon2Hasher().encode("x", "salt" * 6)


@pytest.mark.usefixtures("ours", "redis")
def test_the_page_says_so(client, monkeypatch) -> None:
    User.objects.create_user("alice", password=PASSWORD)
    monkeypatch.setattr(hashers, "WAITING_MAX", 0)
    form = {"login": "alice", "password": PASSWORD}
    response = client.post("/accounts/login/", form, follow=True)
    assert "right now" in response.text
    assert "_auth_user_id" not in client.session
