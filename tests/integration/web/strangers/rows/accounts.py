"""Sign-in, the pages of one's own account, and pages that answer everybody."""

from __future__ import annotations

from datetime import timedelta

from django.contrib.sessions.models import Session
from django.utils import timezone

from chatsite.accounts import keys
from chatsite.accounts.models import UserSession
from tests.integration.web.strangers.table import SIGN_IN, Row, World, own, public, signed_in


def _session(world: World) -> UserSession:
    """Create a session of the owner in another browser."""
    until = timezone.now() + timedelta(days=1)
    Session.objects.create(session_key="another-browser", session_data="", expire_date=until)
    return UserSession.objects.create(user=world.owner, session_key="another-browser")


FACTS = {
    "session": lambda world: _session(world).pk,
    "passkey": lambda world: 1,
    "waiting": lambda world: "approval",
    "health_part": lambda world: "live",
    "key": lambda world: keys.create(world.owner, name="notebook")[0].pk,
    "token": lambda world: "guessed",
}

ROWS: list[Row] = [
    Row("accounts/login/", owner=302, other=302, out=200),
    signed_in("accounts/logout/"),
    public("accounts/logout/", "POST", SIGN_IN),
    public("accounts/inactive/"),
    signed_in("accounts/password/change/"),
    signed_in("accounts/keys/"),
    signed_in("accounts/"),
    signed_in("accounts/sessions/"),
    own("accounts/sessions/<int:id>/end/", "POST", 302, args={"id": "session"}),
    # Another user ends their own sessions.
    signed_in("accounts/sessions/end/", "POST", 302),
    # 302: these ask for the password again, since the sessions of the table are not fresh.
    signed_in("accounts/2fa/"),
    signed_in("accounts/2fa/passkeys/", status=302),
    signed_in("accounts/reauthenticate/"),
    signed_in("accounts/2fa/authenticate/", status=302),
    signed_in("accounts/2fa/reauthenticate/", status=302),
    signed_in("accounts/2fa/passkeys/reauthenticate/", status=302),
    signed_in("accounts/2fa/app/", status=302),
    signed_in("accounts/2fa/app/remove/", status=404),
    signed_in("accounts/2fa/codes/", status=404),
    signed_in("accounts/2fa/codes/new/", status=302),
    signed_in("accounts/2fa/codes/download/", status=404),
    signed_in("accounts/2fa/passkeys/add/", status=302),
    signed_in("accounts/2fa/passkeys/login/", status=302),
    signed_in("accounts/2fa/passkeys/<int:pk>/edit/", status=302, args={"pk": "passkey"}),
    signed_in("accounts/2fa/passkeys/<int:pk>/remove/", status=302, args={"pk": "passkey"}),
    public("accounts/signup/", status=404),  # closed
    public("accounts/signup/waiting/<str:what>/", args={"what": "waiting"}),
    public("accounts/confirm/<str:token>/", status=404, args={"token": "token"}),
    public("accounts/password/reset/"),
    public("accounts/password/new/<str:token>/", status=404, args={"token": "token"}),
    public("accounts/invitation/<str:token>/", status=404, args={"token": "token"}),
    own("accounts/keys/<int:id>/revoke/", "POST", 302, args={"id": "key"}),
    public("setup/<str:token>/", status=404, args={"token": "token"}),
    public("manifest.json"),
    public("healthz", status=503),  # no host runs in the tests
    public("healthz/<str:name>", args={"name": "health_part"}),
    public("metrics", status=503),  # counters without content, and no Redis here
    public("i18n/setlang/", "POST", 302, form={"language": "en"}),
    public("jsi18n/"),
]
