"""Sign-in, one's own account, and first run.

Of allauth's routes only those in use: its pages for email addresses, sign-up and password reset are
replaced by our own. The names are allauth's where it resolves them itself.
"""

from __future__ import annotations

from allauth.account import views as allauth
from allauth.mfa.recovery_codes import views as recovery_codes
from allauth.mfa.totp import views as totp
from allauth.mfa.webauthn import views as webauthn
from django.urls import include, path

from chatsite.accounts import account_views, joining_views, key_views, second_factor_views, views
from chatsite.accounts.directory import oidc, oidc_views
from chatsite.accounts.directory.oidc_views import at_provider_too, straight_to_provider

_PROVIDER = {"provider_id": oidc.PROVIDER_ID}

urlpatterns = [
    path("accounts/login/", straight_to_provider(views.login), name="account_login"),
    path("accounts/logout/", at_provider_too(allauth.logout), name="account_logout"),
    # Names and argument are allauth's.
    path("accounts/oidc/login/", oidc_views.login, _PROVIDER, name="openid_connect_login"),
    path("accounts/oidc/callback/", oidc_views.callback, _PROVIDER, name="openid_connect_callback"),
    path("accounts/inactive/", allauth.account_inactive, name="account_inactive"),
    path("accounts/reauthenticate/", views.reauthenticate, name="account_reauthenticate"),
    # One's own account.
    path("accounts/", account_views.profile, name="account"),
    path("accounts/password/change/", views.password_change, name="account_change_password"),
    path("accounts/sessions/", account_views.session_list, name="sessions"),
    path("accounts/sessions/<int:id>/end/", account_views.end_session, name="end_session"),
    path("accounts/sessions/end/", account_views.end_sessions, name="end_sessions"),
    path("accounts/keys/", key_views.page, name="api_keys"),
    path("accounts/keys/<int:id>/revoke/", key_views.revoke, name="revoke_api_key"),
    # Second factors.
    path("accounts/2fa/", second_factor_views.index, name="mfa_index"),
    path("accounts/2fa/authenticate/", second_factor_views.authenticate, name="mfa_authenticate"),
    path(
        "accounts/2fa/reauthenticate/",
        second_factor_views.reauthenticate,
        name="mfa_reauthenticate",
    ),
    path("accounts/2fa/app/", totp.activate_totp, name="mfa_activate_totp"),
    path("accounts/2fa/app/remove/", totp.deactivate_totp, name="mfa_deactivate_totp"),
    path("accounts/2fa/codes/", recovery_codes.view_recovery_codes, name="mfa_view_recovery_codes"),
    path(
        "accounts/2fa/codes/new/",
        recovery_codes.generate_recovery_codes,
        name="mfa_generate_recovery_codes",
    ),
    path(
        "accounts/2fa/codes/download/",
        recovery_codes.download_recovery_codes,
        name="mfa_download_recovery_codes",
    ),
    path("accounts/2fa/passkeys/", second_factor_views.keys, name="mfa_list_webauthn"),
    path("accounts/2fa/passkeys/add/", webauthn.add_webauthn, name="mfa_add_webauthn"),
    path(
        "accounts/2fa/passkeys/reauthenticate/",
        webauthn.reauthenticate_webauthn,
        name="mfa_reauthenticate_webauthn",
    ),
    path(
        "accounts/2fa/passkeys/login/",
        second_factor_views.sign_in_by_passkey,
        name="mfa_login_webauthn",
    ),
    path("accounts/2fa/passkeys/<int:pk>/edit/", webauthn.edit_webauthn, name="mfa_edit_webauthn"),
    path(
        "accounts/2fa/passkeys/<int:pk>/remove/",
        webauthn.remove_webauthn,
        name="mfa_remove_webauthn",
    ),
    # Without a session.
    path("accounts/signup/", joining_views.sign_up, name="sign_up"),
    path(
        "accounts/signup/waiting/<str:what>/", joining_views.sign_up_waiting, name="sign_up_waiting"
    ),
    path("accounts/confirm/<str:token>/", joining_views.confirm_email, name="confirm_email"),
    path("accounts/password/reset/", joining_views.reset_password, name="reset_password"),
    path("accounts/password/new/<str:token>/", joining_views.new_password, name="new_password"),
    path("accounts/invitation/<str:token>/", joining_views.invitation, name="invitation"),
    path("scim/v2/", include("chatsite.accounts.scim.urls")),
    path("setup/<str:token>/", views.setup, name="setup"),
]
