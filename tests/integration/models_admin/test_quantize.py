"""Smaller and larger weights from a real model, which can still chat."""

from __future__ import annotations

from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from chatsite.engine.client import EngineClient
from chatsite.engine.contract import messages as m
from chatsite.engine.contract.tuning import Tuning
from chatsite.management import job_actions
from models_admin.gguf import header as gguf
from models_admin.gguf.memory import needed, shape_of
from models_admin.jobs import quantize
from models_admin.jobs.quantize import QuantizeCancelled, QuantizeRefused
from models_admin.models import ModelName
from models_admin.store import disk, files, versions
from tests.support import tiny_model

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]


def nothing(done: int, total: int) -> None:
    pass


def never() -> bool:
    return False


@pytest.fixture
def tiny(tmp_path, data_dir) -> Path:
    return tiny_model.write(tmp_path / "tiny.gguf")


@pytest.fixture
def starter(starter_model, data_dir) -> ModelName:
    return files.import_file(starter_model, "smollm2:135m")


async def chat(path: Path) -> tuple[str, m.Loaded]:
    client = EngineClient("quantized")
    tuning = Tuning(use_extra_bufts=False, flash_attention=False, threads=2)
    load = m.Load("quantized", str(path), tuning, context=1024, slots=1, step_target_ms=1000)
    said = []
    question = m.ChatMessage("user", "What is the capital of France? Answer in one sentence.")
    try:
        loaded = await client.start(load)
        params = m.SamplingParams(temperature=0, max_tokens=24)
        await client.send(m.Generate("1", "alice", (question,), params))
        async for frame in client:
            if isinstance(frame, m.Step):
                said += [delta.text for delta in frame.deltas]
            if isinstance(frame, m.Finished | m.Failed):
                break
    finally:
        await client.stop()
    return "".join(said), loaded


async def test_from_q4_to_f16_and_on(starter: ModelName, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    large = tmp_path / "f16.gguf"
    sizes = quantize.quantize(
        starter.version.path, large, "F16", lambda *figures: told.append(figures), never
    )
    assert 2.5 < sizes.after / sizes.before < 3
    assert told[0] == (0, sizes.before)
    assert told[-1] == (sizes.before, sizes.before)
    assert [done for done, _ in told] == sorted(done for done, _ in told)

    small = tmp_path / "q4_k_m.gguf"
    sizes = quantize.quantize(large, small, "Q4_K_M", nothing, never)
    assert sizes.after / sizes.before == pytest.approx(0.39, abs=0.02)
    text, loaded = await chat(small)
    assert "Paris" in text
    with small.open("rb") as file:
        header = gguf.check_model(file, small.stat().st_size)
    assert header.quantization == "Q4_K_M"
    need = needed(shape_of(header), 1024, 1)
    assert loaded.rss_bytes == pytest.approx(need.loaded, rel=0.15)


def test_a_name_with_smaller_weights(
    tiny: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_actions, "PATIENCE_SECONDS", 0)  # no worker will come
    model = files.import_file(tiny, "tiny")
    versions.set_alias("pirate:latest", model, {"system": "Arr.", "parent": "tiny:latest"})
    call_command("models", "quantize", "pirate", "q8_0", "--name", "small")
    assert "small:latest is installed" in capsys.readouterr().out
    made = ModelName.objects.get(name="small:latest")
    assert made.configuration["system"] == "Arr."
    assert made.version.path.stat().st_size < tiny.stat().st_size / 2
    assert not list(disk.folder().glob("*.part"))
    # Onto an existing name, whose old version is what a rollback restores.
    call_command("models", "quantize", "pirate", "f16", "--name", "small")
    assert versions.rollback("small").version_id == made.version_id
    with pytest.raises(CommandError, match="Unknown quantization 'Q9'"):
        call_command("models", "quantize", "tiny", "q9", "--name", "small")


def test_a_cancelled_quantization_ends_and_leaves_nothing(
    starter: ModelName, tmp_path: Path
) -> None:
    target = tmp_path / "target"
    answers = iter([False, False, True])
    with pytest.raises(QuantizeCancelled):
        quantize.quantize(
            starter.version.path,
            target,
            "Q4_K_M",
            nothing,
            lambda: target.exists() and next(answers),
        )
    assert not target.exists()

    class Leaving(Exception):
        pass

    def leave(done: int, total: int) -> None:
        if done:
            raise Leaving

    with pytest.raises(Leaving):
        quantize.quantize(starter.version.path, target, "Q4_K_M", leave, never)
    assert not target.exists()


def test_invalid_quantizations_are_refused(tiny: Path, tmp_path: Path, monkeypatch) -> None:
    with pytest.raises(QuantizeRefused, match="not a GGUF file"):
        quantize.quantize(Path(__file__), tmp_path / "t", "Q8_0", nothing, never)
    broken = tmp_path / "broken"
    broken.write_bytes(tiny.read_bytes().replace(b"llama", b"lamal"))
    with pytest.raises(QuantizeRefused, match="unknown model architecture"):
        quantize.quantize(broken, tmp_path / "t", "Q8_0", nothing, never)
    monkeypatch.setattr(disk, "RESERVE", 1 << 60)
    with pytest.raises(disk.DiskFull):
        quantize.quantize(tiny, tmp_path / "t", "Q8_0", nothing, never)
    assert not (tmp_path / "t").exists()
