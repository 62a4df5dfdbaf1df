"""The form for creating and editing an assistant, for users and administrators."""

from __future__ import annotations

import unicodedata
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from msgspec import inspect

from chatsite.conversations.assistants.models import Assistant
from chatsite.engine.contract.messages import SamplingParams
from models_admin import catalogue
from models_admin.config import options

_SUGGESTIONS_MOST = 6
_SUGGESTION_CHARS = 200
_SYSTEM_CHARS = 20_000
# Names of `options.KNOWN`.
_NUMBERS: dict[str, tuple[type[forms.Field], Any, Any]] = {
    "temperature": (
        forms.FloatField,
        gettext_lazy("Temperature"),
        gettext_lazy(
            "0 = deterministic, above 1 = more random. Leave empty for the model's default."
        ),
    ),
    "top_p": (forms.FloatField, gettext_lazy("Top p"), ""),
    "top_k": (forms.IntegerField, gettext_lazy("Top k"), ""),
    "repeat_penalty": (forms.FloatField, gettext_lazy("Repeat penalty"), ""),
    "num_predict": (forms.IntegerField, gettext_lazy("Max tokens"), ""),
}


def _range(name: str) -> dict[str, Any]:
    """Return the range of a parameter, for a message."""
    field = options.KNOWN[name][1]
    kind: Any = inspect.type_info(SamplingParams)
    found = next(one.type for one in kind.fields if one.name == field)
    parts = found.types if isinstance(found, inspect.UnionType) else (found,)
    number = next(one for one in parts if isinstance(one, inspect.IntType | inspect.FloatType))
    least = number.ge if number.ge is not None else number.gt
    return {"least": least, "most": number.le}


class AssistantForm(forms.ModelForm):  # type: ignore[type-arg]
    """The parameters have the same ranges as in API requests."""

    suggestion_lines = forms.CharField(
        label=gettext_lazy("Prompt suggestions"),
        help_text=gettext_lazy("One per line, up to six."),
        required=False,
        strip=True,
        widget=forms.Textarea(attrs={"rows": 3}),
    )

    class Meta:
        model = Assistant
        fields = ("name", "icon", "description", "model", "system")
        widgets = {"system": forms.Textarea(attrs={"rows": 6, "maxlength": _SYSTEM_CHARS})}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        owner = self.instance.owner
        names = [model["name"] for model in catalogue.offered(owner, writing=True)]
        if self.instance.model and self.instance.model not in names:
            names.append(self.instance.model)
        self.fields["model"] = forms.ChoiceField(
            label=gettext_lazy("Model"),
            choices=[(name, name) for name in names],
            initial=catalogue.default_name(owner),
        )
        for name, (kind, label, help_text) in _NUMBERS.items():
            self.fields[name] = kind(
                label=label,
                help_text=help_text,
                required=False,
                initial=self.instance.parameters.get(name),
            )
        self.fields["suggestion_lines"].initial = "\n".join(self.instance.suggestions)
        last = self.fields.pop("suggestion_lines")
        self.fields["suggestion_lines"] = last

    def clean_icon(self) -> str:
        icon = str(self.cleaned_data["icon"]).strip()
        # An emoji may consist of several characters that are displayed as one.
        kinds = [unicodedata.category(char) for char in icon]
        drawn = [kind for kind in kinds if kind not in {"Cf", "Mn", "Sk"}]
        if len(drawn) > 2 or {"Cc", "Co"} & set(kinds):
            raise ValidationError(_("One emoji or a letter."))
        return icon

    def clean_system(self) -> str:
        text = str(self.cleaned_data["system"]).replace("\x00", "").replace("\r\n", "\n")
        if len(text) > _SYSTEM_CHARS:
            raise ValidationError(_("At most %(limit)s characters.") % {"limit": _SYSTEM_CHARS})
        return text

    def clean_suggestion_lines(self) -> list[str]:
        lines = [
            " ".join(line.split()) for line in self.cleaned_data["suggestion_lines"].split("\n")
        ]
        lines = [line for line in lines if line]
        if len(lines) > _SUGGESTIONS_MOST or any(len(line) > _SUGGESTION_CHARS for line in lines):
            raise ValidationError(_("At most six lines of 200 characters each."))
        return lines

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        for name in _NUMBERS:
            value = cleaned.get(name)
            if value is None:
                continue
            try:
                options.sampling({name: value}, exact=True)
            except options.BadOption:
                text = _("This must be from %(least)s to %(most)s.") % _range(name)
                self.add_error(name, text)
        return cleaned

    def save(self, commit: bool = True) -> Assistant:
        cleaned = self.cleaned_data
        made: Assistant = self.instance
        # Parameters that the form does not show may have been set elsewhere.
        kept = {name: value for name, value in made.parameters.items() if name not in _NUMBERS}
        said = {name: cleaned[name] for name in _NUMBERS if cleaned.get(name) is not None}
        made.parameters = {**kept, **said}
        made.suggestions = cleaned["suggestion_lines"]
        saved: Assistant = super().save(commit)
        return saved
