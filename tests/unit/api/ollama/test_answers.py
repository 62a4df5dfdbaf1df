"""Ollama's streams: lines of JSON and nothing else."""

from __future__ import annotations

from typing import Any, cast

from chatsite.api.ollama.answers import Chatted, Generated
from chatsite.api.ollama.common import CONTENT_TYPE


def test_keepalives_add_nothing_to_lines_of_json() -> None:
    """A comment of server-sent events would not parse as a line."""
    for encoder in (Chatted, Generated):
        assert encoder.content_type == CONTENT_TYPE
        assert encoder.keepalive(cast(Any, None), "waiting, 1 ahead") == b""
