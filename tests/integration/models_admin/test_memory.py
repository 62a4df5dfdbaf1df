"""The memory that loading takes equals the estimate from the header."""

from __future__ import annotations

import pytest

from chatsite.engine.client import EngineClient
from chatsite.engine.contract import messages as m
from chatsite.engine.contract.tuning import Tuning
from models_admin.gguf.header import read_header
from models_admin.gguf.memory import needed, shape_of


@pytest.mark.parametrize(
    ("context", "slots", "flash"), [(1024, 1, False), (4096, 4, True), (2048, 16, False)]
)
async def test_a_child_takes_the_estimated_memory(starter_model, context, slots, flash):
    with starter_model.open("rb") as file:
        shape = shape_of(read_header(file, starter_model.stat().st_size))
    need = needed(shape, context, slots, flash_attention=flash)
    client = EngineClient("memory")
    tuning = Tuning(use_extra_bufts=False, flash_attention=flash, threads=1)
    load = m.Load("memory", str(starter_model), tuning, context, slots, step_target_ms=1000)
    try:
        loaded = await client.start(load)
    finally:
        await client.stop()
    assert need.context == loaded.context
    assert loaded.rss_bytes == pytest.approx(need.loaded, rel=0.15)
