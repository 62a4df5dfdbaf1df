"""The ASGI application that Daphne serves: pages over HTTP, the chat over WebSocket."""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib import import_module
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "chatsite.settings")

from channels.routing import ProtocolTypeRouter, URLRouter
from channels.security.websocket import OriginValidator
from channels.sessions import SessionMiddlewareStack
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.urls import path

from chatsite import garbage, logs, tracing
from chatsite.sandbox import confine
from chatsite.supervisor import child
from chatsite.web import proxies

logs.configure("daphne")
confine.hide_memory()
child.leave_with_supervisor()
tracing.start("web", settings.ENV.otel_endpoint, settings.ENV.otel_share)
django_application = get_asgi_application()

# Importable only once Django's applications are ready.
from chatsite.api.core import front  # noqa: E402
from chatsite.api.handler import ApiHandler  # noqa: E402
from chatsite.chat.consumer import ChatConsumer  # noqa: E402
from chatsite.web.daphne import bodies  # noqa: E402
from models_admin.adminsite.live.consumer import LiveConsumer  # noqa: E402

api_application = front.with_origins(ApiHandler())


async def _http(scope: dict[str, Any], receive: Any, send: Any) -> None:
    tidied = front.tidy(scope)
    if front.for_programs(tidied["path"]):
        await api_application(tidied, receive, send)
    elif front.is_probe(scope):
        await front.answer_probe(scope, send)
    else:
        scope = tidied if tidied["path"] == "/healthz" else scope
        await _identified(scope, receive, send)


async def _pages(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Pass a request to Django, which strips the path prefix again."""
    path = settings.ENV.path_prefix + scope["path"]
    await django_application({**scope, "path": path}, receive, send)


async def _identified(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Serve a page request; its ID is in its log lines and in ``X-Request-ID``."""
    id = front.request_id(scope)
    logs.request_id.set(id)
    header = (b"x-request-id", id.encode())

    async def sending(message: Mapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), header]}
        await send(message)

    parent = tracing.parent_of(scope["headers"])
    with tracing.span(f"{scope['method']} page", parent=parent, attributes=_facts(scope, id)):
        await bodies.bounded(_pages, scope, receive, sending)


def _facts(scope: dict[str, Any], id: str) -> tracing.Attributes:
    return {
        "http.request.method": scope["method"],
        "url.path": scope["path"],
        "request_id": id,
    }


async def application(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Route a connection.

    Headers that any client may send must not affect routing: Daphne takes the root path from one,
    so it is dropped first.
    """
    scope = proxies.with_client(scope, settings.ENV.trusted_proxies)
    if "path" in scope:
        path = proxies.without_prefix(scope["path"], settings.ENV.path_prefix)
        scope = {**scope, "path": path}
    if scope["type"] == "websocket":
        # For the lines of a socket that belong to none of its commands.
        logs.request_id.set(front.request_id(scope))
    await _routes({**scope, "root_path": ""}, receive, send)


_routes = ProtocolTypeRouter(
    {
        "http": _http,
        # Outermost: scheme, host and port of the page must match the site's.
        "websocket": OriginValidator(
            SessionMiddlewareStack(
                URLRouter(
                    [
                        path("ws/chat/", ChatConsumer.as_asgi()),
                        path("ws/admin/", LiveConsumer.as_asgi()),
                    ]
                )
            ),
            list(settings.ENV.effective_origins),
        ),
    }
)

# Imported now with its dependencies, not at the first page request.
import_module(settings.ROOT_URLCONF)
garbage.freeze_startup_objects()
