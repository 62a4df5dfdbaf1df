"""Errors below `/v1` and `/api` have the form of that API."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.core.exceptions import SuspiciousOperation
from django.http import Http404
from django.test import AsyncRequestFactory

from chatsite.api.handler import ApiHandler
from chatsite.errors import TooMany


@pytest.mark.parametrize(
    ("error", "status", "logged"),
    [
        (RuntimeError("unexpected"), 500, True),
        (RecursionError(), 500, True),
        (Http404(), 404, False),
        (SuspiciousOperation("odd"), 400, False),
        (TooMany(most=3), 400, False),
    ],
)
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/api/chat", "/api"])
async def test_low_no_exception_becomes_a_page(
    path: str,
    error: Exception,
    status: int,
    logged: bool,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def fail(request: Any) -> None:
        raise error

    handler = ApiHandler()
    monkeypatch.setattr(handler, "_get_response_async", fail)
    response: Any = await handler.respond(AsyncRequestFactory().get(path))
    assert response.status_code == status
    assert response["Content-Type"] == "application/json"
    found = json.loads(response.content)["error"]
    assert isinstance(found, str if path.startswith("/api") else dict)
    tracebacks = [record for record in caplog.records if record.exc_info]
    assert len(tracebacks) == logged
