"""The pages of the administration for models and their use. Those for people: `people.py`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest
from django.template.defaultfilters import filesizeformat
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext

from chatsite.chat.assistants import admin as assistants
from chatsite.chat.models import Generation
from chatsite.errors import ChatsiteError
from models_admin import catalogue, dashboard, names, people, placing, updates, versions
from models_admin.jobs import asking
from models_admin.live import access
from models_admin.models import ModelName, ModelVersion
from models_admin.site import site

people.register(site)
assistants.register(site)


class ModelNameForm(forms.ModelForm):  # type: ignore[type-arg]
    def clean_name(self) -> str:
        try:
            return names.normalise(self.cleaned_data["name"])
        except names.BadModelName as error:
            raise ValidationError(str(error)) from error


@admin.register(ModelName, site=site)
class ModelNameAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """Another name for an installed version can be added here; files come in from the command
    line, since an upload through the web server would be held in memory."""

    form = ModelNameForm
    actions = ("offer", "withdraw", "check_updates", "fetch_again", "go_back", "forget_previous")
    list_display = ("name", "version", "size", "update", "state", "enabled", "updated_at")
    list_select_related = ("version",)
    search_fields = ("name",)
    fields = ("name", "version", "enabled", "context", "slots", "keep_alive", "pinned", "memory")
    readonly_fields = ("memory",)

    @admin.display(description=_("size"), ordering="version__size")
    def size(self, model: ModelName) -> str:
        return filesizeformat(model.version.size)

    @admin.display(description=_("memory"))
    def memory(self, model: ModelName) -> str:
        found = placing.fit_of(model, dashboard.hosts() or ()) if model.version_id else None
        return str(found or "-")

    @admin.display(description=_("state"))
    def state(self, model: ModelName) -> str:
        return str(_("in quarantine") if model.version.quarantined else _("good"))

    @admin.display(description=_("update"))
    def update(self, model: ModelName) -> str:
        if model.has_update:
            return str(_("there is one"))
        return str(_("none")) if model.checked_at else "-"

    @admin.action(description=_("Offer to people"), permissions=["change"])
    def offer(self, request: HttpRequest, queryset: QuerySet[ModelName]) -> None:
        self._set_enabled(request, queryset, enabled=True)

    @admin.action(description=_("Offer no longer"), permissions=["change"])
    def withdraw(self, request: HttpRequest, queryset: QuerySet[ModelName]) -> None:
        self._set_enabled(request, queryset, enabled=False)

    def _set_enabled(
        self, request: HttpRequest, queryset: QuerySet[ModelName], *, enabled: bool
    ) -> None:
        for model in queryset.exclude(enabled=enabled):
            model.enabled = enabled
            model.save(update_fields=["enabled", "updated_at"])
            self._try(request, model, lambda model: None)

    @admin.action(description=_("Ask the sources for newer versions"), permissions=["change"])
    def check_updates(self, request: HttpRequest, queryset: QuerySet[ModelName]) -> None:
        newer, failed = updates.check(queryset)
        for model, reason in failed:
            self.message_user(request, f"{model}: {reason}", messages.WARNING)
        found = ", ".join(model.name for model in newer)
        text = str(_("Newer versions: %s.")) % found if found else str(_("Nothing is newer."))
        self.message_user(request, text, messages.SUCCESS)

    @admin.action(description=_("Download the newest version"), permissions=["change"])
    def fetch_again(self, request: HttpRequest, queryset: QuerySet[ModelName]) -> None:
        for model in queryset:
            self._try(request, model, lambda model: asking.update(model, by=access.person(request)))

    @admin.action(description=_("Go back to the version before"), permissions=["change"])
    def go_back(self, request: HttpRequest, queryset: QuerySet[ModelName]) -> None:
        for model in queryset:
            self._try(request, model, lambda model: versions.go_back(model.name))

    @admin.action(description=_("Give up the version before"), permissions=["change"])
    def forget_previous(self, request: HttpRequest, queryset: QuerySet[ModelName]) -> None:
        for model in queryset:
            self._try(request, model, lambda model: versions.forget_previous(model.name))

    def _try(
        self, request: HttpRequest, model: ModelName, act: Callable[[ModelName], object]
    ) -> None:
        try:
            act(model)
        except ChatsiteError as error:
            self.message_user(request, f"{model}: {error}", messages.ERROR)
        else:
            self.log_change(request, model, str(request.POST.get("action", "")))
            self.message_user(request, f"{model}: {_('done')}", messages.SUCCESS)

    def delete_model(self, request: HttpRequest, obj: ModelName) -> None:
        # Behind the transaction of Django's page: inside it the lock of the store would be waited
        # for by who holds that of the database, and left before the file is gone.
        name = obj.name
        transaction.on_commit(lambda: versions.remove_name(name))

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[ModelName]) -> None:
        for model in queryset:
            self.delete_model(request, model)


@admin.register(ModelVersion, site=site)
class ModelVersionAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    list_display = ("digest_start", "all_names", "size_text", "quarantined", "created_at")
    search_fields = ("digest", "names__name")
    fields = ("digest", "all_names", "size_text", "source", "quarantined", "created_at")
    readonly_fields = fields
    actions = ("lift_quarantine",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[ModelVersion]:
        return super().get_queryset(request).prefetch_related("names")

    @admin.display(description=_("digest"), ordering="digest")
    def digest_start(self, version: ModelVersion) -> str:
        return str(version)

    @admin.display(description=_("names"))
    def all_names(self, version: ModelVersion) -> str:
        return ", ".join(name.name for name in version.names.all()) or "-"

    @admin.display(description=_("size"), ordering="size")
    def size_text(self, version: ModelVersion) -> str:
        return filesizeformat(version.size)

    @admin.action(
        description=_("Lift the quarantine of the selected versions"), permissions=["change"]
    )
    def lift_quarantine(self, request: HttpRequest, queryset: QuerySet[ModelVersion]) -> None:
        lifted = [version for version in queryset if catalogue.release(version.digest)]
        for version in lifted:
            self.log_change(request, version, str(_("Quarantine lifted")))
        text = ngettext(
            "%s version may be loaded again.", "%s versions may be loaded again.", len(lifted)
        )
        self.message_user(request, text % len(lifted), messages.SUCCESS)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: ModelVersion | None = None) -> bool:
        """It goes with the last name that needs it."""
        return False


@admin.register(Generation, site=site)
class GenerationAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """Who used which model, when and how it went. What was written is nobody's business here:
    neither messages nor titles appear anywhere in the administration."""

    fields = (
        "id",
        "owner",
        "via",
        "api_key",
        "state",
        "attempt",
        "model",
        "model_version",
        "finish_reason",
        "error",
        "prompt_tokens",
        "cached_tokens",
        "completion_tokens",
        "accepted_tokens",
        "timings",
        "queued_at",
        "started_at",
        "finished_at",
    )
    readonly_fields = fields
    list_display = (
        "queued_at",
        "owner",
        "via",
        "model",
        "state",
        "completion_tokens",
        "first_token",
        "total",
    )
    list_filter = ("state", "via", "model")
    list_select_related = ("owner",)
    search_fields = ("owner__username", "model")
    date_hierarchy = "queued_at"
    ordering = ("-queued_at",)
    show_full_result_count = False

    @admin.display(description=_("first token, ms"))
    def first_token(self, generation: Generation) -> str:
        return _milliseconds(generation.timings, "ttft")

    @admin.display(description=_("total, ms"))
    def total(self, generation: Generation) -> str:
        return _milliseconds(generation.timings, "total")

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Generation | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Generation | None = None) -> bool:
        return False


def _milliseconds(timings: dict[str, Any], key: str) -> str:
    return f"{timings[key]:.0f}" if key in timings else "-"
