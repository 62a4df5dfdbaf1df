"""`manage.py capacity`: its inputs, its output, and what it says about bad input."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError

from chatsite.engine.contract.tuning import Tuning
from chatsite.engine.tuning import store
from chatsite.engine.tuning.probe import Measured
from chatsite.engine.tuning.store import Entry, Tried
from chatsite.inference.model_spec import ModelSpec
from chatsite.management.commands import capacity

GIVEN = ("--prefill", "600", "--decode", "1:14,8:66")
SHORT = ("--answers", "20", "--people", "1,2")


def planned(*options: str) -> str:
    out = io.StringIO()
    call_command("capacity", *options, stdout=out)
    return out.getvalue()


def test_json_has_the_inputs_and_serves_as_input(tmp_path: Path) -> None:
    first = planned(*GIVEN, *SHORT, "--json", "--slots", "4", "--think", "9")
    found = json.loads(first)
    assert [row["people"] for row in found["figures"]] == [1, 2]
    assert found["speed"]["slots"] == 4
    assert found["workload"]["think_s"] == 9
    assert found["saturation_people"] > 0
    file = tmp_path / "speeds.json"
    file.write_text(first)
    again = json.loads(planned("--speeds", str(file), *SHORT, "--json", "--think", "9"))
    assert again["figures"] == found["figures"]


def test_an_estimate_is_labelled_as_one() -> None:
    text = planned("--machine", "h100", "--size", "8b", *SHORT)
    assert "estimate" in text.splitlines()[0]
    assert "Measure before you decide" in text.splitlines()[-1]
    assert "Measure before" not in planned(*GIVEN, *SHORT)
    own = planned("--machine", "h100", "--size", "8b", "--bandwidth", "2000", *SHORT)
    assert "with bandwidth 2000" in own


def test_the_most_people_are_found() -> None:
    text = planned(*GIVEN, "--answers", "60")
    people = next(line for line in text.splitlines() if line.startswith("people"))
    assert int(people.split()[1]) > 1
    none = planned(*GIVEN, "--answers", "20", "--ttft", "0.001")
    assert "Not even one person" in none


def test_the_tuning_store_of_this_machine_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "tuning.json"
    spec = ModelSpec("tiny:1b", "d" * 64, file, 4096, 8, 2, 200.0, 0, "llama", file)

    async def resolve(name: str) -> ModelSpec:
        return spec

    monkeypatch.setattr(capacity, "resolve", resolve)
    with pytest.raises(CommandError, match=r"not been measured.*--measure"):
        planned("--model", "tiny:1b", *SHORT)
    chosen = Tuning(use_extra_bufts=True, flash_attention=False, threads=2, ubatch=256)
    tried = Tuning(use_extra_bufts=True, flash_attention=False, threads=2)
    entry = Entry(chosen, (Tried(tried, Measured(2.0, 10.0, 512)),), 2, context=4096, slots=8)
    store.remember(file, spec.digest, entry)
    found = json.loads(planned("--model", "tiny:1b", *SHORT, "--json"))
    assert found["speed"]["prefill_tokens_per_s"] == 500
    assert found["speed"]["decode"][0][1] > 10
    assert "tuning store" in found["speed"]["source"]


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (("--prefill", "600"), "both --prefill and --decode"),
        (("--prefill", "600", "--decode", "1-14"), "pairs, such as 1:14"),
        ((*GIVEN, "--people", "many"), "whole numbers"),
        ((*GIVEN, "--people", "0"), "people must be"),
        ((*GIVEN, "--machine", "h100"), "only one of: --machine, --prefill"),
        (("--machine", "abacus"), "choose from cpu-16"),
        (("--speeds", "/nonexistent"), "can't be used"),
        ((*GIVEN, "--slots", "0"), "slots must be"),
        ((*GIVEN, "--think", "-1"), "think time"),
        ((*GIVEN, "--gap", "0"), "limits must be"),
    ],
)
def test_bad_input_says_what_to_change(options: tuple[str, ...], text: str) -> None:
    with pytest.raises(CommandError, match=text):
        planned(*options)


def test_a_file_of_another_form_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "x.json"
    for content in ("[]", "{}", '{"speed": {"slots": "many"}}', "nonsense"):
        file.write_text(content)
        with pytest.raises(CommandError, match="needs the object that --json writes"):
            planned("--speeds", str(file))
