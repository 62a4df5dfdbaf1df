"""The connection tests of `manage.py doctor`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from chatsite.accounts.directory.diagnose import diagnose
from tests.support.oidc import LyingProvider
from tests.support.stack import free_port


@pytest.fixture
def liar(configure: Any) -> Iterator[LyingProvider]:
    provider = LyingProvider()
    configure(**provider.settings, origins=("https://chat.example.org",))
    yield provider
    provider.stop()


def found() -> dict[str, str]:
    """Return level and advice by finding."""
    return {what: f"{level} {advice}".strip() for level, what, advice in diagnose()}


def test_nothing_is_tested_without_a_directory() -> None:
    assert found() == {}


def test_a_provider_that_responds(liar: LyingProvider) -> None:
    assert found() == {
        f"OpenID Connect: {liar.issuer} responds": "OK",
        "OpenID Connect: redirect URI to register: "
        "https://chat.example.org/accounts/oidc/callback/": "OK",
    }


def test_hosts_and_issuers_that_differ_are_named_with_the_setting(
    liar: LyingProvider, configure: Any
) -> None:
    liar.document = {"userinfo_endpoint": "https://graph.example.com/me"}
    assert "WARN CHATSITE_OIDC_HOSTS=graph.example.com" in found().values()
    liar.document = {"jwks_uri": "https://keys.example.com/"}
    assert "FAIL CHATSITE_OIDC_HOSTS=keys.example.com" in found().values()
    liar.document = {"issuer": "https://other.example.org"}
    assert list(found().values()) == ["FAIL Set CHATSITE_OIDC_ISSUER=https://other.example.org"]
    configure(oidc_issuer=f"http://127.0.0.1:{free_port()}")
    assert next(iter(found().values())).startswith("FAIL Check CHATSITE_OIDC_ISSUER")


@pytest.mark.usefixtures("ldap_settings")
def test_ldap_servers(slapd: Any, configure: Any) -> None:
    assert found() == {
        f"LDAP: {slapd.url} responds, and the bind is accepted": "OK",
        "LDAP: 5 users are found": "OK",
        "LDAP: 3 groups are found": "OK",
    }
    configure(ldap_user_filter="(objectClass=device)", ldap_group_filter="(cn=none)")
    levels = [value.split()[0] for value in found().values()]
    assert levels == ["OK", "FAIL", "WARN"]
    configure(ldap_url=(f"ldap://127.0.0.1:{free_port()}",))
    assert next(iter(found().values())).startswith("FAIL Check CHATSITE_LDAP_URL")
