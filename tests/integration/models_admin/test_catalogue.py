"""What people may choose, and what a name stands for."""

import pytest

from chatsite.errors import ModelMissing, ModelUnavailable
from models_admin import catalogue
from models_admin.models import ModelName, ModelVersion

pytestmark = pytest.mark.django_db


def install(name: str, digest: str = "a", **fields: object) -> ModelName:
    version, _ = ModelVersion.objects.get_or_create(digest=digest * 64, defaults={"size": 5})
    return ModelName.objects.create(name=name, version=version, **fields)


@pytest.mark.parametrize("name", ["smol:latest", "smol", "SMOL", "library/Smol:LATEST"])
def test_a_name_is_found_whatever_its_case(name):
    model = install("Smol:latest")
    assert catalogue.resolve(name) == model.version


@pytest.mark.parametrize("name", ["other", "", "../../x", "x" * 300, "smo_", "smol:lates%"])
def test_what_is_not_installed_is_missing(name):
    install("smol:latest")
    with pytest.raises(ModelMissing):
        catalogue.resolve(name)


def test_what_is_not_offered_is_neither_listed_nor_found():
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
