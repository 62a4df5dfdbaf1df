"""The pages where users create, edit and delete their assistants."""

from __future__ import annotations

import uuid

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils import timezone
from django.utils.http import urlencode
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST

from chatsite.accounts.models import User
from chatsite.audit.record import record
from chatsite.conversations.assistants.models import Assistant
from chatsite.knowledge.assistant_form import KnowledgeAssistantForm
from chatsite.policy import decisions
from chatsite.policy.features import Feature

_MOST = 100


@never_cache
@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def page(request: HttpRequest, id: uuid.UUID | None = None) -> HttpResponse:
    """Show the user's assistants with a form for a new one, or for the one with ``id``."""
    user = request.user
    assert isinstance(user, User)  # noqa: S101  (`login_required`)
    decisions.require_for_page(user, Feature.ASSISTANTS)
    own = Assistant.objects.of(user)
    changed = get_object_or_404(own, pk=id) if id else None
    form = KnowledgeAssistantForm(request.POST or None, instance=changed or Assistant(owner=user))
    if request.method == "POST" and form.is_valid():
        if changed is None and own.count() >= _MOST:
            form.add_error(None, _("You have too many assistants. Delete some first."))
        else:
            saved = form.save()
            record(
                "assistant.changed" if changed else "assistant.created",
                request=request,
                target=_target(saved),
            )
            messages.success(request, _("%(name)s was saved.") % {"name": saved.name})
            return redirect("assistants")
    context = {
        "form": form,
        "assistants": own,
        "changed": changed,
        "deleted": _deleted(user, request.GET.get("deleted", "")),
    }
    return render(request, "chat/assistants.html", context)


@login_required
@require_POST
def delete(request: HttpRequest, id: uuid.UUID) -> HttpResponse:
    user = request.user
    assert isinstance(user, User)  # noqa: S101
    found = get_object_or_404(Assistant.objects.of(user), pk=id)
    found.deleted_at = timezone.now()
    found.save(update_fields=["deleted_at"])
    record("assistant.deleted", request=request, target=_target(found))
    return redirect(f"{reverse('assistants')}?{urlencode({'deleted': str(found.pk)})}")


@login_required
@require_POST
def restore(request: HttpRequest, id: uuid.UUID) -> HttpResponse:
    user = request.user
    assert isinstance(user, User)  # noqa: S101
    found = _deleted(user, str(id))
    if found is None:
        raise Http404
    found.deleted_at = None
    found.save(update_fields=["deleted_at"])
    record("assistant.restored", request=request, target=_target(found))
    messages.success(request, _("%(name)s was restored.") % {"name": found.name})
    return redirect("assistants")


def _target(assistant: Assistant) -> tuple[str, str, str]:
    """Return the ID alone: the name of a user's own assistant is content."""
    return "assistant", str(assistant.pk), ""


def _deleted(user: User, id: str) -> Assistant | None:
    """Return a deleted assistant of the user that has not been purged, or None."""
    try:
        wanted = uuid.UUID(id)
    except ValueError:
        return None
    gone = Assistant.with_deleted.of(user).exclude(deleted_at=None)
    return gone.filter(pk=wanted).first()
