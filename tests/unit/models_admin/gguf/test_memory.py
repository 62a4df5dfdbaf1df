"""The memory that a model takes, from its header alone."""

import io
import struct

import pytest

from models_admin.gguf.header import read_header
from models_admin.gguf.memory import Layer, Shape, largest_context, needed, shape_of
from tests.support.gguf import gguf

MIB = 1 << 20


def numbers(*values: int) -> bytes:
    return struct.pack("<IIQ", 9, 4, len(values)) + struct.pack(f"<{len(values)}I", *values)


def flags(*values: bool) -> bytes:
    return struct.pack("<IIQ", 9, 7, len(values)) + struct.pack(f"<{len(values)}?", *values)


def shape(architecture: str, values: dict[str, int], **lists: bytes) -> Shape:
    keys = {f"{architecture}.{key}": value for key, value in values.items()}
    extra = [(f"{architecture}.{key.replace('__', '.')}", raw) for key, raw in lists.items()]
    data = gguf({"general.architecture": architecture, **keys}, extra=extra, tensors=[("a", 256)])
    return shape_of(read_header(io.BytesIO(data), len(data)))


LLAMA_70B = {
    "block_count": 80,
    "context_length": 131072,
    "embedding_length": 8192,
    "feed_forward_length": 28672,
    "attention.head_count": 64,
    "attention.head_count_kv": 8,
    "vocab_size": 128256,
}


def test_grouped_queries():
    found = shape("llama", LLAMA_70B)
    assert found.weights == 1024
    assert set(found.layers) == {Layer(1024, 1024)}
    need = needed(found, 4096, 8)
    # 320 KiB per token.
    assert need.kv == 8 * 4096 * 320 * 1024
    # llama.cpp reserves 604 MiB for this shape, without the logits of all rows.
    assert need.work == pytest.approx(604 * MIB, rel=0.02)
    assert need.total == need.loaded + need.work
    assert needed(found, 4096, 8, kv_type="q8_0").kv == need.kv * 34 / 64
    assert needed(found, 4096, 8, flash_attention=True).work < need.work


def test_a_context_is_padded_and_no_longer_than_trained():
    found = shape("llama", LLAMA_70B | {"context_length": 1000})
    need = needed(found, 4096, 1)
    assert need.context == 1000
    assert need.kv == 1024 * 320 * 1024


def test_sliding_windows():
    gemma = LLAMA_70B | {"block_count": 6, "attention.sliding_window": 1024}
    found = shape("gemma3", gemma)
    assert [layer.window for layer in found.layers] == [1024] * 5 + [0]
    assert needed(found, 8192, 1).kv == 6 * 8192 * 4096
    assert needed(found, 8192, 1, whole_windows=False).kv == (5 * 1536 + 8192) * 4096
    # A pattern in the header takes precedence over the architecture's default.
    said = shape("gemma3", gemma, attention__sliding_window_pattern=flags(*[False] * 5, True))
    assert [layer.window for layer in said.layers] == [0] * 5 + [1024]


def test_latent_attention_keeps_no_values():
    found = shape(
        "deepseek2",
        LLAMA_70B
        | {
            "attention.head_count_kv": 1,
            "attention.key_length": 576,
            "attention.value_length": 512,
            "attention.key_length_mla": 192,
            "attention.value_length_mla": 128,
        },
    )
    assert needed(found, 1024, 1).kv == 80 * 1024 * 576 * 2


def test_recurrent_layers_keep_a_state_whatever_the_context():
    found = shape(
        "granitehybrid",
        LLAMA_70B
        | {
            "block_count": 3,
            "ssm.inner_size": 3072,
            "ssm.state_size": 128,
            "ssm.group_count": 1,
            "ssm.conv_kernel": 4,
        },
        attention__head_count_kv=numbers(0, 8, 0),
    )
    state = 4 * (3072 * 128 + 3 * (3072 + 2 * 128))
    assert found.layers == (Layer(0, 0, state=state), Layer(1024, 1024), Layer(0, 0, state=state))
    assert needed(found, 2048, 2).kv == 2 * (2 * state + 2048 * 4096)


def test_layers_that_keep_nothing():
    shared = LLAMA_70B | {"block_count": 4, "attention.shared_kv_layers": 1}
    assert shape("gemma4", shared).layers == (*[Layer(1024, 1024)] * 3, Layer(0, 0))
    ssm = {"ssm.inner_size": 8, "ssm.state_size": 4, "ssm.group_count": 1, "ssm.conv_kernel": 2}
    found = shape(
        "nemotron_h",
        LLAMA_70B | {"block_count": 3} | ssm,
        attention__head_count_kv=numbers(0, 8, 0),
        feed_forward_length=numbers(0, 0, 512),
    )
    state = 4 * (8 * 4 + 8 + 2 * 4)
    assert found.layers == (Layer(0, 0, state=state), Layer(1024, 1024), Layer(0, 0))


def test_models_for_vectors_have_one_context():
    bert = LLAMA_70B | {"block_count": 12, "embedding_length": 768, "context_length": 2048}
    whole = needed(shape("nomic-bert", bert), 4096, 8)
    assert (whole.kv, whole.context) == (0, 2048)
    assert whole.work == needed(shape("nomic-bert", bert), 4096, 1).work
    pieces = shape("qwen3", bert | {"pooling_type": 3})
    assert needed(pieces, 2048, 8).kv == needed(pieces, 2048, 1).kv


@pytest.mark.parametrize("value", [0, 1 << 31])
def test_nonsense_in_a_header_is_no_error(value):
    found = needed(shape("llama", dict.fromkeys(LLAMA_70B, value)), 4096, 8)
    assert 0 <= found.kv <= found.total


def test_experts_in_use_count():
    moe = LLAMA_70B | {"expert_count": 128, "expert_used_count": 8, "feed_forward_length": 6144}
    assert shape("qwen3moe", moe | {"expert_feed_forward_length": 768}).feed_forward == 6144
    assert shape("llama", moe).feed_forward == 8 * 6144


def test_the_largest_context_that_fits():
    found = shape("llama", LLAMA_70B)
    room = needed(found, 4096, 8).total
    assert largest_context(found, room, 4096, 8) == 4096
    assert largest_context(found, room - 1, 4096, 8) == 2048
    assert largest_context(found, 100 * MIB, 4096, 8) is None
    assert largest_context(found, needed(found, 1024, 1).total, 1 << 20, 1) == 1024


@pytest.mark.parametrize("tied", [True, False])
def test_parts_that_can_be_on_a_device(tied):
    tensors = [
        *(("token_embd.weight", 800), ("blk.0.attn_q.weight", 100), ("blk.1.attn_q.weight", 300)),
        *(("blk.0.ffn_up.weight", 50), ("output_norm.weight", 8)),
    ]
    tensors += [] if tied else [("output.weight", 600)]
    keys = {"llama.block_count": 2, "llama.embedding_length": 64, "llama.context_length": 4096}
    keys["llama.attention.head_count"] = 2
    data = gguf(keys, tensors=tensors)
    found = shape_of(read_header(io.BytesIO(data), len(data)))
    need = needed(found, 256, 2)
    cache = 2 * 256 * (64 + 64) * 2
    output = 4 * (808 if tied else 608)
    assert need.layers == (4 * 150 + cache, 4 * 300 + cache, output)
    assert found.tied == (3200 if tied else 0)
    # Everything except the vocabulary and the child's own overhead.
    assert sum(need.layers) - found.tied == need.loaded - need.overhead - 3200
