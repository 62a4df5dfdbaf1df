"""Every URL, every command of a socket and every API route has a row in the stranger table."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest
from django.conf import settings
from django.urls import include, path
from django.views import View

import chatsite
from chatsite.chat import protocol
from chatsite.web import urls
from tests.integration.web.strangers import sockets, table


def test_every_url_has_a_row() -> None:
    known = {row.route for row in table.rows()}
    routes = set(table.routes())
    assert routes - known == set(), "add rows in tests/integration/web/strangers/rows/"
    assert known - routes == set(), "these rows have no route any more"


def test_a_new_route_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    class Urls:
        urlpatterns = [
            *urls.urlpatterns,
            path("new/", include([path("<int:id>/", View.as_view())])),
        ]

    monkeypatch.setattr(settings, "ROOT_URLCONF", Urls)
    assert set(table.routes()) - {row.route for row in table.rows()} == {"new/<int:id>/"}


def test_every_socket_and_command_has_a_row() -> None:
    source = Path(chatsite.__file__).with_name("web") / "asgi.py"
    routed = set(re.findall(r'path\("(ws/[^"]+)"', source.read_text()))
    assert routed == {row.path for row in sockets.ROWS}
    commands = {command.__struct_config__.tag for command in get_args(protocol.AnyCommand)}
    rows = [row for row in sockets.ROWS if row.path == sockets.CHAT and row.command]
    assert {row.command["type"] for row in rows} == commands
