"""The chat page, and the JSON endpoints that it uses besides its socket."""

from __future__ import annotations

import uuid
from functools import partial
from typing import Annotated, Any

import msgspec
from asgiref.sync import sync_to_async
from django.conf import settings
from django.contrib.auth.decorators import login_required
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.middleware.csrf import get_token
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import ensure_csrf_cookie
from django.views.decorators.http import require_GET, require_http_methods, require_POST
from msgspec.structs import asdict

from chatsite.accounts.models import User
from chatsite.answers.runtime import runtime
from chatsite.chat import listing, organise, temporary
from chatsite.chat.organise_views import record_conversations
from chatsite.chat.protocol import COLLECTIONS
from chatsite.conversations import history, schema, serialize
from chatsite.conversations.assistants import presets as assistants
from chatsite.conversations.attachments import storage
from chatsite.conversations.hints import conversation_changed
from chatsite.conversations.models import Conversation, Message
from chatsite.errors import BadRequest, ConversationNotFound, MessageNotFound, NotFound
from chatsite.hosts import status
from chatsite.json_api import answered, current_user, decoded, json_api
from chatsite.knowledge import citations
from chatsite.knowledge import turns as knowledge
from chatsite.policy import decisions, words
from chatsite.policy.quotas import states
from chatsite.retention import erase, periods
from chatsite.retention.models import AdminRead
from chatsite.search import index
from models_admin import catalogue
from models_admin import model_details as presenting

_NOTICES_MOST = 20


@require_GET
@never_cache
@ensure_csrf_cookie
@login_required
async def page(request: HttpRequest, id: uuid.UUID | None = None) -> HttpResponse:
    """Render `/` and `/c/<id>/` with all data that the first paint needs."""
    user = await current_user(request)
    models = await _models(user)

    def boot() -> schema.Boot:
        opening, error = None, None
        if id is not None:
            try:
                opening = _conversation(user, id)
            except NotFound as refusal:
                error = refusal.as_dict()
        return schema.Boot(
            user=schema.BootUser(user.get_full_name() or user.username, user.is_staff),
            csrf=get_token(request),
            limits=schema.BootLimits(
                message_chars=settings.ENV.max_message_chars,
                attachment_mb=settings.ENV.attachment_mb,
                attachments=storage.PER_MESSAGE,
            ),
            urls=schema.BootUrls(
                logout=reverse("account_logout"),
                login=reverse("account_login"),
                admin=reverse("admin:index"),
                set_language=reverse("set_language"),
                catalogue=reverse("admin:catalogue") if user.is_staff else "",
            ),
            privacy=_privacy(user),
            **asdict(listing.first(user)),
            **asdict(models),
            conversation=opening,
            error=error,
        )

    data = await sync_to_async(boot)()
    return await sync_to_async(render)(
        request,
        "chat/page.html",
        {"boot": msgspec.to_builtins(data)},
        status=404 if data.error else 200,
    )


@require_GET
@json_api
async def conversations(request: HttpRequest, user: User) -> HttpResponse:
    """Return a page of a `view` (see `listing.page`); the first includes pins and folders."""
    view, before = request.GET.get("view", listing.MAIN), request.GET.get("before")
    if before:
        return answered(await sync_to_async(listing.page)(user, view, before))
    return answered(await sync_to_async(listing.first)(user, view))


@require_GET
@json_api
async def count(request: HttpRequest, user: User) -> HttpResponse:
    """Return the number of conversations in a `view`."""
    found = listing.everything(user, request.GET.get("view", listing.MAIN))
    return answered({"count": await found.acount()})


class Changes(msgspec.Struct, forbid_unknown_fields=True):
    """The fields of a conversation that its owner may change."""

    title: Annotated[str, msgspec.Meta(min_length=1, max_length=200)] | None = None
    head: uuid.UUID | None = None
    keep_latest: bool | None = None
    collections: Annotated[list[uuid.UUID], msgspec.Meta(max_length=COLLECTIONS)] | None = None


@require_http_methods(["GET", "PATCH", "DELETE"])
@json_api
async def conversation(request: HttpRequest, user: User, id: uuid.UUID) -> HttpResponse:
    if request.method == "GET":
        return answered(await sync_to_async(_conversation)(user, id))
    if request.method == "DELETE":
        await organise.apply(user, organise.BulkAction(ids=[id], action="delete"))
        record_conversations("conversation.deleted", request, user, [str(id)])
        return HttpResponse(status=204)
    changed = await sync_to_async(_change)(user, id, decoded(request, Changes))
    await conversation_changed(user.pk, id, "updated")
    return answered({"conversation": changed})


