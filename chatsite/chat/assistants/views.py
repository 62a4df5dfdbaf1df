"""The pages where people make, change and delete assistants of their own."""

from __future__ import annotations

import uuid

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST

from chatsite.accounts.models import User
from chatsite.chat.assistants.forms import AssistantForm
from chatsite.chat.assistants.models import Assistant

_MOST = 100


@never_cache
@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def page(request: HttpRequest, id: uuid.UUID | None = None) -> HttpResponse:
    """All of the person's own with a form for a new one; with ``id`` the form of that one."""
    user = request.user
    assert isinstance(user, User)  # noqa: S101  (`login_required`)
    own = Assistant.objects.of(user)
    changed = get_object_or_404(own, pk=id) if id else None
    form = AssistantForm(request.POST or None, instance=changed or Assistant(owner=user))
    if request.method == "POST" and form.is_valid():
        if changed is None and own.count() >= _MOST:
            form.add_error(None, _("You have too many assistants. Delete some first."))
        else:
            saved = form.save()
            messages.success(request, _("%(name)s is saved.") % {"name": saved.name})
            return redirect("assistants")
    context = {"form": form, "assistants": own, "changed": changed}
    return render(request, "chat/assistants.html", context)


@login_required
@require_POST
def delete(request: HttpRequest, id: uuid.UUID) -> HttpResponse:
    user = request.user
    assert isinstance(user, User)  # noqa: S101
    found = get_object_or_404(Assistant.objects.of(user), pk=id)
    found.delete()
    messages.success(request, _("%(name)s is deleted.") % {"name": found.name})
    return redirect("assistants")
