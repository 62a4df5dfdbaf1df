"""The form of a remote engine."""

from __future__ import annotations

from typing import Any, Final

from django import forms
from django.core.exceptions import ValidationError
from django.utils.translation import gettext_lazy as _

from chatsite.errors import ChatsiteError
from models_admin.engines.models import CAPABILITIES, Engine
from models_admin.sources import egress

_AS_REPORTED: Final = [("", _("As the engine reports")), ("yes", _("Yes")), ("no", _("No"))]
_MOST_NAMES: Final = 500


class EngineForm(forms.ModelForm):  # type: ignore[type-arg]
    """An engine. An empty key field keeps the stored key."""

    key = forms.CharField(
        label=_("Key"),
        required=False,
        max_length=4000,
        strip=True,
        widget=forms.PasswordInput(attrs={"autocomplete": "off", "spellcheck": "false"}),
    )
    forget_key = forms.BooleanField(label=_("Remove the stored key"), required=False)
    only_text = forms.CharField(
        label=_("Models to offer"),
        required=False,
        widget=forms.Textarea(attrs={"rows": 3, "spellcheck": "false"}),
        help_text=_("Names as the engine lists them, one per line. Empty: all."),
    )

    field_order = ("name", "kind", "url", "key", "forget_key")

    class Meta:
        model = Engine
        fields = ("name", "kind", "url", "concurrency", "timeout_seconds", "context", "enabled")
        help_texts = {
            "name": _("Shown to administrators, and before models whose name is taken."),
            "url": _(
                "For example http://gpu1.example.org:8000. Text of users is sent there: use https "
                "outside a trusted network."
            ),
            "concurrency": _("Requests that may run there at once. Others wait in the queue."),
            "timeout_seconds": _(
                "A request is given back to the queue if the engine sends nothing for this long."
            ),
            "context": _("Tokens of a prompt and its answer. Empty: as the engine reports."),
            "enabled": _("An engine that is not in use gets no requests; its models are hidden."),
        }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.stored_key = bool(self.instance.key)
        stored = _("A key is stored. Leave empty to keep it.")
        none = _("Sent as a Bearer token, and stored encrypted. Empty if the engine needs none.")
        self.fields["key"].help_text = stored if self.stored_key else none
        if not self.stored_key:
            del self.fields["forget_key"]
        self.initial["only_text"] = "\n".join(self.instance.only)
        for name, label in CAPABILITIES.items():
            there = self.instance.overrides.get(name)
            self.fields[f"can_{name}"] = forms.ChoiceField(
                label=label,
                choices=_AS_REPORTED,
                required=False,
                initial="" if there is None else "yes" if there else "no",
            )
        for name, field in self.fields.items():
            if field.help_text:
                field.widget.attrs["aria-describedby"] = f"id_{name}_helptext"

    def clean_url(self) -> str:
        try:
            return str(egress.engine_url(self.cleaned_data["url"]))
        except ChatsiteError as error:
            raise ValidationError(str(error)) from error

    def clean_only_text(self) -> list[str]:
        lines = self.cleaned_data["only_text"].splitlines()
        names = list(dict.fromkeys(line.strip() for line in lines if line.strip()))
        if len(names) > _MOST_NAMES:
            raise ValidationError(_("At most %s names.") % _MOST_NAMES)
        return names

    def apply(self) -> tuple[Engine, str | None]:
        """Return the engine with the values of the form, and the new key; None keeps the old."""
        engine: Engine = self.instance
        data = self.cleaned_data
        engine.only = data["only_text"]
        chosen = {name: data[f"can_{name}"] for name in CAPABILITIES}
        engine.overrides = {name: value == "yes" for name, value in chosen.items() if value}
        if data.get("forget_key"):
            return engine, ""
        return engine, data["key"] or None

    def plain_fields(self) -> list[forms.BoundField]:
        return [self[name] for name in self.fields if not name.startswith("can_")]

    def capability_fields(self) -> list[forms.BoundField]:
        return [self[name] for name in self.fields if name.startswith("can_")]
