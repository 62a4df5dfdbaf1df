"""Complete models of some hundred kilobytes, one for each kind of memory in llama.cpp.

Their weights are random: the text is nonsense, but the same for the same prompt.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.support import tiny_model
from tests.support.gguf import ALIGNMENT, STRING, string

WIDTH, HEADS, HEAD, INNER, CONTEXT, WINDOW = 32, 2, 16, 64, 1024, 32
_STATE, _CONVOLUTION, _RANK, _EXPERTS = 16, 4, 8, 4
_U32, _F32, _LIST = 4, 6, 9

Tensor = tuple[str, tuple[int, ...]]

# Models whose memory can't be truncated: all or some layers are recurrent.
GROWING = ("mamba", "lfm2")
FAMILIES = ("gemma3", "qwen2", "qwen3", "qwen3moe", "phi3", *GROWING)


def write(path: Path, family: str) -> Path:
    layers = 6 if family == "gemma3" else 2
    tensors = list(_tensors(family, layers))
    values = [(key, raw) for key, raw in tiny_model.values() if key.startswith("tokenizer.")]
    values += [("general.architecture", _text(family)), *_values(family, layers)]
    head = struct.pack("<4sIQQ", b"GGUF", 3, len(tensors), len(values))
    head += b"".join(string(key) + raw for key, raw in values)
    offset = 0
    for name, shape in tensors:
        head += string(name) + struct.pack("<I", len(shape))
        head += struct.pack(f"<{len(shape)}Q", *shape) + struct.pack("<IQ", 0, offset)
        offset += -(-_count(shape) * 4 // ALIGNMENT) * ALIGNMENT
    source = random.Random(family)
    with path.open("wb") as file:
        file.write(head + bytes(-len(head) % ALIGNMENT))
        for name, shape in tensors:
            data = struct.pack(f"<{_count(shape)}f", *_numbers(name, _count(shape), source))
            file.write(data + bytes(-len(data) % ALIGNMENT))
    return path


def _numbers(name: str, count: int, source: random.Random) -> Sequence[float]:
    if "norm" in name:
        return [1.0] * count
    if name.endswith("ssm_a"):  # the decay of the state per token
        return [-1.0] * count
    return [source.gauss(0, 0.2) for _ in range(count)]


def _values(family: str, layers: int) -> Iterator[tuple[str, bytes]]:
    numbers = {"block_count": layers, "context_length": CONTEXT, "embedding_length": WIDTH}
    numbers |= {"feed_forward_length": INNER, "vocab_size": len(tiny_model.WORDS)}
    if family != "mamba":
        numbers |= {"attention.head_count": HEADS, "attention.key_length": HEAD}
        numbers |= {"attention.value_length": HEAD}
    if family == "gemma3":
        numbers["attention.sliding_window"] = WINDOW
    if family == "qwen3moe":
        numbers |= {"expert_count": _EXPERTS, "expert_used_count": 2}
        numbers["expert_feed_forward_length"] = INNER
    if family == "mamba":
        numbers |= {"ssm.conv_kernel": _CONVOLUTION, "ssm.inner_size": INNER}
        numbers |= {"ssm.state_size": _STATE, "ssm.time_step_rank": _RANK}
    if family == "phi3":
        numbers |= {"rope.dimension_count": HEAD, "rope.scaling.original_context_length": CONTEXT}
    if family == "lfm2":  # a convolution, then attention
        numbers["shortconv.l_cache"] = 3
        raw = struct.pack("<IIQ2I", _LIST, _U32, 2, 0, HEADS)
        yield f"{family}.attention.head_count_kv", raw
    elif family != "mamba":
        numbers["attention.head_count_kv"] = HEADS
    for key, number in numbers.items():
        yield f"{family}.{key}", struct.pack("<II", _U32, number)
    epsilon = struct.pack("<If", _F32, 1e-5)
    yield f"{family}.attention.layer_norm_rms_epsilon", epsilon


def _tensors(family: str, layers: int) -> Iterator[Tensor]:
    vocabulary = len(tiny_model.WORDS)
    yield "token_embd.weight", (WIDTH, vocabulary)
    if family != "lfm2":
        yield "output_norm.weight", (WIDTH,)
        yield "output.weight", (WIDTH, vocabulary)
    else:
        yield "token_embd_norm.weight", (WIDTH,)
    for layer in range(layers):
        for name, shape in _layer(family, layer):
            yield f"blk.{layer}.{name}", shape


def _layer(family: str, layer: int) -> Iterator[Tensor]:
    yield "attn_norm.weight", (WIDTH,)
    if family == "mamba":
        yield from _mamba()
        return
    whole = HEADS * HEAD
    if family == "lfm2" and not layer:
        yield "shortconv.conv.weight", (3, WIDTH)
        yield "shortconv.in_proj.weight", (WIDTH, 3 * WIDTH)
        yield "shortconv.out_proj.weight", (WIDTH, WIDTH)
    else:
        if family == "phi3":
            yield "attn_qkv.weight", (WIDTH, 3 * whole)
        else:
            for part in "qkv":
                yield f"attn_{part}.weight", (WIDTH, whole)
        yield "attn_output.weight", (whole, WIDTH)
    if family == "qwen2":
        for part in "qkv":
            yield f"attn_{part}.bias", (whole,)
    if family in {"gemma3", "qwen3", "qwen3moe"} or (family == "lfm2" and layer):
        yield "attn_q_norm.weight", (HEAD,)
        yield "attn_k_norm.weight", (HEAD,)
    if family == "gemma3":
        yield "post_attention_norm.weight", (WIDTH,)
        yield "post_ffw_norm.weight", (WIDTH,)
    yield "ffn_norm.weight", (WIDTH,)
    if family == "qwen3moe":
        yield "ffn_gate_inp.weight", (WIDTH, _EXPERTS)
        yield "ffn_gate_exps.weight", (WIDTH, INNER, _EXPERTS)
        yield "ffn_up_exps.weight", (WIDTH, INNER, _EXPERTS)
        yield "ffn_down_exps.weight", (INNER, WIDTH, _EXPERTS)
        return
    if family != "phi3":
        yield "ffn_gate.weight", (WIDTH, INNER)
    yield "ffn_up.weight", (WIDTH, INNER * (2 if family == "phi3" else 1))
    yield "ffn_down.weight", (INNER, WIDTH)


def _mamba() -> Iterator[Tensor]:
    yield "ssm_in.weight", (WIDTH, 2 * INNER)
    yield "ssm_conv1d.weight", (_CONVOLUTION, INNER)
    yield "ssm_conv1d.bias", (INNER,)
    yield "ssm_x.weight", (INNER, _RANK + 2 * _STATE)
    yield "ssm_dt.weight", (_RANK, INNER)
    yield "ssm_dt.bias", (INNER,)
    yield "ssm_a", (_STATE, INNER)
    yield "ssm_d", (INNER,)
    yield "ssm_out.weight", (INNER, WIDTH)


def _count(shape: tuple[int, ...]) -> int:
    count = 1
    for length in shape:
        count *= length
    return count


def _text(value: str) -> bytes:
    return struct.pack("<I", STRING) + string(value)
