"""Django settings that follow from the environment."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.stack import ROOT

NAMES = (
    *("SESSION_COOKIE_NAME", "SESSION_COOKIE_SECURE", "CSRF_COOKIE_NAME", "CSRF_COOKIE_SECURE"),
    *("DEVICE_COOKIE_NAME", "LANGUAGE_COOKIE_SECURE", "SECURE_HSTS_SECONDS", "ALLOWED_HOSTS"),
)


def settings(folder: Path, **values: str) -> dict[str, object]:
    """Load the settings in a separate process, with ``values`` in its environment."""
    clean = {name: text for name, text in os.environ.items() if not name.startswith("CHATSITE_")}
    code = (
        "import json; from chatsite import settings;"
        f"print(json.dumps({{name: getattr(settings, name, None) for name in {NAMES}}}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**clean, "CHATSITE_DATA_DIR": str(folder), **values},
        capture_output=True,
        check=True,
    )
    found: dict[str, object] = json.loads(done.stdout)
    return found


def test_under_tls_cookies_belong_to_the_host_and_browsers_remember_https(tmp_path: Path) -> None:
    found = settings(tmp_path, CHATSITE_ORIGINS="https://chat.example.org", CHATSITE_PORT="8123")
    assert found["SESSION_COOKIE_NAME"] == "__Host-chatsite_session_8123"
    assert found["CSRF_COOKIE_NAME"] == "__Host-chatsite_csrf_8123"
    assert found["DEVICE_COOKIE_NAME"] == "__Host-chatsite_device_8123"
    assert found["SESSION_COOKIE_SECURE"] is found["CSRF_COOKIE_SECURE"] is True
    assert found["LANGUAGE_COOKIE_SECURE"] is True
    assert found["SECURE_HSTS_SECONDS"] == 31_536_000


@pytest.mark.parametrize("origins", ["", "http://chat.example.org,https://chat.example.org"])
def test_without_tls_alone_cookies_work_over_http(tmp_path: Path, origins: str) -> None:
    found = settings(tmp_path, CHATSITE_ORIGINS=origins)
    assert found["SESSION_COOKIE_NAME"] == "chatsite_session_8000"
    assert found["SESSION_COOKIE_SECURE"] is False
    assert found["SECURE_HSTS_SECONDS"] is None


def test_hsts_can_be_switched_off(tmp_path: Path) -> None:
    origins = "https://chat.example.org"
    found = settings(tmp_path, CHATSITE_ORIGINS=origins, CHATSITE_HSTS_SECONDS="0")
    assert found["SECURE_HSTS_SECONDS"] == 0


def test_t103_django_gets_ipv6_hosts_in_brackets(tmp_path: Path) -> None:
    origins = "https://[2001:db8::7]:8443"
    found = settings(tmp_path, CHATSITE_HOST="::1", CHATSITE_ORIGINS=origins)
    assert found["ALLOWED_HOSTS"] == ["127.0.0.1", "[2001:db8::7]", "[::1]", "localhost"]
