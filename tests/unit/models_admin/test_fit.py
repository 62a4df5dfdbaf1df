"""Fits, fits with a smaller context, does not fit: with the numbers."""

from __future__ import annotations

from django.utils import translation

from chatsite.hosts.status import HostMemory, HostStatus
from models_admin import catalogue_data
from models_admin.fit import fit, room

GB = 1 << 30


def qwen():
    entry = catalogue_data.entry("qwen2.5:7b")
    assert entry is not None
    return entry.shape_of(entry.files[0])


def test_it_fits():
    found = fit(qwen(), 16 * GB, context=4096, slots=8)
    assert found.verdict == "fits"
    assert found.need == found.offered
    with translation.override("en"):
        text = str(found).replace("\xa0", " ")
    assert text == (
        "Fits: 6.5 GB of 16.0 GB model memory, with a context of 4096 tokens for each of 8 "
        "parallel requests."
    )


def test_it_fits_with_a_smaller_context():
    found = fit(qwen(), 11 * GB, context=32768, slots=8)
    assert found.verdict == "smaller"
    assert found.offered.context == 8192
    assert found.offered.total <= 11 * GB < found.need.total
    with translation.override("en"):
        assert "8192 tokens" in str(found)


def test_it_does_not_fit():
    found = fit(qwen(), 4 * GB, context=4096, slots=8)
    assert found.verdict == "none"
    assert found.offered.context == 512
    with translation.override("zh-hans"):
        assert "放不下" in str(found)


def test_the_roomiest_host_counts():
    hosts = [
        HostStatus("a", "a", 1, memory=HostMemory(8 * GB, 4 * GB, 6 * GB)),
        HostStatus("b", "b", 1, memory=HostMemory(16 * GB, 1 * GB, 14 * GB, 9 * GB)),
        HostStatus("c", "c", 1),
    ]
    assert room(hosts) == 14 * GB
    assert room([]) is None
