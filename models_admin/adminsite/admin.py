"""Admin pages for models, versions and generations; `people/` has those for users."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils.html import format_html
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext

from chatsite.answers.submit import stop_from_thread
from chatsite.audit.record import record
from chatsite.conversations.models import OPEN_STATES, Generation
from chatsite.errors import ChatsiteError
from chatsite.hosts import status
from chatsite.site_settings import current
from chatsite.sizes import file_size
from models_admin import catalogue, facts, load_preferences, names
from models_admin.adminsite import assistants
from models_admin.adminsite.live import access
from models_admin.adminsite.people import model_admin as people_models
from models_admin.adminsite.site import site
from models_admin.adminsite.usage import satisfaction
from models_admin.adminsite.usage.satisfaction import SatisfactionFilter
from models_admin.jobs import enqueue
from models_admin.models import ModelName, ModelVersion
from models_admin.sources import updates
from models_admin.store import versions

log = logging.getLogger(__name__)

# Kinds of audit events by the action of the list of models.
_KINDS = {
    "make_default": "model.default",
    "choose_default": "model.default",
    "fetch_again": "model.pulled",
    "go_back": "model.rolled_back",
    "forget_previous": "model.previous_deleted",
}

people_models.register(site)
assistants.register(site)


class ModelNameForm(forms.ModelForm):  # type: ignore[type-arg]
    def clean_name(self) -> str:
        try:
            return names.normalise(self.cleaned_data["name"])
        except names.BadModelName as error:
            raise ValidationError(str(error)) from error


@admin.register(ModelName, site=site)
class ModelNameAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """Installed models. A name added here points to a version that is already installed."""

    form = ModelNameForm
    actions = (
        *("make_default", "choose_default", "check_updates", "fetch_again"),
        *("go_back", "forget_previous"),
    )
    list_display = (
        *("name", "version", "size", "update", "state", "available", "default", "satisfaction"),
        "updated_at",
    )
    list_filter = (SatisfactionFilter,)
    list_select_related = ("version",)
    search_fields = ("name",)
    fields = (
        *("name", "version", "enabled", "answer_tokens", "context", "slots", "keep_alive"),
        *("pinned", "memory"),
    )
    readonly_fields = ("memory",)
    # The site's default model when the list was last opened.
    _default: str | None = None
    # The share of good ratings by model when the list was last opened.
    _satisfaction: dict[str, float] = {}

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Show the list, or handle the buttons in its rows: the switch and the default."""
        if request.method == "POST" and (key := request.POST.get("switch")):
            if not self.has_change_permission(request):
                raise PermissionDenied
            self._switch(request, self.get_queryset(request).filter(pk=key).first())
            return redirect(request.get_full_path())
        if request.method == "POST" and (key := request.POST.get("make_default")):
            if not self.has_change_permission(request):
                raise PermissionDenied
            self.make_default(request, self.get_queryset(request).filter(pk=key))
            return redirect(request.get_full_path())
        self._default = catalogue.default_name()
        self._satisfaction = satisfaction.shares()
        return super().changelist_view(request, extra_context)

    @admin.display(description=_("available to users"), ordering="enabled")
    def available(self, model: ModelName) -> str:
        return format_html(
            '<button type="submit" class="switch" role="switch" name="switch" value="{}" '
            'aria-checked="{}" aria-label="{}"></button>',
            *(model.pk, "true" if model.enabled else "false"),
            _("Available to users: %s") % model.name,
        )

    def _switch(self, request: HttpRequest, model: ModelName | None) -> None:
        if model is None:
            return
        model.enabled = not model.enabled
        model.save(update_fields=["enabled", "updated_at"])
        self.log_change(request, model, "available" if model.enabled else "hidden")
        _record(request, "model.shown" if model.enabled else "model.hidden", model)
        text = _("%s is available to users.") if model.enabled else _("%s is hidden from users.")
        self.message_user(request, text % model.name, messages.SUCCESS)

    @admin.display(description=_("default for new chats"))
    def default(self, model: ModelName) -> str:
        if model.name == self._default:
            chosen = model.is_default or model.name == current().default_model
            return str(_("default") if chosen else _("default, chosen automatically"))
        if not model.enabled or model.version.quarantined:
            return "-"
        return format_html(
            '<button type="submit" name="make_default" value="{}" aria-label="{}">{}</button>',
            *(model.pk, f"{_('Make default')}: {model.name}", _("Make default")),
        )

    @admin.action(description=_("Make default for new chats"), permissions=["change"])
    def make_default(self, request: HttpRequest, queryset: QuerySet[ModelName]) -> None:
        models = list(queryset[:2])
        if len(models) == 1:
            self._try(request, models[0], catalogue.set_default)
        else:
            self.message_user(request, str(_("Select one model.")), messages.ERROR)

    @admin.action(description=_("Choose the default automatically"), permissions=["change"])
    def choose_default(self, request: HttpRequest, queryset: QuerySet[ModelName]) -> None:
        for model in ModelName.objects.filter(is_default=True):
            self._try(request, model, lambda model: catalogue.set_default(None))

    @admin.display(description=_("satisfaction"))
    def satisfaction(self, model: ModelName) -> str:
        share = self._satisfaction.get(model.name)
        return "-" if share is None else f"{round(share * 100)}%"

    @admin.display(description=_("size"), ordering="version__size")
    def size(self, model: ModelName) -> str:
        return str(_("remote")) if model.version.remote else file_size(model.version.size)

    @admin.display(description=_("memory"))
    def memory(self, model: ModelName) -> str:
        found = (
            load_preferences.fit_of(model, status.ask_from_thread() or ())
            if model.version_id
            else None
        )
        return str(found or "-")

    @admin.display(description=_("state"))
    def state(self, model: ModelName) -> str:
        if model.version.quarantined:
            return str(_("quarantined"))
        if model.version.remote and not ModelName.objects.filter(pk=model.pk).served().exists():
            return str(_("no engine"))
        return str(_("base model") if facts.only_continues(model) else _("OK"))

    @admin.display(description=_("update"))
    def update(self, model: ModelName) -> str:
        if model.has_update:
            return str(_("available"))
        return str(_("none")) if model.checked_at else "-"

    @admin.action(description=_("Check for updates"), permissions=["change"])
    def check_updates(self, request: HttpRequest, queryset: QuerySet[ModelName]) -> None:
        newer, failed = updates.check(queryset)
        for model, reason in failed:
            self.message_user(request, f"{model}: {reason}", messages.WARNING)
        found = ", ".join(model.name for model in newer)
        text = (
            str(_("Newer versions: %s.")) % found if found else str(_("Everything is up to date."))
        )
        self.message_user(request, text, messages.SUCCESS)

    @admin.action(description=_("Update to latest version"), permissions=["change"])
    def fetch_again(self, request: HttpRequest, queryset: QuerySet[ModelName]) -> None:
        for model in queryset:
            self._try(
                request, model, lambda model: enqueue.update(model, by=access.current_user(request))
            )

    @admin.action(description=_("Roll back to previous version"), permissions=["change"])
    def go_back(self, request: HttpRequest, queryset: QuerySet[ModelName]) -> None:
        for model in queryset:
            self._try(request, model, lambda model: versions.rollback(model.name))

    @admin.action(description=_("Delete previous version"), permissions=["change"])
    def forget_previous(self, request: HttpRequest, queryset: QuerySet[ModelName]) -> None:
        for model in queryset:
            self._try(request, model, lambda model: versions.drop_previous(model.name))

    def _try(
        self, request: HttpRequest, model: ModelName, act: Callable[[ModelName], object]
    ) -> None:
        try:
            act(model)
        except ChatsiteError as error:
            self.message_user(request, f"{model}: {error}", messages.ERROR)
        else:
            done = request.POST.get("action") or "make_default"
            self.log_change(request, model, str(done))
            _record(request, _KINDS[done], model)
            self.message_user(request, f"{model}: {_('done')}", messages.SUCCESS)

    def delete_model(self, request: HttpRequest, obj: ModelName) -> None:
        # Runs after the transaction of Django's page. Within it, this request would wait for the
        # store's lock while holding the database's, and release the store's lock before the file is
        # removed.
        name = obj.name
        transaction.on_commit(lambda: versions.remove_name(name))
        _record(request, "model.deleted", obj)

    def save_model(self, request: HttpRequest, obj: ModelName, form: Any, change: bool) -> None:
        super().save_model(request, obj, form, change)
        if change:
            _record(request, "model.changed", obj, form.changed_data)
        else:
            _record(request, "model.copied", obj)

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
        return str(_("remote")) if version.remote else file_size(version.size)

    @admin.action(
        description=_("Release selected versions from quarantine"), permissions=["change"]
    )
    def lift_quarantine(self, request: HttpRequest, queryset: QuerySet[ModelVersion]) -> None:
        lifted = [version for version in queryset if catalogue.release(version.digest)]
        for version in lifted:
            self.log_change(request, version, str(_("Released from quarantine")))
            record(
                "model.released",
                request=request,
                target=("version", version.digest, str(version)),
                names=[name.name for name in version.names.all()],
            )
        text = ngettext(
            "%s version released from quarantine.",
            "%s versions released from quarantine.",
            len(lifted),
        )
        self.message_user(request, text % len(lifted), messages.SUCCESS)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: ModelVersion | None = None) -> bool:
        """Return False: a version is removed with the last name that uses it."""
        return False


