"""Log lines of engine children on their way to the host's log."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Callable

import pytest

from chatsite import logs
from chatsite.sandbox import log_lines


def written(message: str, raised: Exception | None = None, **fields: object) -> str:
    """Return what a child writes for one log call."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(log_lines.Formatter())
    record = logging.getLogger("child").makeRecord(
        *("child", logging.WARNING, "file.py", 1, message, (), None), extra=fields
    )
    if raised:
        record.exc_info = (type(raised), raised, raised.__traceback__)
    handler.emit(record)
    return stream.getvalue()


def relayed(
    line: str,
    ids: Callable[[str], dict[str, log_lines.Value]] | None = None,
    **fields: log_lines.Value,
) -> dict[str, object]:
    """Return the entry in the host's JSON log."""
    logger, stream = logging.getLogger("tests.host"), io.StringIO()
    logger.setLevel(logging.INFO)
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logs.Formatter("inference", as_json=True, terminal=False))
    logger.addHandler(handler)
    log_lines.relay(line, logger, ids, **fields)
    logger.removeHandler(handler)
    entry: dict[str, object] = json.loads(stream.getvalue())
    return entry


def test_level_fields_and_traceback_reach_the_log_of_the_host() -> None:
    try:
        raise ValueError("bad")
    except ValueError as error:
        line = written("Step failed", error, sequences=3, error=TimeoutError())
    assert line.count("\n") == 1
    entry = relayed(line, model="tiny:1b")
    assert (entry["level"], entry["message"], entry["process"]) == (
        "WARNING",
        "Step failed",
        "inference",
    )
    assert (entry["sequences"], entry["error"], entry["model"]) == (3, "TimeoutError", "tiny:1b")
    assert str(entry["exception"]).endswith("ValueError: bad")


@pytest.mark.parametrize(
    "line",
    [
        "GGML_ASSERT(x) failed",
        "{",
        '{"level": "INFO"}',
        '{"level": "LOUD", "message": "m"}',
        '{"level": "INFO", "message": "m", "nested": {"a": 1}}',
        "[" * 60_000,
        '{"level": "INFO", "message": "m", "n": ' + "9" * 60_000 + "}",
    ],
    ids=lambda line: line[:20],
)
def test_lines_of_another_form_are_text(line) -> None:
    assert log_lines.parse(line) == log_lines.Line(logging.INFO, line)


@pytest.mark.parametrize("name", sorted(log_lines.RECORD_FIELDS | {"time", "logger", "model"}))
def test_a_hostile_child_changes_nothing_but_its_own_fields(name) -> None:
    line = json.dumps({"level": "INFO", "message": "m", name: "forged"} | {"level": "INFO"})
    entry = relayed(line, model="tiny:1b")
    assert "forged" not in {value for key, value in entry.items() if key != "message"}


def test_the_last_line_of_a_child_explains_its_failure_to_users() -> None:
    assert log_lines.parse(written("Loading failed", error=OSError("no file"))).reason == "no file"
    assert log_lines.parse(written("llama.cpp", text="bad magic")).reason == "bad magic"
    assert log_lines.parse(written("Host ended")).reason == "Host ended"
    assert log_lines.parse("GGML_ASSERT failed").reason == "GGML_ASSERT failed"


def test_lines_about_a_request_get_its_ids_from_the_host() -> None:
    with log_lines.about("g1.2"):
        line = written("Slot can't be truncated", slot=3)
    assert log_lines.parse(line).fields == {"slot": 3, "run": "g1.2"}
    assert log_lines.parse(written("Later")).fields == {}

    def ids(run: str) -> dict[str, log_lines.Value]:
        return {"generation": run.partition(".")[0], "request_id": "req_1"}

    entry = relayed(line, ids, model="tiny:1b")
    assert (entry["generation"], entry["request_id"], entry["slot"]) == ("g1", "req_1", 3)
    assert "run" not in entry
