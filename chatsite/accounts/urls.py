"""Sign-in and first run: what of allauth is reachable, and the set-up link.

Sign-up, everything about e-mail, and password reset (which needs e-mail) are not routed: an
administrator makes accounts and sets forgotten passwords. The names are allauth's, which it
looks up itself.
"""

from __future__ import annotations

from allauth.account import views as allauth
from django.urls import path

from chatsite.accounts import key_views, views

urlpatterns = [
    path("accounts/login/", views.login, name="account_login"),
    path("accounts/logout/", allauth.logout, name="account_logout"),
    path("accounts/inactive/", allauth.account_inactive, name="account_inactive"),
    path("accounts/password/change/", views.password_change, name="account_change_password"),
    path("accounts/keys/", key_views.page, name="api_keys"),
    path("accounts/keys/<int:id>/revoke/", key_views.revoke, name="revoke_api_key"),
    path("setup/<str:token>/", views.setup, name="setup"),
]
