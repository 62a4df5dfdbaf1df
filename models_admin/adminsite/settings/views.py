"""The page of settings, for administrators."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.contrib import messages
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.http import require_http_methods, require_POST

from chatsite.answers.gate import open_answers
from chatsite.errors import ChatsiteError
from chatsite.site_settings import current, logo
from chatsite.site_settings.fields import declared
from chatsite.site_settings.save import save
from models_admin import catalogue
from models_admin.adminsite.live import access
from models_admin.adminsite.settings.forms import LogoForm, SettingsForm
from models_admin.adminsite.site import site

View = Callable[..., HttpResponseBase]


def administrators(view: View) -> View:
    """Decorate a page that is for administrators only."""

    @wraps(view)
    def checked(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if not request.user.is_superuser:
            return access.denied(request)
        return view(request, *args, **kwargs)

    return site.admin_view(checked)


@require_http_methods(["GET", "POST"])
@administrators
def settings(request: HttpRequest) -> HttpResponse:
    form = SettingsForm(request.POST if request.method == "POST" else None)
    if request.method == "POST" and form.is_valid() and _store(request, form):
        return redirect("admin:settings")
    return _page(request, form, LogoForm(), 422 if form.errors else 200)


def _store(request: HttpRequest, form: SettingsForm) -> bool:
    """Store what was changed; with an error nothing is stored, and the form has it."""
    changes = form.changes()
    by = access.current_user(request).get_username()
    try:
        model = changes.get("default_model")
        if model:
            catalogue.require_chat(model)
        changed = save(changes, by=by, request=request)
    except ChatsiteError as error:
        form.add_error("default_model", str(error))
        return False
    except ValidationError as error:
        form.add_error(None, error)
        return False
    if "default_model" in changed:
        catalogue.set_default(catalogue.require(model) if model else None)
    if changed:
        text = ngettext("%s setting saved.", "%s settings saved.", len(changed))
        messages.success(request, text % len(changed))
    else:
        messages.info(request, _("Nothing was changed."))
    return True


@require_POST
@administrators
def change_logo(request: HttpRequest) -> HttpResponse:
    """Store the uploaded logo, or remove it."""
    by = access.current_user(request).get_username()
    if "remove" in request.POST:
        logo.change(None, request=request, by=by)
        messages.success(request, _("The logo was removed."))
        return redirect("admin:settings")
    form = LogoForm(request.POST, request.FILES)
    if not form.is_valid():
        return _page(request, SettingsForm(), form, 422)
    logo.change(form.cleaned_data["file"], request=request, by=by)
    messages.success(request, _("The logo was changed."))
    return redirect("admin:settings")


def _page(
    request: HttpRequest, form: SettingsForm, logo_form: LogoForm, status: int
) -> HttpResponse:
    values = {
        "form": form,
        "groups": list(form.groups()),
        "logo_form": logo_form,
        "has_logo": bool(current().logo),
        "fields": declared(),
        "open_answers": open_answers() if current().maintenance else None,
    }
    shown = access.context(request, _("Settings"), **values)
    return render(request, "admin/settings/page.html", shown, status=status)
