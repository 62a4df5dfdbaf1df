"""The form of all settings, and that of the logo."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.utils.translation import gettext_lazy as _

from chatsite.site_settings import current, logo
from chatsite.site_settings.cache import locked
from chatsite.site_settings.fields import Declared, Group, Kind, declared
from chatsite.site_settings.values import form_field
from models_admin import catalogue
from models_admin.models import ModelName


class SettingsForm(forms.Form):
    """All settings. Each field knows the value that its reader saw.

    So only what the reader changed is stored, and what another administrator changed meanwhile is
    kept.
    """

    def __init__(self, data: Any = None) -> None:
        values, fixed = current(), locked()
        shown = [field for field in declared().values() if not field.setting.hidden]
        initial = {field.name: getattr(values, field.name) for field in shown}
        initial["default_model"] = values.default_model or _default_in_the_list()
        super().__init__(data, initial=initial)
        for field in shown:
            control = _model_field(field) if field.kind is Kind.MODEL else form_field(field)
            control.disabled = field.name in fixed
            control.show_hidden_initial = not control.disabled
            described = f"id_{field.name}_help"
            control.widget.attrs["aria-describedby"] = described
            if field.kind in {Kind.LONG_TEXT, Kind.LIST}:
                control.widget.attrs["rows"] = 4
            self.fields[field.name] = control

    def changes(self) -> dict[str, Any]:
        """Return the valid values that the reader changed."""
        return {name: self.cleaned_data[name] for name in self.changed_data}

    def groups(self) -> Iterator[tuple[Group, list[tuple[Declared, forms.BoundField]]]]:
        """Yield the groups with their fields, in the order of the page."""
        for group in Group:
            fields = [
                (field, self[field.name])
                for field in declared().values()
                if field.setting.group == group and field.name in self.fields
            ]
            if fields:
                yield group, fields


def _model_field(field: Declared) -> forms.Field:
    ability = field.setting.model or "completion"
    names = [model.name for model in catalogue.able(ability)]
    if ability == "completion":
        automatic = catalogue.automatic_name()
    else:
        automatic = None
    label = _("Automatic (%s)") % automatic if automatic else _("Automatic")
    choices: list[tuple[str, Any]] = [("", label), *((name, name) for name in names)]
    chosen = getattr(current(), field.name)
    if chosen and chosen not in names:
        gone = not ModelName.objects.filter(name=chosen).exists()
        text = _("%s (not installed)") if gone else _("%s (not available)")
        choices.append((chosen, text % chosen))
    return forms.ChoiceField(
        label=str(field.setting.label),
        help_text=str(field.setting.help),
        choices=choices,
        required=False,
    )


def _default_in_the_list() -> str:
    """Return the default model that an earlier release stored with the models; "" without one."""
    model = ModelName.objects.filter(is_default=True).first()
    return model.name if model else ""


class LogoForm(forms.Form):
    file = forms.FileField(label=_("Image file"), widget=forms.FileInput(attrs={"accept": ""}))

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.fields["file"].widget.attrs["accept"] = ",".join(logo.MEDIA_TYPES.values())

    def clean_file(self) -> bytes:
        file = self.cleaned_data["file"]
        if file.size > logo.MAX_BYTES:
            raise ValidationError(logo.TOO_LARGE, "size", {"limit": logo.MAX_BYTES >> 10})
        content: bytes = file.read()
        logo.media_type(content)
        return content