@require_GET
@json_api
async def messages(request: HttpRequest, user: User, id: uuid.UUID) -> HttpResponse:
    """Return the messages of a branch up to the one named by ``until``."""
    try:
        until = uuid.UUID(request.GET.get("until", ""))
    except ValueError as error:
        raise BadRequest(reason=str(error)) from error
    sources = partial(citations.of_messages, user)
    return answered(await sync_to_async(lambda: history.until(_owned(user, id), until, sources))())


@require_GET
@json_api
async def models(request: HttpRequest, user: User) -> HttpResponse:
    return answered(await _models(user))


@require_GET
@json_api
async def quotas(request: HttpRequest, user: User) -> HttpResponse:
    """Return what is left of the user's quotas."""
    return answered(schema.Quotas(await sync_to_async(_quotas)(user)))


@require_GET
@json_api
async def model_details(request: HttpRequest, user: User) -> HttpResponse:
    """Return details of each available model; fetched when the list is opened."""

    def found() -> dict[str, Any]:
        details = presenting.details()
        return {name: one for name, one in details.items() if decisions.allows_model(user, name)}

    return answered({"details": await sync_to_async(found)()})


def _privacy(user: User) -> schema.BootPrivacy:
    unseen = AdminRead.objects.of(user).filter(seen_at=None).select_related("conversation")
    return schema.BootPrivacy(
        temporary=temporary.mode(user),
        temporary_minutes=erase.minutes(settings.ENV.temporary_seconds),
        retention_days=periods.days_for(user),
        reads=[_notice(read) for read in unseen[:_NOTICES_MOST]],
    )


def _notice(read: AdminRead) -> schema.AdminReadNotice:
    shown = read.conversation if read.conversation and not read.conversation.deleted_at else None
    return schema.AdminReadNotice(
        id=str(read.pk),
        reader=read.reader,
        reason=read.reason,
        created_at=read.created_at.isoformat(),
        conversation=str(shown.pk) if shown else None,
        title=shown.title if shown else "",
    )


@require_POST
@json_api
async def confirm_read(request: HttpRequest, user: User, id: uuid.UUID) -> HttpResponse:
    """Confirm the notice that an administrator has read a conversation."""
    unseen = AdminRead.objects.of(user).filter(pk=id, seen_at=None)
    if not await unseen.aupdate(seen_at=timezone.now()):
        raise NotFound
    return HttpResponse(status=204)


async def _models(user: User) -> schema.Models:
    """Return the models and assistants that the user may choose, with the models' states."""

    def choices() -> tuple[list[dict[str, Any]], dict[str, Any]]:
        offered = catalogue.offered(user, writing=True)
        names = {model["name"] for model in offered}
        return offered, {
            "assistants": assistants.offered(user, names),
            "default_model": catalogue.default_name(user),
            "features": decisions.features(user),
            "quotas": _quotas(user),
        }

    offered, rest = await sync_to_async(choices)()
    hosts = await status.alive_or_none(runtime().redis) or []
    models = []
    for model in offered:
        known = status.best(hosts, model["name"])
        models.append(schema.Model(state=known.state if known else "unloaded", **model))
    return schema.Models(models, **rest)


def _quotas(user: User) -> list[schema.Quota]:
    """Return the state of each of the user's quotas, worded in the request's language."""
    return [
        schema.Quota(
            text=words.quota(state.quota),
            shared=state.quota.shared,
            amount=state.quota.amount,
            used=state.used,
            reserved=state.reserved,
            left=state.left,
            warn_at=state.warn_at,
            renews_at=state.renews_at.isoformat(),
        )
        for state in states(user)
    ]


def _owned(user: User, id: uuid.UUID) -> Conversation:
    found = Conversation.objects.of(user).filter(pk=id).first()
    if found is None:
        raise ConversationNotFound
    return found


def _conversation(user: User, id: uuid.UUID) -> schema.Opening:
    opening = history.opening(_owned(user, id), partial(citations.of_messages, user))
    return msgspec.structs.replace(opening, collections=citations.attached(user, id))


def _change(user: User, id: uuid.UUID, changes: Changes) -> schema.Conversation:
    found = _owned(user, id)
    changed: list[str] = []
    if changes.title is not None:
        title = " ".join(changes.title.replace("\x00", "").split())
        if not title:
            raise BadRequest
        found.title, found.untitled = title, False
        changed += ["title", "untitled"]
    if changes.head is not None:
        if not Message.objects.filter(pk=changes.head, conversation=found).exists():
            raise MessageNotFound
        found.head_id = changes.head
        changed.append("head")
    if changes.keep_latest is not None:
        found.keep_latest = changes.keep_latest
        changed.append("keep_latest")
    with transaction.atomic():
        found.save(update_fields=changed)  # other fields may have changed meanwhile
        if changes.title is not None:
            index.put_title(found)
        if changes.collections is not None:
            knowledge.set_collections(found, user, changes.collections)
    return serialize.conversation(found)
