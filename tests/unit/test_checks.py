"""System checks find problems before they cause failures."""

import shutil
from ipaddress import ip_network
from types import SimpleNamespace

import pytest

from chatsite import checks
from chatsite.accounts.models import User

PROXY = (ip_network("127.0.0.1"),)


def ids(check) -> set[str]:
    found = check(None)
    assert all(problem.hint for problem in found)
    return {problem.id for problem in found}


@pytest.fixture
def data_dir(settings, tmp_path):
    settings.DATA_DIR = tmp_path / "data"
    settings.DATA_DIR.mkdir(mode=0o700)
    return settings.DATA_DIR


@pytest.fixture
def environment(settings):
    def change(**values):
        settings.ENV = settings.ENV.model_copy(update={"origins": (), **values})

    return change


def test_a_private_folder_with_room_is_fine(data_dir, monkeypatch):
    usage = SimpleNamespace(total=1 << 40, used=0, free=1 << 40)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    assert ids(checks.data_folder) == set()


def test_a_folder_readable_by_others_or_a_full_disk_is_a_warning(data_dir, monkeypatch):
    data_dir.chmod(0o755)
    usage = SimpleNamespace(total=1 << 40, used=0, free=1 << 20)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    assert ids(checks.data_folder) == {"chatsite.W001", "chatsite.W002"}


def test_a_folder_that_can_not_be_made_is_an_error(data_dir, settings):
    (data_dir / "file").touch()
    settings.DATA_DIR = data_dir / "file" / "data"
    assert ids(checks.data_folder) == {"chatsite.E001"}


@pytest.mark.parametrize("key", ["short", "django-insecure-" + "x" * 50, "changeme" * 8])
def test_a_key_that_can_be_guessed_is_an_error(settings, key):
    settings.SECRET_KEY = key
    assert ids(checks.secret_key) == {"chatsite.E002"}


def test_our_own_key_is_fine():
    assert ids(checks.secret_key) == set()


@pytest.mark.parametrize(
    ("debug", "values", "expected"),
    [
        (False, {"host": "127.0.0.1"}, set()),
        (True, {"host": "127.0.0.1", "origins": ("http://localhost:8000",)}, set()),
        (
            True,
            {"origins": ("https://chat.example.org",)},
            {"chatsite.E003", "chatsite.W005"},
        ),
        (True, {"host": "0.0.0.0"}, {"chatsite.E003", "chatsite.W004"}),
        (False, {"origins": ("https://chat.example.org",)}, {"chatsite.W005"}),
        (
            False,
            {
                "origins": ("https://chat.example.org",),
                "trusted_proxies": PROXY,
            },
            set(),
        ),
        (False, {"origins": ("http://chat.example.org",)}, {"chatsite.W003"}),
        (False, {"host": "0.0.0.0"}, {"chatsite.W004"}),
    ],
)
def test_public_addresses_are_warned_about(settings, environment, debug, values, expected):
    settings.DEBUG = debug
    environment(**values)
    assert ids(checks.public_addresses) == expected


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("rights", "expected"),
    [
        ({}, set()),
        ({"is_active": False}, {"chatsite.W006"}),
        ({"is_superuser": True}, {"chatsite.E004"}),
        ({"is_staff": True}, {"chatsite.E004"}),
    ],
)
def test_the_anonymous_user_of_the_api_is_no_administrator(environment, rights, expected):
    User.objects.create_user("guest", password="x", **rights)
    environment(api_anonymous="guest")
    found = checks.anonymous_api(None, databases=["default"])
    assert {problem.id for problem in found} == expected
