"""The administration's pages for people and groups."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.contrib.admin import AdminSite, ModelAdmin, action
from django.contrib.auth.admin import GroupAdmin, UserAdmin
from django.contrib.auth.models import Group
from django.db.models import Model, QuerySet
from django.http import HttpRequest
from django.utils.text import capfirst
from django.utils.translation import gettext_lazy as _

from chatsite.accounts import keys
from chatsite.accounts.models import ApiKey, User

# What makes somebody an administrator, or gives a right.
_RIGHTS = ("is_staff", "is_superuser", "groups", "user_permissions")


class PersonAdmin(UserAdmin):  # type: ignore[type-arg]
    """Django's own, safer: staff who aren't superusers can neither give rights nor touch those
    who have them, and deleting a person does not show what they wrote."""

    list_display = ("username", "email", "is_active", "is_staff", "is_superuser", "last_login")

    def get_readonly_fields(self, request: HttpRequest, obj: User | None = None) -> Any:
        own = super().get_readonly_fields(request, obj)
        return own if _is_superuser(request) else (*own, *_RIGHTS)

    def has_change_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        return self._is_in_reach(request, obj) and super().has_change_permission(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        return self._is_in_reach(request, obj) and super().has_delete_permission(request, obj)

    def get_deleted_objects(
        self, objs: Sequence[Any] | QuerySet[Any, Any], request: HttpRequest
    ) -> tuple[list[str], dict[str, int], set[str], list[str]]:
        """Counts in place of Django's list of all that goes with a person, which would quote
        their conversations to the administrator."""
        people = list(objs)
        out_of_reach = any(not self.has_delete_permission(request, person) for person in people)
        counted: dict[str, int] = {str(User._meta.verbose_name_plural): len(people)}
        for relation in User._meta.related_objects:
            model: type[Model] = relation.related_model
            lookup = {f"{relation.field.name}__in": people}
            if count := model._base_manager.filter(**lookup).count():
                counted[str(model._meta.verbose_name_plural)] = count
        listed = [f"{capfirst(User._meta.verbose_name)}: {person}" for person in people]
        missing = {str(User._meta.verbose_name)} if out_of_reach else set()
        return listed, counted, missing, []

    @staticmethod
    def _is_in_reach(request: HttpRequest, person: User | None) -> bool:
        if person is None or _is_superuser(request):
            return True
        return not (person.is_staff or person.is_superuser)


class RightsAdmin(GroupAdmin):
    """Groups carry rights, so only superusers change them."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return _is_superuser(request)

    def has_change_permission(self, request: HttpRequest, obj: Group | None = None) -> bool:
        return _is_superuser(request)

    def has_delete_permission(self, request: HttpRequest, obj: Group | None = None) -> bool:
        return _is_superuser(request)


class ApiKeyAdmin(ModelAdmin):  # type: ignore[type-arg]
    """How keys begin, whose they are and what for; they are made by their owners."""

    list_display = (
        "prefix",
        "owner",
        "name",
        "scopes",
        "created_at",
        "last_used_at",
        "expires_at",
        "revoked_at",
    )
    list_select_related = ("owner",)
    search_fields = ("prefix", "owner__username", "name")
    fields = list_display
    readonly_fields = fields
    actions = ("revoke",)

    @action(description=_("Revoke the selected keys"), permissions=["change"])
    def revoke(self, request: HttpRequest, queryset: QuerySet[ApiKey]) -> None:
        for key in queryset:
            keys.revoke(key)
            self.log_change(request, key, str(_("Revoked")))

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: ApiKey | None = None) -> bool:
        return False


def register(site: AdminSite) -> None:
    site.register(User, PersonAdmin)
    site.register(ApiKey, ApiKeyAdmin)
    site.register(Group, RightsAdmin)


def _is_superuser(request: HttpRequest) -> bool:
    return bool(request.user.is_active and request.user.is_superuser)
