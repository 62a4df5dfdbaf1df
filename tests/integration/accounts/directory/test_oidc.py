"""Sign-in with OpenID Connect: a real provider as a process, and one that lies."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import requests
from cryptography.hazmat.primitives.asymmetric import rsa
from django.contrib.auth.models import Group
from django.test import Client
from django.utils import timezone

from chatsite.accounts.directory import oidc, outside
from chatsite.accounts.models import DirectoryIdentity, User
from tests.support.oidc import CLIENT_ID, LyingProvider, ProviderProcess
from tests.support.stack import free_port
from tests.support.tls import certificate

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("redis", "administrator")]

USERS: dict[str, dict[str, Any]] = {
    "0001": {
        "preferred_username": "ann",
        "email": "ann@example.org",
        "email_verified": True,
        "given_name": "Ann",
        "family_name": "Example",
        "groups": ["/staff", "ml"],
    },
    "0002": {"preferred_username": "ann", "email": "ann2@example.org", "groups": ["guests"]},
}


@pytest.fixture(scope="module")
def process() -> Iterator[ProviderProcess]:
    provider = ProviderProcess(USERS)
    yield provider
    provider.stop()


@pytest.fixture(autouse=True)
def fresh_documents() -> None:
    oidc.forget_documents()


@pytest.fixture
def provider(process: ProviderProcess, configure: Any) -> ProviderProcess:
    configure(**process.settings, directory_timeout_seconds=1.0)
    for sub, claims in USERS.items():
        process.set_claims(sub, **claims)
    return process


@pytest.fixture
def liar(configure: Any) -> Iterator[LyingProvider]:
    provider = LyingProvider()
    configure(**provider.settings, directory_timeout_seconds=0.5)
    yield provider
    provider.stop()


def sign_in(client: Client, provider: ProviderProcess, sub: str = "0001", after: str = "") -> Any:
    begun = client.get("/accounts/oidc/login/", {"next": after} if after else {})
    assert begun.status_code == 302, begun.content
    back = urlsplit(provider.sign_in(begun["Location"], sub))
    return client.get(f"{back.path}?{back.query}")


def lied_to(client: Client, liar: LyingProvider) -> Any:
    begun = client.get("/accounts/oidc/login/")
    assert begun.status_code == 302, begun.content
    return client.get(f"/accounts/oidc/callback/?{liar.visit(begun['Location'])}")


def groups_of(name: str) -> set[str]:
    return set(User.objects.get(username=name).groups.values_list("name", flat=True))


def test_the_first_sign_in_creates_the_account_with_groups_and_role(
    client: Client, provider: ProviderProcess, configure: Any, recorded: list[Any]
) -> None:
    configure(oidc_roles=(("ml", "model_manager"),))
    response = sign_in(client, provider, after="/c/1/")
    assert (response.status_code, response["Location"]) == (302, "/c/1/")
    ann = User.objects.get(username="ann")
    assert (ann.email, ann.first_name, ann.last_name) == ("ann@example.org", "Ann", "Example")
    assert not ann.has_usable_password()
    assert groups_of("ann") == {"staff", "ml"}
    assert ann.effective_role == "model_manager"
    assert client.get("/accounts/keys/").status_code == 200
    assert [kind for kind, _ in recorded] == ["user.provisioned", "group.synced"]
    # The claims are not stored.
    assert "example.org" not in str(dict(client.session.items()))


def test_groups_and_role_follow_the_claims_at_each_sign_in(
    provider: ProviderProcess, configure: Any
) -> None:
    configure(oidc_roles=(("ml", "administrator"),))
    sign_in(Client(), provider)
    ann = User.objects.get(username="ann")
    ann.groups.add(Group.objects.create(name="book club"))
    assert ann.is_superuser
    provider.set_claims("0001", **{**USERS["0001"], "groups": ["staff", "new"]})
    sign_in(Client(), provider)
    assert groups_of("ann") == {"staff", "new", "book club"}
    ann.refresh_from_db()
    assert (ann.effective_role, ann.is_superuser) == ("user", False)


def test_the_last_administrator_keeps_the_group(
    provider: ProviderProcess, configure: Any, administrator: User, recorded: list[Any]
) -> None:
    configure(oidc_roles=(("ml", "administrator"),))
    sign_in(Client(), provider)
    administrator.delete()
    provider.set_claims("0001", **{**USERS["0001"], "groups": []})
    assert sign_in(Client(), provider).status_code == 302
    assert groups_of("ann") == {"ml"}
    assert recorded[-1][1]["kept_last_administrator"] == ["ml"]


def test_users_with_the_same_name_get_numbered_accounts(provider: ProviderProcess) -> None:
    sign_in(Client(), provider, "0001")
    sign_in(Client(), provider, "0002")
    sign_in(Client(), provider, "0002")
    assert set(User.objects.values_list("username", flat=True)) == {"root", "ann", "ann-2"}


def test_only_allowed_claims_sign_in(
    provider: ProviderProcess, configure: Any, recorded: list[Any]
) -> None:
    configure(oidc_allowed=(("groups", "staff"), ("department", "IT")))
    assert sign_in(Client(), provider, "0001").status_code == 302
    refused = sign_in(Client(), provider, "0002")
    assert refused.status_code == 403
    assert "may not sign in here" in refused.content.decode()
    assert User.objects.count() == 2
    kind, values = recorded[-1]
    assert (kind, values["outcome"]) == ("auth.login_failed", "denied")


def test_a_local_account_is_linked_by_verified_e_mail_only_where_allowed(
    provider: ProviderProcess, configure: Any
) -> None:
    local = User.objects.create_user("local.ann", email="Ann@Example.org", password="known")
    sign_in(Client(), provider)
    assert User.objects.filter(username="ann").exists()
    User.objects.get(username="ann").delete()
    configure(oidc_link_accounts=True)
    provider.set_claims("0001", **{**USERS["0001"], "email_verified": False})
    sign_in(Client(), provider)
    assert not local.identities.exists()
    User.objects.get(username="ann").delete()
    provider.set_claims("0001", **USERS["0001"])
    sign_in(Client(), provider)
    assert local.identities.get().external_id == "0001"
    # The previous password must no longer open the account.
    local.refresh_from_db()
    assert not local.has_usable_password()


def test_an_administrator_is_never_linked_by_e_mail(
    provider: ProviderProcess, configure: Any, administrator: User
) -> None:
    configure(oidc_link_accounts=True)
    User.objects.filter(pk=administrator.pk).update(email="ann@example.org")
    sign_in(Client(), provider)
    assert not administrator.identities.exists()


def test_a_name_that_a_local_account_has_is_refused_with_advice(provider: ProviderProcess) -> None:
    User.objects.create_user("Ann")
    response = sign_in(Client(), provider)
    assert response.status_code == 403
    assert "An account named ann exists here already" in response.content.decode()


def test_an_account_that_scim_provisioned_is_used(provider: ProviderProcess) -> None:
    provisioned = User.objects.create_user("ann.example")
    DirectoryIdentity.objects.create(user=provisioned, source="scim", external_id="0001")
    sign_in(Client(), provider)
    assert provisioned.identities.filter(source="oidc", external_id="0001").exists()


def test_accounts_are_not_created_where_that_is_off(
    provider: ProviderProcess, configure: Any
) -> None:
    configure(oidc_create_accounts=False)
    assert "no account here yet" in sign_in(Client(), provider).content.decode()


def test_a_disabled_user_is_told_so_and_one_disabled_as_unseen_returns(
    provider: ProviderProcess,
) -> None:
    sign_in(Client(), provider)
    User.objects.filter(username="ann").update(is_active=False)
    assert sign_in(Client(), provider)["Location"] == "/accounts/inactive/"
    DirectoryIdentity.objects.update(disabled_at=timezone.now())
    assert sign_in(Client(), provider)["Location"] == "/"
    assert User.objects.get(username="ann").is_active


def test_cancelling_at_the_provider_is_explained(client: Client, provider: ProviderProcess) -> None:
    begun = client.get("/accounts/oidc/login/")
    back = urlsplit(provider.deny(begun["Location"]))
    response = client.get(f"{back.path}?{back.query}")
    assert response.status_code in {401, 403}
    assert "cancelled" in response.content.decode()


def test_the_button_and_the_direct_way(
    client: Client, provider: ProviderProcess, configure: Any
) -> None:
    page = client.get("/accounts/login/?next=/c/1/").content.decode()
    assert 'href="/accounts/oidc/login/?next=%2Fc%2F1%2F"' in page
    assert "Continue with SSO" in page
    configure(oidc_direct=True)
    assert (
        client.get("/accounts/login/?next=/c/1/")["Location"]
        == "/accounts/oidc/login/?next=%2Fc%2F1%2F"
    )
    assert client.get("/accounts/login/?local").status_code == 200
    sign_in(client, provider)
    # After a sign-out the user is not signed in again at once.
    assert client.post("/accounts/logout/")["Location"] == "/accounts/login/?local=1"
    configure(oidc_issuer="")
    assert client.get("/accounts/oidc/login/").status_code == 404
    assert client.get("/accounts/oidc/callback/").status_code == 404


def test_signing_out_continues_at_the_provider_where_configured(
    client: Client, provider: ProviderProcess, configure: Any
) -> None:
    configure(oidc_sign_out=True)
    sign_in(client, provider)
    page = client.post("/accounts/logout/")
    assert page.status_code == 200
    target = urlsplit(page.context["target"])
    query = parse_qs(target.query)
    assert target.path == "/oauth2/end_session"
    assert query["post_logout_redirect_uri"] == ["http://testserver/accounts/login/"]
    assert query["client_id"] == [CLIENT_ID]
    assert query["id_token_hint"][0].count(".") == 2
    assert client.get("/accounts/keys/").status_code == 302
    # A local user is just signed out.
    client.post("/accounts/login/", {"login": "root", "password": "correct horse battery"})
    assert client.post("/accounts/logout/").status_code == 302


def test_a_callback_that_nobody_began_is_refused(client: Client, provider: ProviderProcess) -> None:
    begun = Client().get("/accounts/oidc/login/")
    back = urlsplit(provider.sign_in(begun["Location"], "0001"))
    response = client.get(f"{back.path}?{back.query}")
    assert response.status_code == 400
    assert not User.objects.filter(username="ann").exists()


def test_a_dead_or_silent_provider_is_a_clear_page(
    client: Client, liar: LyingProvider, configure: Any
) -> None:
    liar.silent.set()
    response = client.get("/accounts/oidc/login/")
    assert response.status_code == 503
    assert "not responding" in response.content.decode()
    assert "/accounts/login/?local" in response.content.decode()
    configure(oidc_issuer=f"http://127.0.0.1:{free_port()}")
    assert client.get("/accounts/oidc/login/").status_code == 503
    # Others are not concerned.
    assert client.get("/accounts/login/").status_code == 200
    liar.silent.clear()
    configure(oidc_issuer=liar.issuer)
    begun = client.get("/accounts/oidc/login/")
    query = liar.visit(begun["Location"])
    liar.silent.set()
    assert client.get(f"/accounts/oidc/callback/?{query}").status_code == 503


def test_an_honest_answer_is_accepted_with_pkce_and_basic_authentication(
    client: Client, liar: LyingProvider
) -> None:
    liar.claims = {"realm_access": {"roles": ["x"]}}
    liar.user_info = {"email": "ann@example.org", "preferred_username": "mallory"}
    assert lied_to(client, liar)["Location"] == "/"
    ann = User.objects.get(username="ann")  # the signed ID token wins
    assert ann.email == "ann@example.org"
    # Discovery and keys are kept for the next sign-in.
    lied_to(Client(), liar)
    assert liar.requests.count("/keys") == 1


def test_the_certificate_of_the_provider_is_checked(
    client: Client, configure: Any, tmp_path: Path
) -> None:
    own = certificate(tmp_path)
    provider = LyingProvider(tls=own)
    try:
        configure(**provider.settings, directory_timeout_seconds=2.0)
        assert client.get("/accounts/oidc/login/").status_code == 503
        configure(oidc_ca_file=own.chain)
        assert lied_to(client, provider)["Location"] == "/"
    finally:
        provider.stop()


@pytest.mark.parametrize(
    "lie",
    [
        {"claims": {"nonce": "another"}},
        {"claims": {"nonce": None}},
        {"claims": {"iss": "https://evil.example"}},
        {"claims": {"aud": "another client"}},
        {"claims": {"aud": [CLIENT_ID, "another"], "azp": "another"}},
        {"claims": {"exp": 1_000_000_000}},
        {"claims": {"sub": None}},
        {"sign_with": rsa.generate_private_key(65537, 2048)},
        {"sign_with": "x" * 32, "algorithm": "HS256"},
        {"sign_with": None, "algorithm": "none"},
        {"header": {"kid": "unknown"}},
        {"user_info": {"sub": "2"}},
    ],
    ids=str,
)
def test_a_token_that_is_not_right_signs_nobody_in(
    client: Client, liar: LyingProvider, lie: dict[str, Any], recorded: list[Any]
) -> None:
    for name, value in lie.items():
        setattr(liar, name, value)
    response = lied_to(client, liar)
    assert response.status_code == 400, response.content
    assert "not valid" in response.content.decode()
    assert User.objects.count() == 1
    assert recorded[-1][0] == "auth.login_failed"


@pytest.mark.parametrize(
    "document",
    [
        {"issuer": "https://evil.example"},
        {"token_endpoint": "http://127.0.0.1:9/token"},
        {"jwks_uri": "https://169.254.169.254/keys"},
        {"jwks_uri": None},
    ],
    ids=str,
)
def test_a_discovery_document_that_leads_elsewhere_is_refused(
    client: Client, liar: LyingProvider, document: dict[str, Any]
) -> None:
    liar.document = document
    begun = client.get("/accounts/oidc/login/")
    if begun.status_code == 302:
        begun = client.get(f"/accounts/oidc/callback/?{liar.visit(begun['Location'])}")
    assert begun.status_code == 503
    assert User.objects.count() == 1


def test_redirects_and_large_bodies_of_the_provider_are_refused(
    liar: LyingProvider, client: Client
) -> None:
    liar.redirect_from = "/keys"
    assert lied_to(client, liar).status_code == 503
    liar.redirect_from = ""
    liar.user_info = {"about": "x" * (outside.BODY_MOST + 1)}
    assert lied_to(Client(), liar).status_code == 503
    assert "/elsewhere" not in liar.requests


@pytest.mark.parametrize(
    ("url", "allowed"),
    [
        ("https://login.example.org/keys", True),
        ("https://LOGIN.example.org:443/keys", True),
        ("http://login.example.org/keys", False),
        ("https://graph.example.com/me", True),
        ("https://a.keys.example.net/x", True),
        ("https://keys.example.net/x", False),
        ("https://evil.example/keys", False),
        ("https://login.example.org@evil.example/keys", False),
        ("https://user:pass@login.example.org/keys", False),
        ("file:///etc/passwd", False),
        ("https://[::1", False),
    ],
)
def test_only_the_issuers_host_and_listed_ones_are_requested(
    configure: Any, url: str, allowed: bool
) -> None:
    configure(
        oidc_issuer="https://login.example.org/realms/main",
        oidc_hosts=("graph.example.com", "*.keys.example.net"),
    )
    assert outside.is_allowed(url) is allowed
    if not allowed:
        with pytest.raises(requests.RequestException):
            outside.ProviderSession().get(url)


def test_groups_that_the_provider_left_out_are_not_taken_away(
    liar: LyingProvider, client: Client
) -> None:
    """Entra ID leaves them out of the token when there are more than 200."""
    liar.claims = {"groups": ["staff"]}
    lied_to(client, liar)
    liar.claims = {"_claim_names": {"groups": "src1"}}
    lied_to(Client(), liar)
    assert groups_of("ann") == {"staff"}
    liar.claims = {}
    lied_to(Client(), liar)
    assert groups_of("ann") == set()


def test_claims_inside_objects(configure: Any) -> None:
    claims = {"realm_access": {"roles": ["a", 1, True]}, "https://x.org/groups": "one"}
    assert oidc.values(oidc.claim(claims, "realm_access.roles")) == ["a", "1", "true"]
    assert oidc.claim(claims, "https://x.org/groups") == "one"
    assert oidc.claim(claims, "realm_access.nothing.more") is None


def test_a_signed_in_user_is_not_switched_by_a_link(
    client: Client, provider: ProviderProcess
) -> None:
    client.post("/accounts/login/", {"login": "root", "password": "correct horse battery"})
    assert client.get("/accounts/oidc/login/")["Location"] == "/"
    assert client.get("/accounts/oidc/login/?next=https://evil.example/")["Location"] == "/"
