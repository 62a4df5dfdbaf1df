"""Forms of rules, limits and quotas."""

from __future__ import annotations

import re
from typing import Any, cast

from django import forms
from django.contrib.auth.models import Group
from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from chatsite.accounts.models import User
from chatsite.conversations.assistants.models import Assistant
from chatsite.policy import decide
from chatsite.policy.features import Feature
from chatsite.policy.models import Limit, Quota, Rule
from models_admin.models import ModelName

_MODEL = re.compile(r"[\w.*/:@+-]+")


class AudienceForm(forms.ModelForm):  # type: ignore[type-arg]
    """A form whose audience is everyone, a group, or a user by name."""

    audience = forms.ChoiceField(
        label=gettext_lazy("Applies to"),
        choices=[
            ("everyone", gettext_lazy("Everyone")),
            ("group", gettext_lazy("A group")),
            ("user", gettext_lazy("A user")),
        ],
        initial="everyone",
        widget=forms.RadioSelect,
    )
    group = forms.ModelChoiceField(
        label=gettext_lazy("Group"),
        queryset=Group.objects.order_by("name"),
        required=False,
        empty_label=gettext_lazy("Choose a group"),
    )
    username = forms.CharField(
        label=gettext_lazy("Username"),
        max_length=150,
        required=False,
        widget=forms.TextInput(attrs={"autocomplete": "off", "spellcheck": "false"}),
    )
    note = forms.CharField(
        label=gettext_lazy("Note"),
        max_length=200,
        required=False,
        help_text=gettext_lazy("For other administrators: why this exists."),
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.instance.user_id is not None:
            self.initial.update(audience="user", username=self.instance.user.username)
        elif self.instance.group_id is not None:
            self.initial["audience"] = "group"

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        audience = cleaned.get("audience")
        self.instance.user = self.instance.group = None
        if audience == "group":
            if cleaned.get("group") is None and "group" not in self.errors:
                self.add_error("group", _("Choose a group."))
            self.instance.group = cleaned.get("group")
        else:
            cleaned["group"] = None
        if audience == "user":
            name = cleaned.get("username", "")
            user = User.objects.filter(username__iexact=name).first() if name else None
            if user is None:
                text = _("There is no user with this name.") if name else _("Enter a username.")
                self.add_error("username", text)
            self.instance.user = user
        return cleaned

    def same(self) -> Any:
        """Return the other rows for the same audience."""
        found = type(self.instance).objects.exclude(pk=self.instance.pk)
        return found.filter(user=self.instance.user, group=self.instance.group)


class RuleForm(AudienceForm):
    effect = forms.ChoiceField(
        label=gettext_lazy("Effect"),
        choices=Rule.Effect.choices,
        initial="deny",
        widget=forms.RadioSelect,
    )
    kind = forms.ChoiceField(label=gettext_lazy("What"), choices=Rule.Kind.choices, initial="model")
    model = forms.CharField(
        label=gettext_lazy("Model name or pattern"),
        max_length=200,
        required=False,
        help_text=gettext_lazy(
            "* matches any characters: llama3*. A name without a tag matches every tag."
        ),
        widget=forms.TextInput(
            attrs={"list": "model-names", "autocomplete": "off", "spellcheck": "false"}
        ),
    )
    assistant = forms.ChoiceField(label=gettext_lazy("Assistant"), required=False)
    feature = forms.ChoiceField(
        label=gettext_lazy("Feature"),
        choices=[(decide.ANY, gettext_lazy("All features")), *Feature.choices],
        required=False,
    )

    class Meta:
        model = Rule
        fields = ("effect", "kind", "group", "note")

    field_order = [
        *("effect", "kind", "model", "assistant", "feature"),
        *("audience", "group", "username", "note"),
    ]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        assistants = Assistant.objects.of_organization().order_by("name")
        names = [(str(id), name) for id, name in assistants.values_list("pk", "name")]
        cast(forms.ChoiceField, self.fields["assistant"]).choices = [
            (decide.ANY, _("All assistants")),
            *names,
        ]
        if self.instance.pk:
            self.initial[self.instance.kind] = self.instance.target

    @property
    def model_names(self) -> list[str]:
        return list(ModelName.objects.order_by("name").values_list("name", flat=True))

    def clean_model(self) -> str:
        text = str(self.cleaned_data["model"]).strip()
        if text and not _MODEL.fullmatch(text):
            raise ValidationError(_("A model's name has no spaces: llama3.2:1b, llama3*."))
        return text

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean()
        kind = cleaned.get("kind", "")
        target = cleaned.get(kind, "")
        if kind and kind not in self.errors:
            if not target:
                self.add_error(kind, _("Enter a model name or pattern."))
            self.instance.target = target
            if self.same().filter(effect=cleaned.get("effect"), kind=kind, target__iexact=target):
                self.add_error(None, _("This rule exists already."))
        return cleaned


class LimitForm(AudienceForm):
    class Meta:
        model = Limit
        fields = (*decide.LIMIT_FIELDS, "group", "note")

    field_order = ["audience", "group", "username", *decide.LIMIT_FIELDS, "note"]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        cast(forms.TypedChoiceField, self.fields["priority"]).choices = [
            ("", _("Not set")),
            *Limit.Priority.choices,
        ]

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean()
        if not self.errors:
            if all(cleaned.get(name) is None for name in decide.LIMIT_FIELDS):
                self.add_error(None, _("Set at least one limit."))
            elif self.same().exists():
                self.add_error(None, _("There are limits for this audience already. Edit those."))
        return cleaned


class QuotaForm(AudienceForm):
    amount = forms.IntegerField(
        label=gettext_lazy("Amount"), min_value=1, max_value=10**15, localize=False
    )

    class Meta:
        model = Quota
        fields = ("amount", "unit", "period", "shared", "group", "note")

    field_order = [
        *("audience", "group", "username", "amount", "unit", "period", "shared", "note"),
    ]

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean()
        if cleaned.get("audience") == "user":
            cleaned["shared"] = self.instance.shared = False
        if not self.errors and self.same().filter(
            unit=cleaned["unit"], period=cleaned["period"], shared=cleaned["shared"]
        ):
            self.add_error(None, _("There is such a quota for this audience already. Edit it."))
        return cleaned
