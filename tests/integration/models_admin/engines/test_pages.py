"""The pages of engines and `manage.py engines`."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.test import Client
from django.urls import reverse

from chatsite.accounts.models import User
from chatsite.accounts.roles import Role
from chatsite.hosts import commands, status
from chatsite.inference.remote.contract import (
    Capability,
    Discovery,
    RemoteModel,
    Unreachable,
)
from chatsite.management.commands import engines as command
from models_admin.engines import work
from models_admin.engines.models import Engine
from models_admin.engines.work import Found

pytestmark = pytest.mark.django_db

FORM = {
    "name": "gpu1",
    "kind": "vllm",
    "url": "http://gpu1:8000/",
    "concurrency": "8",
    "timeout_seconds": "60",
    "enabled": "on",
    "key": "sk-secret",
    "only_text": " a \nb\n",
    "can_tools": "no",
}


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    told: list[Any] = []

    async def check(engine: int | None = None) -> int:
        told.append(engine)
        return 1

    monkeypatch.setattr(commands, "check_engine", check)
    monkeypatch.setattr(status, "ask_from_thread", list)
    return told


@pytest.fixture
def root(client: Client, told: list[Any]) -> Client:
    client.force_login(User.objects.create_superuser("root", password="x"))
    return client


def test_an_administrator_adds_an_engine_and_its_host_checks_it(
    root: Client, told: list[Any]
) -> None:
    answer = root.post(reverse("admin:add_engine"), FORM)
    assert answer.status_code == 302
    engine = Engine.objects.get()
    assert (engine.url, engine.only, engine.overrides) == (
        "http://gpu1:8000",
        ["a", "b"],
        {"tools": False},
    )
    assert engine.read_key() == "sk-secret"
    assert told == [engine.pk]
    page = root.get(reverse("admin:engines")).content.decode()
    assert "gpu1" in page
    assert (
        "sk-secret"
        not in page + root.get(reverse("admin:engine", args=[engine.pk])).content.decode()
    )


def test_an_empty_key_field_keeps_the_key_and_the_box_removes_it(root: Client) -> None:
    root.post(reverse("admin:add_engine"), FORM)
    engine = Engine.objects.get()
    url = reverse("admin:engine", args=[engine.pk])
    root.post(url, {**FORM, "key": "", "concurrency": "3"})
    engine.refresh_from_db()
    assert (engine.read_key(), engine.concurrency) == ("sk-secret", 3)
    root.post(url, {**FORM, "key": "", "forget_key": "on"})
    engine.refresh_from_db()
    assert engine.read_key() == ""


def test_bad_input_is_explained_on_the_form(root: Client) -> None:
    answer = root.post(reverse("admin:add_engine"), {**FORM, "url": "gpu1"})
    assert answer.status_code == 422
    assert "http://gpu1:8000" in answer.content.decode()
    assert not Engine.objects.exists()


def test_models_are_listed_and_a_deleted_one_is_offered_again(root: Client) -> None:
    engine = work.store(Engine(name="gpu1", kind="vllm", url="http://gpu1"), key="")
    work.save_discovery(engine.pk, "1", [Found("llama", 4096, None, frozenset({"chat"}))])
    page = root.get(reverse("admin:engine", args=[engine.pk])).content.decode()
    assert "llama:latest" in page
    assert "prompt cache" in page
    removal = reverse("admin:remove_engine", args=[engine.pk])
    assert "llama:latest" in root.get(removal).content.decode()
    root.post(removal)
    assert not Engine.objects.exists()


def test_a_model_manager_sees_engines_and_changes_none(client: Client, told: list[Any]) -> None:
    client.force_login(User.objects.create_user("m", role=Role.MODEL_MANAGER))
    assert client.get(reverse("admin:engines")).status_code == 200
    assert client.post(reverse("admin:add_engine"), FORM).status_code == 403


def run(*words: str) -> str:
    out = io.StringIO()
    call_command("engines", *words, stdout=out)
    return out.getvalue()


class Stub:
    """An engine that answers discovery, or fails."""

    found: Any = Discovery(
        "0.9", (RemoteModel("llama", 4096, frozenset({Capability.CHAT, Capability.TOOLS})),)
    )

    def __init__(self, server: Any, *, egress: Any) -> None:
        self.server = server

    async def discover(self) -> Discovery:
        if isinstance(self.found, Exception):
            raise self.found
        assert isinstance(self.found, Discovery)
        return self.found

    async def close(self) -> None:
        pass


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> type[Stub]:
    monkeypatch.setattr(command, "connect", Stub)
    monkeypatch.setattr(command, "tell_hosts", lambda engine: None)
    monkeypatch.setattr(Stub, "found", Stub.found)
    return Stub


def test_the_command_adds_checks_lists_changes_and_removes(stub: type[Stub], tmp_path: Any) -> None:
    key = tmp_path / "key"
    key.write_text("sk-secret\n")
    said = run("add", "gpu1", "http://gpu1:8000", "--kind", "vllm", "--key-file", str(key))
    assert "llama:latest is offered now." in said
    [row] = json.loads(run("list", "--json"))
    assert (row["key"], row["version"], row["models"][0]["names"]) == (
        True,
        "0.9",
        ["llama:latest"],
    )
    run("set", "gpu1", "--concurrency", "2", "--capability", "tools=no")
    run("check", "GPU1")
    text = run("list")
    assert "at most 2 requests, with a key" in text
    assert "tools" not in text
    assert "llama:latest was removed with it." in run("rm", "gpu1")
    assert "no engine" in run("list")


def test_an_engine_that_does_not_respond_is_kept_and_said(
    stub: type[Stub], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Stub, "found", Unreachable("no connection"))
    with pytest.raises(CommandError, match="no connection"):
        run("add", "gpu1", "http://gpu1:8000", "--kind", "vllm")
    assert Engine.objects.get().error == "no connection"


@pytest.mark.parametrize(
    "words",
    [
        ("rm", "none"),
        ("check", "none"),
        ("add", "gpu1", "gpu1", "--kind", "vllm"),
        ("add", "gpu1", "http://x", "--kind", "vllm", "--capability", "magic=yes"),
        ("add", "gpu1", "http://x", "--kind", "vllm", "--key-file", "/no/such/file"),
    ],
)
def test_bad_arguments_are_explained(stub: type[Stub], words: tuple[str, ...]) -> None:
    with pytest.raises(CommandError):
        run(*words)
