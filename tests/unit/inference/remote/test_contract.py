"""Addresses and keys of engines, and what requests need."""

from __future__ import annotations

import pytest

from chatsite.engine.contract.messages import Tool
from chatsite.inference.remote.contract import Capability, Kind, Server, needed
from chatsite.inference.remote.messages import can_continue, can_restart
from tests.support.engines import ask


@pytest.mark.parametrize(
    ("kind", "url", "path", "expected"),
    [
        (Kind.VLLM, "http://gpu:8000", "/health", "http://gpu:8000/health"),
        (Kind.VLLM, "http://gpu:8000/v1/", "/v1/models", "http://gpu:8000/v1/models"),
        (Kind.VLLM, "https://proxy/a/v1", "/version", "https://proxy/a/version"),
        (Kind.OLLAMA, "http://o:11434/api", "/api/tags", "http://o:11434/api/tags"),
        (Kind.OPENAI, "http://s:80/", "/v1/models", "http://s:80/v1/models"),
        (Kind.OPENAI, "https://s/openai/v1", "/v1/models", "https://s/openai/v1/models"),
        (Kind.OPENAI, "https://s/api/v3/", "/v1/models", "https://s/api/v3/models"),
    ],
)
def test_endpoints(kind: Kind, url: str, path: str, expected: str) -> None:
    assert Server(kind, url).endpoint(path) == expected


@pytest.mark.parametrize(
    ("url", "key"),
    [
        ("gpu:8000", ""),
        ("ftp://gpu", ""),
        ("http://", ""),
        ("http://user:password@gpu", ""),
        ("http://gpu/?key=1", ""),
        ("http://gpu\n", ""),
        ("http://gpu", "a b"),
        ("http://gpu", "schlüssel"),
        ("http://gpu", "a\r\nX: y"),
    ],
)
def test_servers_that_cannot_be(url: str, key: str) -> None:
    with pytest.raises(ValueError, match=r"address|key"):
        Server(Kind.VLLM, url, key)


def test_what_requests_need() -> None:
    assert needed(ask()) == {Capability.CHAT}
    assert needed(ask(raw="x", top_logprobs=0)) == {Capability.COMPLETION, Capability.LOGPROBS}
    assert needed(ask(tools=(Tool("f"),), json_schema={})) == {
        *(Capability.CHAT, Capability.TOOLS, Capability.JSON_SCHEMA)
    }
    assert needed(ask(tools=(Tool("f"),), tool_choice="none")) == {Capability.CHAT}
    assert Capability.CONTINUATION in needed(ask(resume_text="a"))
    assert Capability.CONTINUATION in needed(ask(continue_final=True))
    assert Capability.CONTINUATION not in needed(ask(resume_text="a", restart=True))


def test_constrained_answers_are_neither_continued_nor_restarted() -> None:
    constrained = ask(resume_text='{"a": ', json_schema={"type": "object"})
    assert not can_continue(constrained)
    assert not can_restart(constrained)
    assert can_restart(ask(json_schema={"type": "object"}))
    assert can_continue(ask(resume_text="a"))
    assert can_continue(ask(raw="x", resume_text="a"))
