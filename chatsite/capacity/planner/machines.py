"""Estimates for machines that were not measured, from their data sheets.

A step reads the weights once, and the cache of each sequence, from memory; and computes two
operations per weight and token. The slower of both is its time (the roofline model), at the
fractions of the data sheet that well-kept engines reach. These are estimates: measure before you
buy.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from chatsite.capacity.planner.errors import BadPlan, require
from chatsite.capacity.planner.speeds import EngineSpeed

# Fractions of peak bandwidth and arithmetic that engines reach, and the share of the memory that
# weights and caches may take.
BANDWIDTH_SHARE: Final = 0.6
COMPUTE_SHARE: Final = 0.35
MEMORY_SHARE: Final = 0.9
# What is left of the sum of several devices of one machine that hold one model together.
TOGETHER_SHARE: Final = 0.75
# The share of the context that a conversation takes on average; devices page their cache.
_TYPICAL: Final = 0.25
_BATCHES: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256)


@dataclass(frozen=True)
class Machine:
    """Figures of a data sheet: GB/s, dense 16-bit TFLOPS, GB of memory, each of one device.

    ``devices`` hold one model together. ``step_overhead_ms`` is spent per step on everything else.
    More than ``most_slots`` answers at once would each be too slow to read.
    """

    text: str
    bandwidth: float
    tflops: float
    memory: float
    devices: int = 1
    step_overhead_ms: float = 3.0
    max_rows: int = 4096
    most_slots: int = 256


@dataclass(frozen=True)
class Weights:
    """A model: billions of parameters in total and per token, bytes of cache per token."""

    text: str
    billions: float
    active: float
    kv_bytes: int


MACHINES: Final = {
    "cpu-16": Machine("16 cores, DDR5 in two channels", 80, 1.0, 64, 1, 1.0, 512, 8),
    "cpu-64": Machine("64 cores, DDR5 in twelve channels", 460, 6.0, 384, 1, 1.0, 512, 16),
    "rtx-4090": Machine("one GeForce RTX 4090", 1008, 165, 24),
    "l40s": Machine("one L40S", 864, 362, 48),
    "a100": Machine("one A100 80 GB", 2039, 312, 80),
    "h100": Machine("one H100 SXM", 3350, 989, 80),
    "h200": Machine("one H200 SXM", 4800, 989, 141),
    "mi300x": Machine("one Instinct MI300X", 5300, 1307, 192),
    "4xh100": Machine("four H100 SXM with one model", 3350, 989, 80, 4),
    "8xh100": Machine("eight H100 SXM with one model", 3350, 989, 80, 8),
    "8xh200": Machine("eight H200 SXM with one model", 4800, 989, 141, 8),
}
MODELS: Final = {
    "1.5b": Weights("1.5 billion parameters, such as Qwen2.5-1.5B", 1.54, 1.54, 28_672),
    "8b": Weights("8 billion parameters, such as Llama 3.1 8B", 8.03, 8.03, 131_072),
    "32b": Weights("32 billion parameters, such as Qwen2.5-32B", 32.8, 32.8, 262_144),
    "70b": Weights("70 billion parameters, such as Llama 3.3 70B", 70.6, 70.6, 327_680),
    "30b-a3b": Weights("30 billion parameters, 3 active, such as Qwen3-30B-A3B", 30.5, 3.3, 98_304),
}


def named(machine: str, model: str) -> tuple[Machine, Weights]:
    """Return a machine and a model by name. Raises `BadPlan` with the names that exist."""
    if machine not in MACHINES:
        raise BadPlan(f"unknown machine {machine}; choose from {', '.join(MACHINES)}")
    if model not in MODELS:
        raise BadPlan(f"unknown model size {model}; choose from {', '.join(MODELS)}")
    return MACHINES[machine], MODELS[model]


def estimate(
    machine: Machine, model: Weights, *, bits: float, context: int, slots: int | None = None
) -> EngineSpeed:
    """Return the estimated speed of a model with ``bits`` per weight.

    ``slots`` None: as many sequences as fit beside the weights while each takes a quarter of
    ``context`` tokens. What they leave keeps conversations of people who think.
    Raises `BadPlan` if not one sequence fits.
    """
    require(1 <= bits <= 32, "bits per weight must be from 1 to 32")
    require(context >= 64, "context must be at least 64 tokens")
    positive = (machine.bandwidth, machine.tflops, machine.memory, machine.devices, model.billions)
    require(all(value > 0 for value in positive), "the figures of a machine must be above 0")
    require(0 < model.active <= model.billions, "active parameters must be a part of all of them")
    share = TOGETHER_SHARE if machine.devices > 1 else 1.0
    bandwidth = machine.bandwidth * 1e9 * machine.devices * share * BANDWIDTH_SHARE
    flops = machine.tflops * 1e12 * machine.devices * share * COMPUTE_SHARE
    weights = model.billions * 1e9 * bits / 8
    room = machine.memory * 1e9 * machine.devices * MEMORY_SHARE - weights
    tokens = int(room // model.kv_bytes)
    typical = int(context * _TYPICAL)
    require(
        tokens >= context,
        f"the model takes {weights / 1e9:.0f} GB; with {context} tokens of context it does not fit"
        f" into {machine.memory * machine.devices:.0f} GB: choose fewer bits or a larger machine",
    )
    fit = tokens // typical
    require(slots is None or slots <= fit, f"only {fit} slots fit beside the model")
    used = min(fit, machine.most_slots) if slots is None else slots

    def step_ms(sequences: int) -> float:
        # Each sequence of a mixture of experts needs experts of its own, up to all of them.
        read = min(weights, model.active * 1e9 * bits / 8 * sequences)
        reading, computing = read / bandwidth, 2 * model.active * 1e9 * sequences / flops
        return machine.step_overhead_ms + 1e3 * max(reading, computing)

    return EngineSpeed(
        prefill_tokens_per_s=flops / (2 * model.active * 1e9),
        decode=tuple((count, step_ms(count)) for count in _BATCHES),
        slots=used,
        context=context,
        max_rows=machine.max_rows,
        context_ms=1e3 * 1000 * model.kv_bytes / bandwidth,
        cache_tokens=max(0, tokens - used * typical),
        source=f"estimate: {machine.text}, {model.text}, {bits:g} bits per weight",
        estimate=True,
    )
