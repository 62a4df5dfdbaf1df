"""URLs of the section People, within the admin site."""

from __future__ import annotations

from django.urls import URLPattern, path

from models_admin.adminsite.people import credentials, groups, joining, users

_ACTIONS = ("activate", "deactivate", "password", "mfa", "sessions", "keys", "delete")


def urls() -> list[URLPattern]:
    return [
        path("people/", users.index, name="people"),
        path("people/users/new/", users.new, name="people_new_user"),
        path("people/users/bulk/", users.bulk, name="people_bulk"),
        path("people/users/<int:id>/", users.user, name="people_user"),
        *(
            path(
                f"people/users/<int:id>/{action}/",
                users.act,
                {"action": action},
                f"people_user_{action}",
            )
            for action in _ACTIONS
        ),
        path("people/groups/", groups.index, name="people_groups"),
        path("people/groups/new/", groups.new, name="people_new_group"),
        path("people/groups/<int:id>/", groups.group, name="people_group"),
        path("people/groups/<int:id>/members/", groups.members, name="people_members"),
        path("people/groups/<int:id>/delete/", groups.delete, name="people_delete_group"),
        path("people/invitations/", joining.index, name="people_invitations"),
        path(
            "people/invitations/<int:id>/revoke/", joining.revoke, name="people_revoke_invitation"
        ),
        *(
            path(
                f"people/sign-ups/<int:id>/{action}/",
                joining.decide,
                {"action": action},
                f"people_{action}",
            )
            for action in ("approve", "refuse")
        ),
        path("people/sessions/", credentials.sessions, name="people_sessions"),
        path("people/sessions/<int:id>/end/", credentials.end_session, name="people_end_session"),
        path("people/keys/", credentials.keys, name="people_keys"),
        path("people/keys/<int:id>/revoke/", credentials.revoke_key, name="people_revoke_key"),
    ]
