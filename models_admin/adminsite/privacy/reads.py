"""Reads of a conversation by an administrator: with a reason, recorded, and told to its owner.

The list shows no titles and no text: those are content. A read shows one conversation to the one
administrator who gave a reason for it, for `VALID`.
"""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Any, Final

from django import forms
from django.core.paginator import Paginator
from django.db.models import Count
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_POST

from chatsite.accounts.models import User
from chatsite.audit.record import record
from chatsite.conversations import prompt
from chatsite.conversations.attachments import storage
from chatsite.conversations.models import Conversation, ConversationQuerySet, Message
from chatsite.retention import holds
from chatsite.retention.models import AdminRead
from chatsite.site_settings import current
from models_admin.adminsite.live import access
from models_admin.adminsite.privacy.retention import ReasonField, UserField

VALID: Final = timedelta(hours=1)
_PER_PAGE: Final = 50


class UserForm(forms.Form):
    user = UserField(label=gettext_lazy("Username"))


class ReadForm(forms.Form):
    conversation = forms.UUIDField(widget=forms.HiddenInput)
    reason = ReasonField(
        help_text=gettext_lazy("The owner sees your name and this reason at once."),
    )


def allowed() -> bool:
    return current().admin_reads == "with_reason"


@access.page("retention.read_conversation")
@never_cache
@require_GET
def page(request: HttpRequest) -> HttpResponse:
    return _page(request)


def _page(request: HttpRequest, form: ReadForm | None = None) -> HttpResponse:
    asked = UserForm(request.GET) if "user" in request.GET else UserForm()
    owner = asked.cleaned_data["user"] if asked.is_bound and asked.is_valid() else None
    chosen = form or (ReadForm(initial={"conversation": request.GET.get("conversation")}))
    conversations = None
    if owner is not None and allowed():
        rows = readable(owner).annotate(size=Count("messages")).order_by("-updated_at")
        conversations = Paginator(rows, _PER_PAGE).get_page(request.GET.get("page"))
    values = access.context(
        request,
        _("Reads of conversations"),
        allowed=allowed(),
        user_form=asked,
        owner=owner,
        conversations=conversations,
        chosen=request.GET.get("conversation") or (form and form.data.get("conversation")),
        form=chosen,
        reads=AdminRead.objects.select_related("owner")[:_PER_PAGE],
    )
    return render(request, "admin/privacy/reads.html", values, status=400 if form else 200)


def readable(owner: User) -> ConversationQuerySet:
    """Return the conversations of a user; deleted ones only under a legal hold."""
    if holds.holds_of(owner).exists():
        return Conversation.objects.of(owner) | Conversation.objects.deleted_by(owner)
    return Conversation.objects.of(owner)


@access.page("retention.read_conversation")
@never_cache
@require_POST
def begin(request: HttpRequest) -> HttpResponse:
    """Record the read and tell its owner, before anything is shown."""
    if not allowed():
        record("conversation.read", request=request, outcome="denied")
        return access.denied(request)
    form = ReadForm(request.POST)
    if not form.is_valid():
        return _page(request, form)
    found = (
        Conversation.objects.select_related("owner")
        .filter(pk=form.cleaned_data["conversation"])
        .first()
    )
    if found is None or not readable(found.owner).filter(pk=found.pk).exists():
        raise Http404
    reason = holds.cleaned_reason(form.cleaned_data["reason"])
    reader = access.current_user(request)
    made = AdminRead.objects.create(
        owner=found.owner,
        conversation=found,
        reader=reader.get_full_name() or reader.get_username(),
        reader_user=reader,
        reason=reason,
        messages=len(_shown(found)),
    )
    record(
        "conversation.read",
        request=request,
        target=("conversation", str(found.pk), ""),
        owner=found.owner.get_username(),
        owner_id=str(found.owner_id),
        reason=reason,
        messages=made.messages,
    )
    return redirect("admin:read_conversation", made.pk)


@access.page("retention.read_conversation")
@never_cache
@require_GET
def read(request: HttpRequest, id: uuid.UUID) -> HttpResponse:
    """Show the conversation of a recorded read to its reader."""
    if not allowed():
        return access.denied(request)
    own = AdminRead.objects.filter(reader_user=access.current_user(request))
    recent = own.filter(created_at__gt=timezone.now() - VALID)
    made = recent.select_related("conversation", "owner").filter(pk=id).first()
    if made is None or made.conversation is None:
        raise Http404
    if not readable(made.owner).filter(pk=made.conversation.pk).exists():
        raise Http404
    values = access.context(
        request,
        made.conversation.title or _("Untitled"),
        read=made,
        until=made.created_at + VALID,
        messages_shown=_shown(made.conversation),
    )
    return render(request, "admin/privacy/read.html", values)


def _shown(conversation: Conversation) -> list[dict[str, Any]]:
    """Return the messages of the branch that the owner saw last, as it was sent."""
    if conversation.head is None:
        return []
    documents = storage.of_messages(conversation.pk)
    return [
        {
            "speaker": _("User") if message.role == Message.Role.USER else _("Answer"),
            "own": message.role == Message.Role.USER,
            "content": message.content,
            "created_at": message.created_at,
            "documents": [(one.name, one.text) for one, _sent in documents.get(message.pk, ())],
        }
        for message in prompt.branch(conversation.head)
        if message.role != Message.Role.SYSTEM
    ]
