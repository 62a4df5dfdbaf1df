"""The form of an assistant, with the collections that its answers use."""

from __future__ import annotations

from typing import Any

from django import forms
from django.db import transaction
from django.utils.translation import gettext_lazy as _

from chatsite.conversations.assistants.forms import AssistantForm
from chatsite.conversations.assistants.models import Assistant
from chatsite.knowledge.models import AssistantCollection, Collection


class KnowledgeAssistantForm(AssistantForm):
    """Offers the collections that the owner may read; for shared assistants, those of groups."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        owner = self.instance.owner
        rows = Collection.objects.all()
        offered = rows.readable_by(owner).distinct() if owner else rows.exclude(group=None)
        attached = AssistantCollection.objects.filter(assistant=self.instance.pk)
        if offered.exists():
            self.fields["collections"] = forms.ModelMultipleChoiceField(
                offered,
                label=_("Collections"),
                help_text=_(
                    "Answers of the assistant search these documents, for users who may read them."
                ),
                required=False,
                widget=forms.CheckboxSelectMultiple,
                initial=list(attached.values_list("collection", flat=True)),
            )

    def save(self, commit: bool = True) -> Assistant:
        saved = super().save(commit)
        if commit:
            self._save_collections()
        else:
            # The administration saves the assistant itself, then what refers to it.
            related = self.save_m2m

            def save_related() -> None:
                related()
                self._save_collections()

            self.save_m2m = save_related  # type: ignore[method-assign]  # as ModelForm does
        return saved

    def _save_collections(self) -> None:
        if "collections" not in self.fields:
            return
        chosen = list(self.cleaned_data["collections"])
        rows = AssistantCollection.objects.filter(assistant=self.instance)
        with transaction.atomic():
            # Those that were not offered, because they are no longer shared, are removed too.
            rows.exclude(collection__in=chosen).delete()
            AssistantCollection.objects.bulk_create(
                [AssistantCollection(assistant=self.instance, collection=one) for one in chosen],
                ignore_conflicts=True,
            )
