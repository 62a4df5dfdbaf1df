"""A tiny random reranker as GGUF, and the same network in numpy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from numpy.typing import NDArray

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "red", "blue", "green", "sky", "boat"]
WORDS += ["fish", "is", "a"]
_SIZE, _HEADS, _FORWARD, _LAYERS, _CONTEXT = 32, 4, 64, 2, 64
_EPSILON = 1e-12

Tensors = dict[str, NDArray[np.float32]]


def tensors(seed: int = 7) -> Tensors:
    random = np.random.default_rng(seed)
    shapes: dict[str, tuple[int, ...]] = {
        "token_embd.weight": (len(WORDS), _SIZE),
        "position_embd.weight": (_CONTEXT, _SIZE),
        "token_types.weight": (2, _SIZE),
        "token_embd_norm.weight": (_SIZE,),
        "token_embd_norm.bias": (_SIZE,),
        "cls.weight": (_SIZE, _SIZE),
        "cls.bias": (_SIZE,),
        "cls.output.weight": (1, _SIZE),
        "cls.output.bias": (1,),
    }
    for layer in range(_LAYERS):
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            shapes[f"blk.{layer}.{name}.weight"] = (_SIZE, _SIZE)
            shapes[f"blk.{layer}.{name}.bias"] = (_SIZE,)
        shapes[f"blk.{layer}.ffn_up.weight"] = (_FORWARD, _SIZE)
        shapes[f"blk.{layer}.ffn_up.bias"] = (_FORWARD,)
        shapes[f"blk.{layer}.ffn_down.weight"] = (_SIZE, _FORWARD)
        shapes[f"blk.{layer}.ffn_down.bias"] = (_SIZE,)
        for name in ("attn_output_norm", "layer_output_norm"):
            shapes[f"blk.{layer}.{name}.weight"] = (_SIZE,)
            shapes[f"blk.{layer}.{name}.bias"] = (_SIZE,)
    return {
        name: random.normal(1.0 if name.endswith("norm.weight") else 0.0, 0.3, shape).astype("f4")
        for name, shape in shapes.items()
    }


def write(path: Path, values: Tensors) -> None:
    writer = gguf.GGUFWriter(path, "bert")
    writer.add_name("tiny reranker")
    writer.add_block_count(_LAYERS)
    writer.add_context_length(_CONTEXT)
    writer.add_embedding_length(_SIZE)
    writer.add_feed_forward_length(_FORWARD)
    writer.add_head_count(_HEADS)
    writer.add_layer_norm_eps(_EPSILON)
    writer.add_causal_attention(False)
    writer.add_pooling_type(gguf.PoolingType.RANK)
    writer.add_tokenizer_model("bert")
    writer.add_token_type_count(2)
    writer.add_token_list([one if one[0] == "[" else "\u2581" + one for one in WORDS])
    control, normal = gguf.TokenType.CONTROL, gguf.TokenType.NORMAL
    writer.add_token_types([control if one[0] == "[" else normal for one in WORDS])
    writer.add_bos_token_id(WORDS.index("[CLS]"))
    writer.add_eos_token_id(WORDS.index("[SEP]"))
    writer.add_sep_token_id(WORDS.index("[SEP]"))
    writer.add_pad_token_id(WORDS.index("[PAD]"))
    writer.add_unk_token_id(WORDS.index("[UNK]"))
    writer.add_mask_token_id(WORDS.index("[MASK]"))
    for name, value in values.items():
        writer.add_tensor(name, value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def score(values: Tensors, query: str, document: str) -> float:
    """Return the score that the network gives to ``[CLS] query [SEP] document [SEP]``."""
    words = ["[CLS]", *query.split(), "[SEP]", *document.split(), "[SEP]"]
    return _forward(values, [WORDS.index(one) for one in words])


def _forward(values: Tensors, ids: Sequence[int]) -> float:
    def linear(x: Any, name: str) -> Any:
        return x @ values[f"{name}.weight"].T + values[f"{name}.bias"]

    def norm(x: Any, name: str) -> Any:
        x = x - x.mean(-1, keepdims=True)
        x = x / np.sqrt((x * x).mean(-1, keepdims=True) + _EPSILON)
        return x * values[f"{name}.weight"] + values[f"{name}.bias"]

    count, width = len(ids), _SIZE // _HEADS
    x = values["token_embd.weight"][list(ids)].astype(np.float64)
    x = x + values["position_embd.weight"][:count] + values["token_types.weight"][0]
    x = norm(x, "token_embd_norm")
    for layer in range(_LAYERS):
        block = f"blk.{layer}"
        query, key, value = (
            linear(x, f"{block}.{name}").reshape(count, _HEADS, width).transpose(1, 0, 2)
            for name in ("attn_q", "attn_k", "attn_v")
        )
        weights = np.exp(query @ key.transpose(0, 2, 1) / math.sqrt(width))
        weights /= weights.sum(-1, keepdims=True)
        mixed = (weights @ value).transpose(1, 0, 2).reshape(count, _SIZE)
        x = norm(x + linear(mixed, f"{block}.attn_output"), f"{block}.attn_output_norm")
        hidden = linear(x, f"{block}.ffn_up")
        hidden = hidden * 0.5 * (1 + np.vectorize(math.erf)(hidden / math.sqrt(2)))
        x = norm(x + linear(hidden, f"{block}.ffn_down"), f"{block}.layer_output_norm")
    pooled = np.tanh(linear(x[0], "cls"))
    return float(linear(pooled, "cls.output")[0])
