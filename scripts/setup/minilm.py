"""The starter embedding model: all-MiniLM-L6-v2 as GGUF, from the files of its package.

Matrices that are multiplied are stored as float16, the rest as float32. Names and keys are those
that llama.cpp reads
for BERT; its tokenizer wants words with a mark before them and continuations without "##".
"""

from __future__ import annotations

import json
import struct
import zipfile
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Final

_ALIGNMENT: Final = 32
_F32, _F16 = 0, 1
# Types of values in GGUF's metadata.
_UINT32, _INT32, _FLOAT32, _BOOL, _STRING, _ARRAY = 4, 5, 6, 7, 8, 9
_MEAN_POOLING: Final = 1
_NORMAL, _UNKNOWN, _CONTROL = 1, 2, 3
_WORD_MARK: Final = "\u2581"
_ADDED: Final = {"position_embd.weight", "token_types.weight"}
_TENSORS: Final = {
    "embeddings.word_embeddings.weight": "token_embd.weight",
    "embeddings.position_embeddings.weight": "position_embd.weight",
    "embeddings.token_type_embeddings.weight": "token_types.weight",
    "embeddings.LayerNorm": "token_embd_norm",
    "attention.self.query": "attn_q",
    "attention.self.key": "attn_k",
    "attention.self.value": "attn_v",
    "attention.output.dense": "attn_output",
    "attention.output.LayerNorm": "attn_output_norm",
    "intermediate.dense": "ffn_up",
    "output.dense": "ffn_down",
    "output.LayerNorm": "layer_output_norm",
}


def convert(package: Path, target: Path) -> None:
    """Write the model of ``package``, a zip of its files, to ``target`` as GGUF."""
    with zipfile.ZipFile(package) as files, target.open("wb") as out:
        config = json.loads(files.read("config.json"))
        tokenizer = json.loads(files.read("tokenizer.json"))
        weights = files.read("model.safetensors")
        (length,) = struct.unpack_from("<Q", weights)
        header = json.loads(weights[8 : 8 + length])
        _write(out, config, tokenizer, header, memoryview(weights)[8 + length :])


def _write(
    out: BinaryIO,
    config: dict[str, Any],
    tokenizer: dict[str, Any],
    header: dict[str, Any],
    weights: memoryview,
) -> None:
    metadata = [*_of_model(config), *_of_tokenizer(tokenizer)]
    tensors = [
        (name, entry) for key, entry in header.items() if (name := _tensor_name(key)) is not None
    ]
    out.write(b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(metadata)))
    out.writelines(
        _string(key) + struct.pack("<I", kind) + _value(kind, value)
        for key, kind, value in metadata
    )
    at = 0
    for name, entry in tensors:
        shape = entry["shape"][::-1]
        kind = _kind(name, shape)
        out.write(_string(name) + struct.pack(f"<I{len(shape)}Q", len(shape), *shape))
        out.write(struct.pack("<IQ", kind, at))
        at += _padded(_size(shape, kind))
    out.write(b"\0" * (_padded(out.tell()) - out.tell()))
    for name, entry in tensors:
        begin, end = entry["data_offsets"]
        numbers = array("f", weights[begin:end].tobytes())
        data = numbers.tobytes()
        if _kind(name, entry["shape"]) == _F16:
            data = struct.pack(f"<{len(numbers)}e", *numbers)
        out.write(data + b"\0" * (_padded(len(data)) - len(data)))


def _kind(name: str, shape: list[int]) -> int:
    """Return the type of a tensor; llama.cpp adds the rows of the smaller embeddings as float32."""
    return _F16 if len(shape) > 1 and name not in _ADDED else _F32


def _tensor_name(key: str) -> str | None:
    """Return llama.cpp's name of a tensor; None for one that it does not read."""
    if key in _TENSORS:
        return _TENSORS[key]
    stem, _dot, part = key.rpartition(".")
    if stem in _TENSORS:
        return f"{_TENSORS[stem]}.{part}"
    words = stem.split(".", 3)
    if words[:2] == ["encoder", "layer"] and words[3] in _TENSORS:
        return f"blk.{words[2]}.{_TENSORS[words[3]]}.{part}"
    return None


def _of_model(config: dict[str, Any]) -> Iterator[tuple[str, int, Any]]:
    yield "general.architecture", _STRING, "bert"
    yield "general.name", _STRING, "all-MiniLM-L6-v2"
    yield "general.license", _STRING, "apache-2.0"
    yield "general.file_type", _UINT32, _F16
    for key, name in (
        ("context_length", "max_position_embeddings"),
        ("embedding_length", "hidden_size"),
        ("feed_forward_length", "intermediate_size"),
        ("block_count", "num_hidden_layers"),
        ("attention.head_count", "num_attention_heads"),
    ):
        yield f"bert.{key}", _UINT32, config[name]
    yield "bert.attention.layer_norm_epsilon", _FLOAT32, config["layer_norm_eps"]
    yield "bert.attention.causal", _BOOL, False
    yield "bert.pooling_type", _UINT32, _MEAN_POOLING
    yield "tokenizer.ggml.token_type_count", _UINT32, config["type_vocab_size"]


def _of_tokenizer(tokenizer: dict[str, Any]) -> Iterator[tuple[str, int, Any]]:
    ids: dict[str, int] = tokenizer["model"]["vocab"]
    words = sorted(ids, key=lambda word: ids[word])
    control = {one["content"] for one in tokenizer["added_tokens"]}
    unknown = tokenizer["model"]["unk_token"]
    yield "tokenizer.ggml.model", _STRING, "bert"
    yield "tokenizer.ggml.pre", _STRING, "default"
    yield "tokenizer.ggml.tokens", _ARRAY, (_STRING, [_spelled(word) for word in words])
    types = [
        _UNKNOWN if word == unknown else _CONTROL if word in control else _NORMAL for word in words
    ]
    yield "tokenizer.ggml.token_type", _ARRAY, (_INT32, types)
    for key, word in (
        ("bos", "[CLS]"),
        ("eos", "[SEP]"),
        ("unknown", unknown),
        ("seperator", "[SEP]"),  # llama.cpp's spelling
        ("padding", "[PAD]"),
        ("cls", "[CLS]"),
        ("mask", "[MASK]"),
    ):
        yield f"tokenizer.ggml.{key}_token_id", _UINT32, ids[word]


def _spelled(word: str) -> str:
    if word.startswith("[") and word.endswith("]"):
        return word
    return word[2:] if word.startswith("##") else f"{_WORD_MARK}{word}"


def _value(kind: int, value: Any) -> bytes:
    if kind == _STRING:
        return _string(value)
    if kind == _ARRAY:
        inner, items = value
        data = b"".join(_value(inner, item) for item in items)
        return struct.pack("<IQ", inner, len(items)) + data
    return struct.pack({_UINT32: "<I", _INT32: "<i", _FLOAT32: "<f", _BOOL: "<?"}[kind], value)


def _string(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def _size(shape: list[int], kind: int) -> int:
    count = 1
    for length in shape:
        count *= length
    return count * (2 if kind == _F16 else 4)


def _padded(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT
