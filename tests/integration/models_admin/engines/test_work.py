"""Engines and their models in the catalogue."""

from __future__ import annotations

import pytest

from chatsite.errors import ModelMissing
from models_admin import catalogue, facts, model_details
from models_admin.engines import work
from models_admin.engines.models import Engine
from models_admin.engines.work import BadEngine, Found
from models_admin.jobs import enqueue, states
from models_admin.models import ModelName, ModelVersion
from models_admin.sources.egress import FetchRefused
from models_admin.store import versions

pytestmark = pytest.mark.django_db

CHAT = frozenset({"chat", "completion", "tools"})


def add(name: str = "gpu1", *found: Found, **values: object) -> Engine:
    engine = Engine(name=name, kind="vllm", url=f"http://{name}:8000", **values)
    work.store(engine, key="")
    if found:
        work.save_discovery(engine.pk, "1.0", found)
    return engine


def names() -> list[str]:
    return [model["name"] for model in catalogue.offered()]


def test_discovered_models_are_offered_like_installed_ones() -> None:
    add(
        "gpu1",
        Found("meta/llama", 8192, None, CHAT),
        Found("bge", None, None, frozenset({"embeddings"})),
    )
    assert names() == ["bge:latest", "meta/llama:latest"]
    model = catalogue.find("meta/llama")
    assert catalogue.context(model) == 8192
    assert catalogue.can_chat(model)
    assert not catalogue.can_chat(catalogue.find("bge"))
    assert facts.capabilities(model) == ["completion", "tools"]
    assert facts.capabilities(catalogue.find("bge")) == ["embedding"]
    shown = model_details.details()["meta/llama:latest"]
    assert shown["remote"]
    assert shown["shared_cache"]
    assert shown["context"] == 8192
    assert catalogue.default_name() == "meta/llama:latest"


def test_engines_with_one_model_share_it_with_what_all_of_them_can() -> None:
    add("gpu1", Found("llama", 8192, None, CHAT | {"cache_isolation"}))
    add("gpu2", Found("llama", 4096, None, frozenset({"chat"})))
    assert names() == ["llama:latest"]
    known = ModelName.objects.get().version.remote_facts
    assert known
    assert (known.context, known.capabilities, known.isolated) == (4096, ("chat",), False)


def test_a_name_that_is_taken_gets_the_engine_in_front() -> None:
    local = ModelVersion.objects.create(digest="a" * 64, size=1)
    ModelName.objects.create(name="llama:latest", version=local)
    add("gpu1", Found("llama", None, None, CHAT))
    assert names() == ["gpu1/llama:latest", "llama:latest"]


def test_a_model_that_vanished_is_hidden_and_comes_back_with_its_settings() -> None:
    engine = add("gpu1", Found("llama", None, None, CHAT))
    ModelName.objects.update(answer_tokens=77)
    work.save_discovery(engine.pk, "1.0", [])
    assert names() == []
    with pytest.raises(catalogue.NoEngine):
        catalogue.find("llama")
    assert work.save_discovery(engine.pk, "1.0", [Found("llama", None, None, CHAT)]) == []
    assert names() == ["llama:latest"]
    assert ModelName.objects.get().answer_tokens == 77


def test_models_of_an_engine_that_is_not_in_use_are_hidden() -> None:
    engine = add("gpu1", Found("llama", None, None, CHAT))
    engine.enabled = False
    work.store(engine)
    assert names() == []


def test_a_model_that_an_administrator_deleted_stays_deleted_until_it_is_offered_again() -> None:
    engine = add("gpu1", Found("llama", None, None, CHAT))
    versions.remove_name("llama")
    work.save_discovery(engine.pk, "1.0", [Found("llama", None, None, CHAT)])
    assert names() == []
    assert work.offer_again(engine.models.get()) == "llama:latest"
    assert names() == ["llama:latest"]


def test_only_chosen_models_are_offered_and_corrections_apply() -> None:
    add(
        "gpu1",
        Found("a", 4096, None, CHAT),
        Found("b", 4096, None, CHAT),
        only=["b"],
        context=2048,
        overrides={"tools": False, "json_schema": True},
    )
    assert names() == ["b:latest"]
    known = ModelName.objects.get().version.remote_facts
    assert known
    assert known.context == 2048
    assert known.capabilities == ("chat", "completion", "json_schema")


def test_removing_an_engine_removes_the_models_that_only_it_had() -> None:
    engine = add("gpu1", Found("llama", None, None, CHAT), Found("own", None, None, CHAT))
    add("gpu2", Found("llama", None, None, CHAT))
    assert work.remove(engine) == ["own:latest"]
    assert names() == ["llama:latest"]
    with pytest.raises(ModelMissing):
        catalogue.find("own")


def test_removing_an_engine_returns_a_name_to_its_file() -> None:
    local = ModelVersion.objects.create(digest="a" * 64, size=1)
    engine = add("gpu1", Found("llama", None, None, CHAT))
    remote = ModelName.objects.get()
    remote.previous = local
    remote.save()
    work.remove(engine)
    assert ModelName.objects.get().version == local


def test_the_key_is_encrypted_and_stays_with_its_server() -> None:
    engine = add("gpu1")
    work.store(engine, key="sk-secret")
    stored = Engine.objects.get()
    assert "sk-secret" not in stored.key
    assert stored.read_key() == "sk-secret"
    work.store(stored)
    assert Engine.objects.get().read_key() == "sk-secret"
    stored.url = "http://elsewhere:8000"
    work.store(stored)
    assert Engine.objects.get().read_key() == ""


@pytest.mark.parametrize(
    "url",
    ["gpu1:8000", "ftp://gpu1", "http://user:secret@gpu1", "http://gpu1/?key=x", "http://"],
)
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(FetchRefused):
        work.store(Engine(name="x", kind="vllm", url=url), key="")


def test_bad_settings_are_refused() -> None:
    add("gpu1")
    for values in ({"name": "GPU1"}, {"name": "a b"}, {"concurrency": 0}, {"kind": "other"}):
        row = {"name": "x", "kind": "vllm", "url": "http://x", **values}
        with pytest.raises(BadEngine):
            work.store(Engine(**row), key="")


def test_a_remote_model_has_no_file_to_quantize_or_export() -> None:
    add("gpu1", Found("llama", None, None, CHAT))
    with pytest.raises(states.JobRefused):
        enqueue.quantize("llama", "Q4_K_M", "small")
    with pytest.raises(states.JobRefused):
        enqueue.export(["llama"])
    with pytest.raises(states.JobRefused):
        enqueue.update(ModelName.objects.get())


def test_discovery_of_a_removed_engine_changes_nothing() -> None:
    engine = add("gpu1")
    pk = engine.pk
    work.remove(engine)
    assert work.save_discovery(pk, "1", [Found("llama", None, None, CHAT)]) == []
    assert names() == []
