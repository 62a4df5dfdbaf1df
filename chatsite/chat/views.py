"""The chat page, and the JSON that it reads and changes besides its socket."""

from __future__ import annotations

import uuid
from typing import Annotated, Any

import msgspec
from asgiref.sync import sync_to_async
from django.conf import settings
from django.contrib.auth.decorators import login_required
from django.db import transaction
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.middleware.csrf import get_token
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import ensure_csrf_cookie
from django.views.decorators.http import require_GET, require_http_methods
from redis.exceptions import RedisError

from chatsite.accounts.models import User
from chatsite.chat import history, listing, organise, serialize
from chatsite.chat.assistants import store as assistants
from chatsite.chat.attachments import store
from chatsite.chat.hints import conversation_changed
from chatsite.chat.http import decoded, json_api, person
from chatsite.chat.models import Conversation, Message
from chatsite.chat.runtime import runtime
from chatsite.errors import BadRequest, NotFound
from chatsite.inference import status
from chatsite.search import index
from models_admin import catalogue


@require_GET
@never_cache
@ensure_csrf_cookie
@login_required
async def page(request: HttpRequest, id: uuid.UUID | None = None) -> HttpResponse:
    """`/` and `/c/<id>/`: the page with all that its first paint needs."""
    user = await person(request)
    models = await _models(user)

    def boot() -> dict[str, Any]:
        data: dict[str, Any] = {
            "user": {"name": user.get_full_name() or user.username, "is_staff": user.is_staff},
            "csrf": get_token(request),
            "limits": {
                "message_chars": settings.ENV.max_message_chars,
                "attachment_mb": settings.ENV.attachment_mb,
                "attachments": store.PER_MESSAGE,
            },
            **listing.first(user),
            "conversation": None,
            "error": None,
            "urls": {
                "logout": reverse("account_logout"),
                "login": reverse("account_login"),
                "admin": "/admin/",
                "set_language": reverse("set_language"),
            },
            **models,
        }
        if id is not None:
            try:
                data["conversation"] = _conversation(user, id)
            except NotFound as error:
                data["error"] = error.as_dict()
        return data

    data = await sync_to_async(boot)()
    return await sync_to_async(render)(
        request, "chat/page.html", {"boot": data}, status=404 if data["error"] else 200
    )


@require_GET
@json_api
async def conversations(request: HttpRequest, user: User) -> HttpResponse:
    """One page of a `view` (see `listing.page`); the first with pinned ones and folders."""
    view, before = request.GET.get("view", listing.MAIN), request.GET.get("before")
    if before:
        return JsonResponse(await sync_to_async(listing.page)(user, view, before))
    return JsonResponse(await sync_to_async(listing.first)(user, view))


class Changes(msgspec.Struct, forbid_unknown_fields=True):
    """What an owner may change of a conversation."""

    title: Annotated[str, msgspec.Meta(min_length=1, max_length=200)] | None = None
    head: uuid.UUID | None = None
    keep_latest: bool | None = None


@require_http_methods(["GET", "PATCH", "DELETE"])
@json_api
async def conversation(request: HttpRequest, user: User, id: uuid.UUID) -> HttpResponse:
    if request.method == "GET":
        return JsonResponse(await sync_to_async(_conversation)(user, id))
    if request.method == "DELETE":
        await organise.carry_out(user, organise.Order(ids=[id], action="delete"))
        return HttpResponse(status=204)
    changed = await sync_to_async(_change)(user, id, decoded(request, Changes))
    await conversation_changed(user.pk, id, "updated")
    return JsonResponse({"conversation": changed})


@require_GET
@json_api
async def messages(request: HttpRequest, user: User, id: uuid.UUID) -> HttpResponse:
    """The messages of a branch up to the one that ``until`` names."""
    try:
        until = uuid.UUID(request.GET.get("until", ""))
    except ValueError as error:
        raise BadRequest(reason=str(error)) from error
    return JsonResponse(await sync_to_async(lambda: history.until(_owned(user, id), until))())


@require_GET
@json_api
async def models(request: HttpRequest, user: User) -> HttpResponse:
    return JsonResponse(await _models(user))


async def _models(user: User) -> dict[str, Any]:
    """The models and assistants that the person may choose, and how near each is to an answer."""

    def choices() -> tuple[list[dict[str, Any]], list[dict[str, Any]], str | None]:
        offered = catalogue.offered()
        names = {model["name"] for model in offered}
        return offered, assistants.offered(user, names), catalogue.default_name()

    offered, presets, default = await sync_to_async(choices)()
    try:
        hosts = await status.alive(runtime().redis)
    except RedisError:
        hosts = []
    for model in offered:
        known = status.best(hosts, model["name"])
        model["state"] = known.state if known else "unloaded"
    return {
        "models": offered,
        "assistants": presets,
        "default_model": default,
    }


def _owned(user: User, id: uuid.UUID) -> Conversation:
    found = Conversation.objects.of(user).filter(pk=id).first()
    if found is None:
        raise NotFound
    return found


def _conversation(user: User, id: uuid.UUID) -> dict[str, Any]:
    return history.opening(_owned(user, id))


def _change(user: User, id: uuid.UUID, changes: Changes) -> dict[str, Any]:
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
            raise NotFound
        found.head_id = changes.head
        changed.append("head")
    if changes.keep_latest is not None:
        found.keep_latest = changes.keep_latest
        changed.append("keep_latest")
    with transaction.atomic():
        found.save(update_fields=changed)  # the rest may have moved on, with a message
        if changes.title is not None:
            index.put_title(found)
    return serialize.conversation(found)
