"""The parts of a split model are merged into the original file."""

from __future__ import annotations

import hashlib
import io

import pytest

from models_admin.gguf import header as gguf
from models_admin.gguf import merge
from tests.support.gguf import split_gguf

WEIGHTS = [(f"blk.{n}.weight", bytes([n]) * (4 * elements)) for n, elements in enumerate((5, 8, 3))]


def merged(tmp_path, *parts: bytes) -> tuple[bytes, str, int]:
    paths = []
    for number, content in enumerate(parts):
        path = tmp_path / f"{number}.gguf"
        path.write_bytes(content)
        paths.append(path)
    out = io.BytesIO()
    digest, size = merge.merge(paths, out, lambda done, total: None)
    return out.getvalue(), digest, size


@pytest.mark.parametrize("cut", [0, 1, 2])
def test_the_whole_comes_back(tmp_path, cut):
    """Also if the first part has only keys."""
    content, digest, size = merged(
        tmp_path,
        split_gguf(WEIGHTS[:cut], part=0, parts=2),
        split_gguf(WEIGHTS[cut:], part=1, parts=2, first=False),
    )
    assert content == split_gguf(WEIGHTS)
    assert (digest, size) == (hashlib.sha256(content).hexdigest(), len(content))
    header = gguf.check_model(io.BytesIO(content), size)
    assert [tensor.name for tensor in header.tensors] == [name for name, _ in WEIGHTS]


@pytest.mark.parametrize(
    "parts",
    [
        (
            split_gguf(WEIGHTS[1:], part=1, parts=2, first=False),
            split_gguf(WEIGHTS[:1], part=0, parts=2),
        ),
        (
            split_gguf(WEIGHTS[:1], part=0, parts=3),
            split_gguf(WEIGHTS[1:], part=1, parts=3, first=False),
        ),
        (split_gguf(WEIGHTS), split_gguf(WEIGHTS)),
        (split_gguf(WEIGHTS[:1], part=0, parts=2), split_gguf(WEIGHTS[1:], part=1, parts=2)[:-40]),
    ],
    ids=["order", "missing", "whole", "cut"],
)
def test_parts_of_different_models_are_refused(tmp_path, parts):
    with pytest.raises(gguf.BadGGUF):
        merged(tmp_path, *parts)