@admin.register(Generation, site=site)
class GenerationAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """Usage per answer: user, model, times and result.

    Prompts, answers and titles never appear in the admin.
    """

    fields = (
        "id",
        "owner",
        "via",
        "api_key",
        "state",
        "attempt",
        "model",
        "model_version",
        "engine",
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
        "engine",
        "state",
        "completion_tokens",
        "first_token",
        "total",
    )
    list_filter = ("state", "via", "model")
    list_select_related = ("owner",)
    search_fields = ("owner__username", "model", "engine")
    date_hierarchy = "queued_at"
    ordering = ("-queued_at",)
    show_full_result_count = False

    def get_list_display(self, request: HttpRequest) -> list[Any]:
        return [*self.list_display, *(["stop"] if _may_stop(request) else [])]

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Show the list, or handle the button of a row, which stops its answer."""
        if request.method == "POST" and (key := request.POST.get("stop")):
            if not _may_stop(request):
                raise PermissionDenied
            self._stop(request, key)
            return redirect(request.get_full_path())
        return super().changelist_view(request, extra_context)

    @admin.display(description=_("Stop"))
    def stop(self, generation: Generation) -> str:
        if generation.state not in OPEN_STATES:
            return ""
        return format_html(
            '<button type="submit" name="stop" value="{}" aria-label="{}">{}</button>',
            *(generation.pk, _("Stop the answer for %s") % generation.owner, _("Stop")),
        )

    def _stop(self, request: HttpRequest, key: str) -> None:
        generation = self.get_object(request, key)
        try:
            stopped = generation is not None and stop_from_thread(str(generation.pk))
        except ChatsiteError as error:
            self.message_user(request, str(error), messages.ERROR)
            return
        if generation is None or not stopped:
            self.message_user(request, str(_("This answer has already ended.")), messages.WARNING)
            return
        self.log_change(request, generation, "stop")
        record(
            "answer.stopped",
            request=request,
            target=("generation", str(generation.pk), generation.owner.get_username()),
            model=generation.model,
        )
        log.warning(
            "Administrator stopped a generation",
            extra={
                "generation": generation.pk,
                "user": generation.owner_id,
                "administrator": request.user.pk,
            },
        )
        text = _("Stopped the answer for %s.") % generation.owner
        self.message_user(request, text, messages.SUCCESS)

    @admin.display(description=_("first token (ms)"))
    def first_token(self, generation: Generation) -> str:
        return _milliseconds(generation.timings, "ttft")

    @admin.display(description=_("total (ms)"))
    def total(self, generation: Generation) -> str:
        return _milliseconds(generation.timings, "total")

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Generation | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Generation | None = None) -> bool:
        return False


def _may_stop(request: HttpRequest) -> bool:
    """Return whether the user has the permission to change generations, which has no other use."""
    return request.user.has_perm("chat.change_generation")


def _milliseconds(timings: dict[str, Any], key: str) -> str:
    return f"{timings[key]:.0f}" if key in timings else "-"


def _record(
    request: HttpRequest, kind: str, model: ModelName, fields: list[str] | None = None
) -> None:
    record(kind, request=request, target=("model", str(model.pk), model.name), fields=fields)
