"""The ASGI application that Daphne serves: pages over HTTP, the chat over WebSocket."""

from __future__ import annotations

import os
from importlib import import_module
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "chatsite.settings")

from channels.routing import ProtocolTypeRouter, URLRouter
from channels.security.websocket import OriginValidator
from channels.sessions import SessionMiddlewareStack
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.urls import path

from chatsite import garbage, logs
from chatsite.supervisor import child

logs.configure("daphne")
child.leave_with_supervisor()
django_application = get_asgi_application()

# Importable only once Django's applications are ready.
from chatsite.api import front  # noqa: E402
from chatsite.api.handler import ApiHandler  # noqa: E402
from chatsite.chat.consumer import ChatConsumer  # noqa: E402
from chatsite.daphne import feed, refusal  # noqa: E402
from models_admin.live.consumer import LiveConsumer  # noqa: E402

api_application = front.with_origins(ApiHandler())


async def _http(scope: dict[str, Any], receive: Any, send: Any) -> None:
    tidied = front.tidy(scope)
    if feed.is_refused(scope):
        await refusal.answer(tidied["path"], send)
    elif front.for_programs(tidied["path"]):
        await api_application(tidied, receive, send)
    elif front.is_probe(scope):
        await front.answer_probe(scope, send)
    else:
        await django_application(scope, receive, send)


async def application(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Drops the root path first: Daphne takes it from a header that any client may send."""
    await _routes({**scope, "root_path": ""}, receive, send)


_routes = ProtocolTypeRouter(
    {
        "http": _http,
        # Outermost: scheme, host and port of the page must be ours.
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

# Loaded now with all behind it, not when the first page is asked for.
import_module(settings.ROOT_URLCONF)
garbage.settle()
