"""How administrators' placement settings reach the inference hosts."""

from __future__ import annotations

import pytest

from chatsite.engine.tuning import requantized
from chatsite.hosts.status import HostMemory, HostStatus
from models_admin import load_preferences
from models_admin.jobs import quantize
from models_admin.load_preferences import LoadPreferences
from models_admin.models import ModelName
from models_admin.store import files as store
from models_admin.store import versions
from tests.support.gguf import write

pytestmark = pytest.mark.django_db

LLAMA = {
    "llama.block_count": 4,
    "llama.context_length": 8192,
    "llama.embedding_length": 256,
    "llama.attention.head_count": 4,
    "llama.attention.head_count_kv": 2,
}


@pytest.fixture
def tiny(tmp_path) -> ModelName:
    return store.import_file(write(tmp_path / "a.gguf", values=LLAMA), "tiny")


def test_names_of_one_version_share_what_is_loaded(tiny):
    other = versions.copy_name("tiny", "other")
    assert load_preferences.preferences_of(tiny.version) == LoadPreferences()
    ModelName.objects.filter(pk=tiny.pk).update(context=2048, keep_alive=300, pinned=True)
    ModelName.objects.filter(pk=other.pk).update(context=1024, slots=2, keep_alive=-1)
    assert load_preferences.preferences_of(tiny.version) == LoadPreferences(2048, 2, -1, True)
    assert load_preferences.pinned_names() == ["tiny:latest"]


def test_less_context_is_offered_unless_it_is_fixed(tiny):
    found = load_preferences.options(tiny.version, 32768, 2, flash_attention=False, fixed=False)
    assert [option.context for option in found] == [8192, 4096, 2048, 1024, 512]
    # Half a KiB per token and layer.
    assert found[0].loaded - found[1].loaded == 2 * 4096 * 4 * 512
    (only,) = load_preferences.options(tiny.version, 4096, 2, flash_attention=False, fixed=True)
    assert only == found[1]


def test_a_copy_with_faster_weights_is_offered_first(tiny, starter_model):
    assert load_preferences.copy_bytes(tiny.version) == 0  # 32-bit floats are not converted
    version = store.import_file(starter_model, "starter").version
    copied, *files = load_preferences.options(
        version, 512, 2, flash_attention=False, fixed=True, copy=True
    )
    assert tuple(files) == load_preferences.options(
        version, 512, 2, flash_attention=False, fixed=True
    )
    assert (copied.copy, files[0].copy) == (True, False)
    size = load_preferences.copy_bytes(version)
    assert size - version.size == copied.loaded - files[0].loaded
    # Never less than llama.cpp produces.
    made = quantize.estimate(version.path, requantized.KIND).after
    assert made <= size <= made * 1.05


def test_a_missing_file_counts_with_its_recorded_size(tiny):
    tiny.version.path.unlink()
    load_preferences.shapes_of.cache_clear()
    (only,) = load_preferences.options(tiny.version, 4096, 2, flash_attention=False, fixed=False)
    assert only.total == tiny.version.size


def test_the_fit_of_an_installed_model_follows_its_placement(tiny, settings):
    settings.ENV = settings.ENV.model_copy(update={"memory_mb": 200})
    tiny.slots = 4
    tiny.save()
    found = load_preferences.fit_of(tiny)
    assert found
    assert (found.verdict, found.need.slots, found.need.context) == ("fits", 4, 4096)
    small = HostStatus("a", "a", 1, memory=HostMemory(1 << 30, 1 << 30, 1 << 26))
    refused = load_preferences.fit_of(tiny, [small])
    assert refused
    assert (refused.verdict, refused.room) == ("none", 1 << 26)
