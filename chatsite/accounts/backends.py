"""The permissions of roles, as an authentication backend of Django."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.backends import BaseBackend

from chatsite.accounts import roles
from chatsite.accounts.models import User


class RoleBackend(BaseBackend):
    """Grants each user the permissions of the effective role. Signs nobody in."""

    def get_user_permissions(self, user_obj: Any, obj: Any = None) -> set[str]:
        if obj is not None or not isinstance(user_obj, User) or not user_obj.is_active:
            return set()
        return set(roles.permissions_of(user_obj.effective_role))

    def has_perm(self, user_obj: Any, perm: str, obj: Any = None) -> bool:
        if obj is not None or not isinstance(user_obj, User) or not user_obj.is_active:
            return False
        return perm in roles.permissions_of(user_obj.effective_role)

    def has_module_perms(self, user_obj: Any, app_label: str) -> bool:
        """Return whether the role has any permission of the app."""
        start = f"{app_label}."
        return any(perm.startswith(start) for perm in self.get_user_permissions(user_obj))
