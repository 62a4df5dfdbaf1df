"""Settings of the directory are checked at start, with the variable's name."""

from __future__ import annotations

from pathlib import Path

import pytest

from chatsite import env
from chatsite.env import BadSetting, Environment


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Environment.model_fields:
        monkeypatch.delenv(f"CHATSITE_{name.upper()}", raising=False)


OIDC = {"OIDC_ISSUER": "https://login.example.org", "OIDC_CLIENT_ID": "chat"}
LDAP = {"LDAP_URL": "ldaps://ldap.example.org", "LDAP_USER_BASE": "dc=example,dc=org"}


@pytest.mark.parametrize(
    ("values", "variable", "words"),
    [
        ({"OIDC_ISSUER": "login.example.org"}, "OIDC_ISSUER", "must look like https://"),
        ({"OIDC_ISSUER": "http://login.example.org"}, "OIDC_ISSUER", "must begin with https://"),
        (
            {"OIDC_ISSUER": "https://x.org/.well-known/openid-configuration"},
            "OIDC_ISSUER",
            "leave out",
        ),
        ({"OIDC_ISSUER": "https://x.org"}, "OIDC_CLIENT_ID", "is required"),
        ({**OIDC, "OIDC_SCOPES": "profile"}, "OIDC_SCOPES", "must contain openid"),
        ({**OIDC, "OIDC_HOSTS": "https://keys.x.org"}, "OIDC_HOSTS", "host name"),
        ({**OIDC, "OIDC_ROLES": "admins=root"}, "OIDC_ROLES", "must be one of administrator"),
        ({**OIDC, "OIDC_ROLES": "admins"}, "OIDC_ROLES", "name=value"),
        ({**OIDC, "OIDC_CA_FILE": "/nowhere.pem"}, "OIDC_CA_FILE", "not a file"),
        ({"LDAP_URL": "ldap.example.org"}, "LDAP_URL", "must look like ldaps://"),
        ({"LDAP_URL": "ldaps://ldap.example.org"}, "LDAP_USER_BASE", "is required"),
        ({**LDAP, "LDAP_URL": "ldap://ldap.example.org"}, "LDAP_USER_BASE", "unencrypted"),
        ({**LDAP, "LDAP_START_TLS": "1"}, "LDAP_START_TLS", "encrypted already"),
        ({**LDAP, "LDAP_USER_BASE": "people"}, "LDAP_USER_BASE", "must be a DN"),
        ({**LDAP, "LDAP_BIND_DN": "cn=chat"}, "LDAP_BIND_PASSWORD_FILE", "is required"),
        ({**LDAP, "LDAP_USER_FILTER": "(a=b)(c=d)"}, "LDAP_USER_FILTER", "balanced"),
        ({**LDAP, "LDAP_USER_FILTER": "(a=b"}, "LDAP_USER_FILTER", "balanced"),
        ({**LDAP, "LDAP_ATTRIBUTES": "phone=mobile"}, "LDAP_ATTRIBUTES", "must be one of"),
        ({**LDAP, "LDAP_LOGIN_ATTRIBUTES": "uid)(x"}, "LDAP_LOGIN_ATTRIBUTES", "attribute"),
        ({**LDAP, "LDAP_ROLES": "cn=a,dc=x=auditor"}, "LDAP_ALLOWED_GROUPS", "LDAP_GROUP_BASE"),
        ({"DIRECTORY_SYNC_AT": "25:00"}, "DIRECTORY_SYNC_AT", "must look like 02:30"),
        ({"DIRECTORY_SYNC_MAX_PERCENT": "0"}, "DIRECTORY_SYNC_MAX_PERCENT", "greater than"),
    ],
)
def test_a_bad_value_stops_the_start_with_its_name(
    monkeypatch: pytest.MonkeyPatch, values: dict[str, str], variable: str, words: str
) -> None:
    for name, value in values.items():
        monkeypatch.setenv(f"CHATSITE_{name}", value)
    with pytest.raises(BadSetting) as caught:
        env.load()
    assert f"CHATSITE_{variable}=" in str(caught.value)
    assert words in str(caught.value)


def test_secrets_are_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHATSITE_SCIM_TOKEN", "too short")
    with pytest.raises(BadSetting) as caught:
        env.load()
    assert "at least 32" in str(caught.value)
    assert "too short" not in str(caught.value)


def test_values_are_parsed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.write_text("secret\n")
    for name, value in {
        **OIDC,
        **LDAP,
        "LDAP_BIND_DN": "chat@corp.example.org",
        "LDAP_BIND_PASSWORD_FILE": str(password),
        "LDAP_GROUP_BASE": "ou=groups,dc=example,dc=org",
        "LDAP_ROLES": "cn=admins,dc=x=administrator; ml = auditor",
        "LDAP_ATTRIBUTES": "username=cn",
        "LDAP_KIND": "active_directory",
    }.items():
        monkeypatch.setenv(f"CHATSITE_{name}", value)
    found = env.load()
    assert found.ldap_roles == (("cn=admins,dc=x", "administrator"), ("ml", "auditor"))
    assert (found.ldap_fields["username"], found.ldap_fields["id"]) == ("cn", "objectGUID")
    assert found.has_directory


def test_open_id_connect_alone_can_not_be_asked_for_leavers() -> None:
    values = {"oidc_issuer": "https://x.org", "oidc_client_id": "c"}
    assert not Environment.model_validate(values).has_directory
    assert Environment.model_validate({**values, "directory_unseen_days": 30}).has_directory


def test_ldap_without_its_packages_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(env, "find_spec", lambda _name: None)
    with pytest.raises(BadSetting, match="make setup EXTRAS=ldap"):
        env.require_ldap()
