"""Routing before Django: API requests, and what pages of other origins may do."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest
from django.conf import settings as django_settings

from chatsite.api.core import front


def scope(path: str, method: str = "GET", **headers: str) -> dict[str, Any]:
    pairs = [(k.replace("_", "-").encode(), v.encode()) for k, v in headers.items()]
    return {"type": "http", "path": path, "method": method, "headers": pairs}


@pytest.fixture
def listed(settings: Any) -> None:
    origins = ("https://tool.example.org", "app://obsidian.md")
    settings.ENV = settings.ENV.model_copy(update={"api_origins": origins})


def ask(asked: dict[str, Any]) -> tuple[int, dict[bytes, bytes]]:
    """Return status and headers of the response; the application itself responds with 299."""
    sent: list[Mapping[str, Any]] = []

    async def application(_scope: object, _receive: object, send: front.Send) -> None:
        await send({"type": "http.response.start", "status": 299, "headers": []})

    async def receive() -> Mapping[str, Any]:
        return {}

    async def send(message: Mapping[str, Any]) -> None:
        sent.append(message)

    async def run() -> None:
        await front.with_origins(application)(asked, receive, send)

    asyncio.run(run())
    return sent[0]["status"], dict(sent[0]["headers"])


@pytest.mark.parametrize(
    ("path", "tidied", "programs"),
    [
        ("/v1/models", "/v1/models", True),
        ("/v1/models/", "/v1/models", True),
        ("//v1//chat/completions", "/v1/chat/completions", True),
        ("/api", "/api", True),
        ("/chat/completions", "/v1/chat/completions", True),
        ("/v1/docs", "/v1/docs", False),
        ("/v1x", "/v1x", False),
        ("/", "", False),
    ],
)
def test_slashes_that_clients_double_or_add(path: str, tidied: str, programs: bool) -> None:
    found = front.tidy(scope(path))["path"]
    assert (found, front.for_programs(found)) == (tidied, programs)


@pytest.mark.parametrize(
    ("asked", "probe"),
    [
        (scope("/"), True),
        (scope("/", "HEAD", accept="*/*"), True),
        (scope("/", accept="text/html,*/*;q=0.8"), False),
        (scope("/", accept="*/*", cookie="sessionid=x"), False),
        (scope("/", "POST"), False),
        (scope("/c/1/"), False),
    ],
)
def test_probes_for_ollama_are_recognized(asked: dict[str, Any], probe: bool) -> None:
    assert front.is_probe(asked) is probe


@pytest.mark.usefixtures("listed")
@pytest.mark.parametrize("origin", ["https://tool.example.org", "app://obsidian.md"])
def test_listed_pages_may_ask_and_read(origin: str) -> None:
    asked = {"origin": origin, "access_control_request_method": "POST"}
    asked["access_control_request_headers"] = "authorization,x-stainless-os"
    status, headers = ask(scope("/v1/models", "OPTIONS", **asked))
    assert (status, headers[b"access-control-allow-origin"]) == (204, origin.encode())
    assert headers[b"access-control-allow-headers"] == b"authorization,x-stainless-os"
    assert b"access-control-allow-credentials" not in headers
    status, headers = ask(scope("/v1/models", origin=origin))
    assert (status, headers[b"access-control-allow-origin"]) == (299, origin.encode())


@pytest.mark.usefixtures("listed")
@pytest.mark.parametrize(
    "origin", ["https://evil.example.org", "https://tool.example.org:1", "null"]
)
def test_other_pages_may_not(origin: str) -> None:
    for asked in (
        scope("/v1/models", "OPTIONS", origin=origin, access_control_request_method="POST"),
        scope("/v1/models", origin=origin),
    ):
        _status, headers = ask(asked)
        assert headers == {b"vary": b"Origin"}


def test_pages_of_the_site_itself_may() -> None:
    own = django_settings.ENV.effective_origins[0]
    assert ask(scope("/v1/models", origin=own))[1][b"access-control-allow-origin"] == own.encode()


def test_without_an_origin_nothing_is_added() -> None:
    assert ask(scope("/v1/models")) == (299, {})
