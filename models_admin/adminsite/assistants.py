"""Admin pages for assistants that are shared with all users or with a group."""

from __future__ import annotations

from typing import Any

from django.contrib.admin import AdminSite, ModelAdmin
from django.db.models import QuerySet
from django.http import HttpRequest

from chatsite.audit.record import record
from chatsite.conversations.assistants.models import Assistant
from chatsite.knowledge.assistant_form import KnowledgeAssistantForm


class SharedAssistantForm(KnowledgeAssistantForm):
    class Meta(KnowledgeAssistantForm.Meta):
        fields = (*KnowledgeAssistantForm.Meta.fields, "group", "enabled")  # type: ignore[assignment]


class AssistantAdmin(ModelAdmin):  # type: ignore[type-arg]
    """Shared assistants only: those of individual users are private."""

    form = SharedAssistantForm
    list_display = ("name", "model", "group", "enabled", "updated_at")
    list_editable = ("enabled",)
    list_select_related = ("group",)
    search_fields = ("name", "model")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Assistant]:
        return super().get_queryset(request).filter(owner=None)

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        # The form creates its fields when it is instantiated, so Django's list lacks them.
        return [(None, {"fields": list(self.form(instance=obj or Assistant()).fields)})]

    def get_form(self, request: HttpRequest, obj: Any = None, *args: Any, **kwargs: Any) -> Any:
        return super().get_form(request, obj, *args, **{**kwargs, "fields": None})

    def save_model(self, request: HttpRequest, obj: Assistant, form: Any, change: bool) -> None:
        super().save_model(request, obj, form, change)
        kind = "assistant.changed" if change else "assistant.created"
        record(kind, request=request, target=_target(obj), fields=form.changed_data, shared=True)

    def delete_model(self, request: HttpRequest, obj: Assistant) -> None:
        target = _target(obj)
        super().delete_model(request, obj)
        record("assistant.deleted", request=request, target=target, shared=True)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Assistant]) -> None:
        targets = [_target(assistant) for assistant in queryset]
        super().delete_queryset(request, queryset)
        for target in targets:
            record("assistant.deleted", request=request, target=target, shared=True)


def _target(assistant: Assistant) -> tuple[str, str, str]:
    return "assistant", str(assistant.pk), assistant.name


def register(site: AdminSite) -> None:
    site.register(Assistant, AssistantAdmin)
