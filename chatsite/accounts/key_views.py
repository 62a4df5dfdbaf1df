"""The page where people make, see and revoke their API keys."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST

from chatsite.accounts import keys
from chatsite.accounts.models import ApiKey, Scope, User

_KEYS_MAX = 100


class KeyForm(forms.Form):
    name = forms.CharField(label=gettext_lazy("Name"), max_length=100)
    days = forms.TypedChoiceField(
        label=gettext_lazy("Valid for"),
        coerce=int,
        initial=0,
        choices=[
            (30, gettext_lazy("30 days")),
            (90, gettext_lazy("90 days")),
            (365, gettext_lazy("a year")),
            (0, gettext_lazy("until it is revoked")),
        ],
    )
    scopes = forms.MultipleChoiceField(
        label=gettext_lazy("For"),
        choices=Scope.choices,
        initial=list(keys.ALL_SCOPES),
        widget=forms.CheckboxSelectMultiple,
    )


@never_cache
@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def page(request: HttpRequest) -> HttpResponse:
    user = request.user
    assert isinstance(user, User)  # noqa: S101  (`login_required`)
    form = KeyForm(request.POST or None)
    made = ""
    own = ApiKey.objects.filter(owner=user, revoked_at=None)
    if request.method == "POST" and form.is_valid():
        if own.count() >= _KEYS_MAX:
            form.add_error(None, _("You have too many keys. Revoke some first."))
        else:
            data: dict[str, Any] = form.cleaned_data
            _key, made = keys.create(
                user, name=data["name"], scopes=data["scopes"], days=data["days"] or None
            )
            form = KeyForm()
    return render(
        request, "accounts/keys.html", {"form": form, "made": made, "keys": own.order_by("-pk")}
    )


@login_required
@require_POST
def revoke(request: HttpRequest, id: int) -> HttpResponse:
    key = get_object_or_404(ApiKey, pk=id, owner=request.user)
    keys.revoke(key)
    messages.success(request, _("The key %(key)s is revoked.") % {"key": key})
    return redirect("api_keys")
