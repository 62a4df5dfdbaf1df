"""The administration's pages for assistants that everybody, or a group, may use."""

from __future__ import annotations

from typing import Any

from django.contrib.admin import AdminSite, ModelAdmin
from django.db.models import QuerySet
from django.http import HttpRequest

from chatsite.chat.assistants.forms import AssistantForm
from chatsite.chat.assistants.models import Assistant


class SharedAssistantForm(AssistantForm):
    class Meta(AssistantForm.Meta):
        fields = (*AssistantForm.Meta.fields, "group", "enabled")  # type: ignore[assignment]


class AssistantAdmin(ModelAdmin):  # type: ignore[type-arg]
    """People's own are nobody's business here."""

    form = SharedAssistantForm
    list_display = ("name", "model", "group", "enabled", "updated_at")
    list_editable = ("enabled",)
    list_select_related = ("group",)
    search_fields = ("name", "model")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Assistant]:
        return super().get_queryset(request).filter(owner=None)

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        # Its fields are made with the form, which Django's own list of them does not know.
        return [(None, {"fields": list(self.form(instance=obj or Assistant()).fields)})]

    def get_form(self, request: HttpRequest, obj: Any = None, *args: Any, **kwargs: Any) -> Any:
        return super().get_form(request, obj, *args, **{**kwargs, "fields": None})


def register(site: AdminSite) -> None:
    site.register(Assistant, AssistantAdmin)
