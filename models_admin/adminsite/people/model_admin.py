"""Admin pages for users, groups and API keys."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

from django.contrib import messages
from django.contrib.admin import AdminSite, ModelAdmin, action
from django.contrib.auth.admin import GroupAdmin, UserAdmin
from django.contrib.auth.models import Group
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponseBase
from django.shortcuts import redirect
from django.utils.text import capfirst
from django.utils.translation import gettext_lazy as _

from chatsite.accounts import keys
from chatsite.accounts.models import ApiKey, User
from chatsite.accounts.roles import LastAdministrator, administrator_kept

# Fields that make a user an administrator or grant permissions.
_RIGHTS = ("role", "groups", "user_permissions")
_View = Callable[..., HttpResponseBase]


def _kept(view: _View) -> _View:
    """Show the error if a view of a model admin would remove the last administrator."""

    @wraps(view)
    def wrapper(self: Any, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        try:
            with administrator_kept():
                return view(self, request, *args, **kwargs)
        except LastAdministrator as error:
            messages.error(request, str(error))
            return redirect(request.get_full_path())

    return wrapper


class KeptAdministrator(ModelAdmin):  # type: ignore[type-arg]
    """A model admin whose changes never remove the last administrator."""

    changeform_view = _kept(ModelAdmin.changeform_view)  # type: ignore[assignment]  # may redirect
    changelist_view = _kept(ModelAdmin.changelist_view)  # type: ignore[assignment]  # may redirect
    delete_view = _kept(ModelAdmin.delete_view)  # type: ignore[assignment]  # may redirect


class PersonAdmin(KeptAdministrator, UserAdmin):  # type: ignore[type-arg]
    """Django's user admin with two restrictions.

    Staff who are not superusers can neither grant permissions nor change users who are staff or
    superusers, and deleting a user does not show their content.
    """

    list_display = ("username", "email", "is_active", "effective_role", "last_login")
    list_filter = ("effective_role", "is_active", "groups")
    fieldsets = (
        (None, {"fields": ("username", "password")}),
        (_("Personal info"), {"fields": ("first_name", "last_name", "email")}),
        (_("Permissions"), {"fields": ("is_active", *_RIGHTS)}),
        (_("Important dates"), {"fields": ("last_login", "date_joined")}),
    )

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
        """Return counts instead of Django's list of deleted objects.

        The list would quote the user's conversations to the administrator.
        """
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


class RightsAdmin(KeptAdministrator, GroupAdmin):
    """Groups grant permissions, so only superusers change them."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return _is_superuser(request)

    def has_change_permission(self, request: HttpRequest, obj: Group | None = None) -> bool:
        return _is_superuser(request)

    def has_delete_permission(self, request: HttpRequest, obj: Group | None = None) -> bool:
        return _is_superuser(request)


class ApiKeyAdmin(ModelAdmin):  # type: ignore[type-arg]
    """API keys, shown by prefix, owner and purpose; their owners create them."""

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
