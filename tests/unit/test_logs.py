from __future__ import annotations

import io
import json
import logging
import sys
from collections.abc import Iterator

import pytest

from chatsite import logs


@pytest.fixture(autouse=True)
def restored_logging() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level, hook = root.handlers[:], root.level, sys.excepthook
    levels = {name: logging.getLogger(name).level for name in logs._CHATTY}
    yield
    root.handlers[:], sys.excepthook = handlers, hook
    root.setLevel(level)
    for name, old in levels.items():
        logging.getLogger(name).setLevel(old)
    logging.captureWarnings(False)


def configured(monkeypatch: pytest.MonkeyPatch, **env: str) -> io.StringIO:
    for name in ("CHATSITE_LOG_FORMAT", "CHATSITE_LOG_LEVEL"):
        monkeypatch.delenv(name, raising=False)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    stream = io.StringIO()
    logs.configure("inference", stream)
    return stream


def test_json_carries_process_level_and_extras(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = configured(monkeypatch, CHATSITE_LOG_FORMAT="json")
    logging.getLogger("some.part").warning("slow %s", "step", extra={"action": "decode", "ms": 7})
    entry = json.loads(stream.getvalue())
    assert entry["time"].endswith("Z")
    assert {key: entry[key] for key in entry if key != "time"} == {
        "process": "inference",
        "level": "WARNING",
        "logger": "some.part",
        "message": "slow step",
        "action": "decode",
        "ms": 7,
    }


def test_text_prefixes_every_line_of_a_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = configured(monkeypatch)
    try:
        raise ValueError("bad")
    except ValueError:
        logging.getLogger("part").exception("it broke")
    lines = stream.getvalue().splitlines()
    assert lines[0].endswith("inference  ERROR   it broke")
    assert lines[-1].endswith("ValueError: bad")
    assert all(" inference  ERROR   " in line for line in lines)


def test_the_level_is_a_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = configured(monkeypatch, CHATSITE_LOG_LEVEL="ERROR")
    logging.getLogger("part").warning("unseen")
    assert stream.getvalue() == ""


def test_libraries_are_quiet_unless_one_debugs(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = configured(monkeypatch)
    logging.getLogger("daphne.server").info("listening")
    assert stream.getvalue() == ""
    stream = configured(monkeypatch, CHATSITE_LOG_LEVEL="DEBUG")
    logging.getLogger("daphne.server").info("listening")
    assert "listening" in stream.getvalue()


def test_refusals_of_healthz_are_not_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = configured(monkeypatch)

    class Request:
        def __init__(self, path: str) -> None:
            self.path = path

    for path in ("/healthz", "/elsewhere"):
        logging.getLogger("django.request").error("503 %s", path, extra={"request": Request(path)})
    assert "/elsewhere" in stream.getvalue()
    assert "/healthz" not in stream.getvalue()


def test_an_uncaught_error_is_one_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = configured(monkeypatch, CHATSITE_LOG_FORMAT="json")
    error = ValueError("bad")
    sys.excepthook(ValueError, error, None)
    entry = json.loads(stream.getvalue())
    assert (entry["level"], entry["exception"]) == ("CRITICAL", "ValueError: bad")


def test_colour_is_for_terminals() -> None:
    entry = {"time": "2026-11-23T19:45:07.250Z", "process": "p", "level": "ERROR", "message": "m"}
    assert logs.to_text(entry, terminal=True).startswith("\x1b[31m")
    assert "\x1b" not in logs.to_text(entry, terminal=False)
