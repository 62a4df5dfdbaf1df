"""The curated list is complete, and its entries are consistent."""

from __future__ import annotations

import pytest

from models_admin import catalogue_data, names
from models_admin.catalogue_data import Entry
from models_admin.gguf.memory import needed
from models_admin.gguf.types import TYPES

# Bits per weight, including the rest of the file.
BITS = {"Q4_0": (4.4, 5.4), "Q4_K_M": (4.5, 7.1), "MXFP4": (4.2, 5.0), "Q8_0": (8.4, 9.1)}
BITS |= {"F16": (15.9, 17.0)}


def test_popular_models_are_listed():
    wanted = ["qwen2.5:7b", "llama3.2:3b", "deepseek-r1:7b", "codellama:7b", "mistral:7b"]
    wanted += ["qwen2.5:14b", "llama3.1:70b", "smollm2:135m", "nomic-embed-text:v1.5"]
    assert all(catalogue_data.entry(name) for name in wanted)
    assert {entry.purpose for entry in catalogue_data.entries()} == set(catalogue_data.PURPOSES)
    found = [entry.name for entry in catalogue_data.entries()]
    assert len(found) == len(set(found))


@pytest.mark.parametrize("entry", catalogue_data.entries(), ids=lambda entry: entry.name)
def test_an_entry(entry: Entry):
    assert names.normalise(entry.name) == entry.name
    assert entry.about
    assert entry.purpose_name
    for file in entry.files:
        names.parse(file.source)
        least, most = BITS[file.quantization]
        assert least <= file.size * 8 / entry.parameters <= most
        assert file.quantization in {type.name for type in TYPES.values()} | {"Q4_K_M"}
        need = needed(entry.shape_of(file), 4096, 1)
        assert file.size < need.total < file.size * 1.6 + (1 << 30)


def test_memory_of_known_models():
    gib = 1 << 30
    entry = catalogue_data.entry("qwen2.5:7b")
    assert entry is not None
    shape = entry.shape_of(entry.files[0])
    assert needed(shape, 4096, 8).kv == 8 * 4096 * 56 * 1024
    gemma = catalogue_data.entry("gemma3:12b")
    assert gemma is not None
    windows = [layer.window for layer in gemma.shape_of(gemma.files[0]).layers]
    assert windows.count(0) == 8
    large = catalogue_data.entry("llama3.1:70b")
    assert large is not None
    assert 50 * gib < needed(large.shape_of(large.files[0]), 4096, 8).total < 52 * gib
