"""The answer to a body that is larger than any that is taken, in the form that its sender reads."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.http import HttpResponse, JsonResponse

from chatsite.api import http, ollama
from chatsite.daphne import limits
from chatsite.errors import TooLarge


async def answer(path: str, send: Any) -> None:
    response = _response(path)
    headers = [(name.lower().encode(), value.encode()) for name, value in response.items()]
    await send({"type": "http.response.start", "status": response.status_code, "headers": headers})
    await send({"type": "http.response.body", "body": response.content})


def _response(path: str) -> HttpResponse:
    too_large = http.BodyTooLarge(limit=settings.ENV.api_body_mb)
    if path.startswith("/v1/"):
        return http.refusal(too_large)
    if path.startswith("/api/"):
        return ollama.refusal(too_large)
    error = TooLarge(most=limits.most() >> 20)
    return JsonResponse({"error": error.as_dict()}, status=error.status)
