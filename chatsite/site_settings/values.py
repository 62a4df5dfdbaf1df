"""Validation and conversion of values: from forms, the environment and the database."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import msgspec
from django import forms
from django.conf import settings
from django.core.exceptions import ValidationError
from django.utils.translation import gettext_lazy as _

from chatsite.site_settings.fields import Declared, Kind, SiteSettings, declared

_TRUE = {"1", "true", "on", "yes", "t", "y"}
_FALSE = {"0", "false", "off", "no", "f", "n"}


class LinesField(forms.CharField):
    """A list of texts, one per line; empty lines are ignored."""

    widget = forms.Textarea

    def __init__(self, *, most: int | None, **options: Any) -> None:
        self.most = most
        super().__init__(**options)

    def to_python(self, value: Any) -> Any:
        lines = value if isinstance(value, list | tuple) else str(value or "").splitlines()
        return tuple(dict.fromkeys(line.strip() for line in lines if line.strip()))

    def prepare_value(self, value: Any) -> Any:
        return "\n".join(value) if isinstance(value, list | tuple) else value

    def validate(self, value: Any) -> None:
        if self.most is not None and len(value) > self.most:
            raise ValidationError(_("Enter at most %(most)s lines."), "max", {"most": self.most})


def form_field(field: Declared) -> forms.Field:
    """Return the form field of a setting, which validates and converts its value."""
    common: dict[str, Any] = {
        "label": field.setting.label,
        "help_text": field.setting.help,
        "validators": field.setting.validators,
        "required": False,
    }
    if field.kind is Kind.SWITCH:
        return forms.BooleanField(**common)
    if field.kind is Kind.CHOICE:
        return forms.ChoiceField(choices=list(field.setting.choices.items()), **common)
    if field.kind is Kind.NUMBER:
        common["required"] = True
        return forms.IntegerField(min_value=field.least, max_value=field.most, **common)
    if field.kind is Kind.LIST:
        return LinesField(most=field.most, **common)
    if field.kind is Kind.MOMENT:
        widget = forms.DateTimeInput(attrs={"type": "datetime-local"}, format="%Y-%m-%dT%H:%M")
        return forms.DateTimeField(widget=widget, **common)
    common["required"] = bool(field.least)
    if field.kind is Kind.LONG_TEXT:
        common["widget"] = forms.Textarea
    return forms.CharField(min_length=field.least, max_length=field.most, **common)


def clean(name: str, value: Any) -> Any:
    """Return ``value`` in the type of the setting. Raises `ValidationError`."""
    field = declared()[name]
    if field.kind is Kind.SWITCH and isinstance(value, str):
        if value.strip().lower() not in _TRUE | _FALSE:
            raise ValidationError(_("Enter on or off."))
        return value.strip().lower() in _TRUE
    if field.kind is Kind.CHOICE and value not in field.setting.choices:
        allowed = ", ".join(field.setting.choices)
        raise ValidationError(_("Choose one of: %(allowed)s."), "choice", {"allowed": allowed})
    return form_field(field).clean(value)


def check_together(values: SiteSettings) -> None:
    """Raise `ValidationError` with messages by field if settings contradict each other."""
    problems: dict[str, Any] = {}
    if (
        values.banner_from is not None
        and values.banner_until is not None
        and values.banner_until <= values.banner_from
    ):
        problems["banner_until"] = _("Enter a time after “Show from”.")
    if values.terms_text and not values.terms_version:
        problems["terms_version"] = _("Enter a version: it is recorded with each acceptance.")
    if values.signup_mode == "domain" and not values.signup_domains:
        problems["signup_domains"] = _("Enter at least one domain, or choose another mode.")
    if problems:
        raise ValidationError(problems)


def to_stored(value: Any) -> Any:
    return msgspec.to_builtins(value)


def from_stored(name: str, value: Any) -> Any:
    """Return the value of a row. Raises `msgspec.ValidationError` if it is invalid."""
    return msgspec.convert(value, declared()[name].type)


def from_environment() -> tuple[dict[str, Any], dict[str, str]]:
    """Return the values that the environment sets, and messages of invalid ones, by field."""
    found: dict[str, Any] = {}
    problems: dict[str, str] = {}
    for name, field in declared().items():
        if field.setting.hidden:
            continue
        if own := field.setting.environment:
            if own in settings.ENV.model_fields_set:
                found[name] = getattr(settings.ENV, own)
            continue
        text = os.environ.get(field.variable)
        if text is None:
            continue
        written: Any = text
        if field.kind is Kind.LIST:
            written = [word.strip() for word in text.split(",") if word.strip()]
        try:
            found[name] = clean(name, written)
        except ValidationError as error:
            problems[name] = " ".join(error.messages)
    return found, problems


def combined(stored: Mapping[str, Any], environment: Mapping[str, Any]) -> SiteSettings:
    return SiteSettings(**{**stored, **environment})
