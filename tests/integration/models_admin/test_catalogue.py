"""The models that users may choose, and the version a name refers to."""

import pytest

from chatsite.errors import ModelMissing, ModelUnavailable
from models_admin import catalogue
from models_admin.models import ModelName, ModelVersion
from models_admin.store import files as store
from tests.support.gguf import VOCABULARY, write

pytestmark = pytest.mark.django_db


def install(name: str, digest: str = "a", **fields: object) -> ModelName:
    version, _ = ModelVersion.objects.get_or_create(digest=digest * 64, defaults={"size": 5})
    return ModelName.objects.create(name=name, version=version, **fields)


@pytest.mark.parametrize("name", ["smol:latest", "smol", "SMOL", "library/Smol:LATEST"])
def test_a_name_is_found_in_any_case(name):
    model = install("Smol:latest")
    assert catalogue.resolve(name) == model.version


@pytest.mark.parametrize("name", ["other", "", "../../x", "x" * 300, "smo_", "smol:lates%"])
def test_a_model_that_is_not_installed_is_missing(name):
    install("smol:latest")
    with pytest.raises(ModelMissing):
        catalogue.resolve(name)


def test_a_model_that_is_not_offered_is_neither_listed_nor_found():
    install("off:latest", enabled=False)
    assert catalogue.offered() == []
    assert catalogue.default_name() is None
    with pytest.raises(ModelMissing):
        catalogue.resolve("off")


def test_the_list_is_by_name_and_the_default_is_the_oldest():
    install("b:1")
    install("a:1", "b")
    assert catalogue.offered() == [
        {"name": "a:1", "size": 5, "custom": False},
        {"name": "b:1", "size": 5, "custom": False},
    ]
    assert catalogue.default_name() == "b:1"


def test_quarantine_takes_all_names_of_a_version_away_until_it_is_lifted():
    digest = install("a:1").version.digest
    install("b:1")
    assert catalogue.quarantine(digest, "it crashed twice")
    assert not catalogue.quarantine(digest, "again")
    assert ModelVersion.objects.get().quarantined == "it crashed twice"
    assert catalogue.offered() == []
    with pytest.raises(ModelUnavailable, match="failed") as caught:
        catalogue.resolve("a:1")
    assert caught.value.as_dict()["code"] == "model_quarantined"
    assert caught.value.as_dict()["permanent"] is True
    assert catalogue.release(digest)
    assert not catalogue.release(digest)
    assert len(catalogue.offered()) == 2


def test_a_quarantine_needs_a_reason_and_a_model():
    with pytest.raises(ValueError, match="reason"):
        catalogue.quarantine("a" * 64, "")
    assert not catalogue.quarantine("a" * 64, "gone meanwhile")


def of_size(name: str, digest: str, size: int, **fields: object) -> ModelName:
    ModelVersion.objects.create(digest=digest * 64, size=size)
    return install(name, digest, **fields)


def test_page_2_the_starter_never_wins_over_a_larger_model():
    of_size("smollm2:135m", "a", 90_000_000)
    assert catalogue.default_name() == "smollm2:135m"
    of_size("gemma3:270m", "b", 250_000_000)
    assert catalogue.default_name() == "gemma3:270m"
    of_size("qwen3:8b", "c", 5_000_000_000)
    of_size("llama3:70b", "d", 40_000_000_000)
    # Not the largest: a model added later must not change the default.
    assert catalogue.default_name() == "qwen3:8b"
    ModelName.objects.filter(name="qwen3:8b").update(enabled=False)
    assert catalogue.default_name() == "llama3:70b"


def test_page_2_a_model_that_can_not_chat_is_never_the_default(data_dir, tmp_path):
    template = {"tokenizer.chat_template": "{{ messages }}"}
    files = {
        "base": ({}, b"\1"),
        "vectors": ({"general.architecture": "bert", **template}, b"\2"),
        "chat": (template, b"\3"),
    }
    for name, (values, fill) in files.items():
        model = store.import_file(
            write(tmp_path / name, values=values, fill=fill, extra=(VOCABULARY,)), name
        )
        assert catalogue.can_chat(model) == (name == "chat")
    assert catalogue.default_name() == "chat:latest"
    ModelName.objects.filter(name="chat:latest").update(enabled=False)
    assert catalogue.default_name() is None
    base = catalogue.installed("base")
    assert base is not None
    with pytest.raises(catalogue.CantChat):
        catalogue.set_default(base)
    # A custom model may bring the template that the file lacks.
    ModelName.objects.filter(pk=base.pk).update(configuration={"template": "{{ .Prompt }}"})
    assert catalogue.default_name() == "base:latest"


def test_page_2_an_administrators_choice_counts_while_it_is_offered():
    small = of_size("small:1", "a", 5)
    large = of_size("large:1", "b", 5_000_000_000)
    catalogue.set_default(small)
    assert catalogue.default_name() == "small:1"
    catalogue.set_default(large)
    catalogue.set_default(small)
    assert ModelName.objects.filter(is_default=True).count() == 1
    ModelName.objects.filter(pk=small.pk).update(enabled=False)
    assert catalogue.default_name() == "large:1"
    with pytest.raises(ModelMissing):
        catalogue.set_default(small)
    ModelName.objects.filter(pk=small.pk).update(enabled=True)
    assert catalogue.default_name() == "small:1"
    catalogue.set_default(None)
    assert catalogue.default_name() == "large:1"
