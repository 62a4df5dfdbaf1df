"""The header reader, on complete, truncated and hostile files."""

import io
import struct

import pytest

from models_admin.gguf.header import BadGGUF, check_model, read_header
from tests.support.gguf import STRING, gguf, string


def check(data: bytes):
    return check_model(io.BytesIO(data), len(data))


def array(kind: int, count: int, content: bytes = b"") -> bytes:
    return struct.pack("<IIQ", 9, kind, count) + content


def test_a_whole_model_is_read():
    words = string("a") + string("b" * 1000)
    data = gguf(
        {"general.name": "tiny", "llama.block_count": 2},
        extra=[("tokenizer.tokens", array(STRING, 2, words)), ("scores", array(6, 2, b"\0" * 8))],
        tensors=[("a", 64), ("b", 3)],
    )
    header = check(data)
    assert header.architecture == "llama"
    assert header.values["llama.block_count"] == 2
    assert len(header.tensors) == 2
    assert header.needed <= len(data)


def test_a_file_cut_anywhere_is_refused():
    data = gguf(extra=[("words", array(STRING, 1, string("word")))])
    for length in range(len(data)):
        with pytest.raises(BadGGUF):
            check(data[:length])


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "not a GGUF"),
        (b"PK\3\4" + b"\0" * 100, "not a GGUF"),
        (b"GGUF", "not a GGUF"),
        (gguf(version=1), "version 1"),
        (gguf(version=9), "version 9"),
        (gguf(version=3 << 24), "big-endian"),
        (struct.pack("<4sIQQ", b"GGUF", 3, 1, 1 << 60), "damaged"),
        (struct.pack("<4sIQQ", b"GGUF", 3, 1 << 60, 1), "damaged"),
        (gguf(extra=[("x", struct.pack("<IQ", STRING, 1 << 62))]), "damaged"),
        (gguf(extra=[("x", array(STRING, 1 << 62))]), "damaged"),
        (gguf(extra=[("x", array(12, 1 << 62))]), "truncated"),
        (gguf(extra=[("x", array(9, 1))]), "damaged"),
        (gguf(extra=[("x", struct.pack("<I", 99))]), "damaged"),
        (gguf({"general.alignment": 0}), "damaged"),
        (gguf({"general.type": "adapter"}), "adapter"),
        (gguf({"split.count": 3}), "split"),
        (gguf({"split.count": "x"}), "split"),
        (gguf({"general.architecture": ""}), "architecture"),
        (gguf(tensors=[]), "vocabulary"),
        (gguf(tensors=[("x", 1 << 62)], weights=False), "truncated"),
    ],
)
def test_a_file_that_could_not_be_loaded_is_refused_with_a_reason(data, reason):
    with pytest.raises(BadGGUF, match=reason):
        check(data)


def test_a_vocabulary_alone_has_a_readable_header():
    data = gguf(tensors=[])
    assert read_header(io.BytesIO(data), len(data)).tensors == ()
