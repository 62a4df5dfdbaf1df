"""The page where users create, view and revoke their API keys."""

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
from chatsite.audit.record import record
from chatsite.policy import decisions
from chatsite.policy.features import Feature

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
            (365, gettext_lazy("1 year")),
            (0, gettext_lazy("No expiry")),
        ],
    )
    scopes = forms.MultipleChoiceField(
        label=gettext_lazy("Scopes"),
        choices=Scope.choices,
        initial=list(keys.DEFAULT_SCOPES),
        widget=forms.CheckboxSelectMultiple,
    )


@never_cache
@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def page(request: HttpRequest) -> HttpResponse:
    user = request.user
    assert isinstance(user, User)  # noqa: S101  (`login_required`)
    allowed = decisions.allows(user, Feature.API)
    if request.method == "POST":
        decisions.require_for_page(user, Feature.API)
    form = KeyForm(request.POST or None)
    made = ""
    own = ApiKey.objects.of(user).filter(revoked_at=None)
    if request.method == "POST" and form.is_valid():
        if own.count() >= _KEYS_MAX:
            form.add_error(None, _("You have too many keys. Revoke some first."))
        else:
            data: dict[str, Any] = form.cleaned_data
            key, made = keys.create(
                user, name=data["name"], scopes=data["scopes"], days=data["days"] or None
            )
            record(
                "key.created",
                request=request,
                target=("key", str(key.pk), key.prefix),
                name=key.name,
                scopes=key.scopes.split(),
                days=data["days"] or None,
            )
            form = KeyForm()
    context = {"form": form, "made": made, "keys": own.order_by("-pk"), "allowed": allowed}
    return render(request, "accounts/keys.html", context)


@login_required
@require_POST
def revoke(request: HttpRequest, id: int) -> HttpResponse:
    user = request.user
    assert isinstance(user, User)  # noqa: S101  (`login_required`)
    key = get_object_or_404(ApiKey.objects.of(user), pk=id)
    keys.revoke(key)
    record("key.revoked", request=request, target=("key", str(key.pk), key.prefix))
    messages.success(request, _("The key %(key)s was revoked.") % {"key": key})
    return redirect("api_keys")
