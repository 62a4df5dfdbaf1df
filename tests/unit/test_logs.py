from __future__ import annotations

import io
import json
import logging
import sys
from collections.abc import Iterator

import pytest
from django.core.exceptions import PermissionDenied

from chatsite import logs


@pytest.fixture(autouse=True)
def restored_logging() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level, hook = root.handlers[:], root.level, sys.excepthook
    levels = {name: logging.getLogger(name).level for name in logs.CHATTY}
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
    logging.getLogger("some.part").warning("slow step", extra={"action": "decode", "ms": 7})
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


def test_fields_are_readable_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = configured(monkeypatch)
    fields = {"job": 7, "model": "tiny:1b", "error": OSError("no\nroom"), "text": 'a "b"', "x": ""}
    logging.getLogger("part").warning("Download failed", extra=fields)
    (line,) = stream.getvalue().splitlines()
    assert line.endswith(
        'Download failed job=7 model=tiny:1b error="no\\nroom" text="a \\"b\\"" x=""'
    )


def test_an_error_without_a_text_has_the_name_of_its_type(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = configured(monkeypatch, CHATSITE_LOG_FORMAT="json")
    logging.getLogger("part").warning("Redis is not responding", extra={"error": TimeoutError()})
    assert json.loads(stream.getvalue())["error"] == "TimeoutError"


def test_fields_of_libraries_do_not_replace_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = configured(monkeypatch, CHATSITE_LOG_FORMAT="json")
    logging.getLogger("part").warning("Late", extra={"time": "never", "level": "LOW", "logger": 1})
    entry = json.loads(stream.getvalue())
    assert (entry["level"], entry["logger"], entry["time"][-1]) == ("WARNING", "part", "Z")


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


def test_libraries_are_quiet_except_when_debugging(monkeypatch: pytest.MonkeyPatch) -> None:
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

    for path in ("/healthz", "/healthz/queue", "/elsewhere"):
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


@pytest.mark.parametrize(("status", "shown"), [(403, False), (404, False), (500, True)])
def test_page_52_a_refused_request_logs_no_traceback(
    monkeypatch: pytest.MonkeyPatch, status: int, shown: bool
) -> None:
    stream = configured(monkeypatch)
    try:
        raise PermissionDenied
    except PermissionDenied as error:
        logging.getLogger("django.request").warning(
            "Forbidden (Permission denied): %s",
            "/admin/",
            exc_info=error,
            extra={"status_code": status, "request": "GET /admin/"},
        )
    assert "Forbidden (Permission denied): /admin/" in stream.getvalue()
    assert ("Traceback" in stream.getvalue()) == shown


def test_warnings_of_a_command_show_their_fields(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """For a command that does not configure logging, `logging` would show only the message."""
    last = logging.lastResort
    assert last is not None
    monkeypatch.setattr(last, "formatter", None)
    monkeypatch.delenv("CHATSITE_LOG_FORMAT", raising=False)
    logs.configure_command()
    logger = logging.getLogger("part")
    last.handle(logger.makeRecord("part", 30, "f", 1, "Late", (), None, extra={"seconds": 3}))
    assert capsys.readouterr().err.endswith("manage     WARNING Late seconds=3\n")


def test_lines_have_the_ids_of_request_and_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = configured(monkeypatch, CHATSITE_LOG_FORMAT="json")
    log = logging.getLogger("part")
    with logs.bind(request="req_1", generation="g1"):
        log.warning("One")
        with logs.bind(generation="g2"):
            log.warning("Two")
        log.warning("About another", extra={"generation": "g9"})
    log.warning("Outside")
    entries = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [(one.get("request_id"), one.get("generation")) for one in entries] == [
        ("req_1", "g1"),
        ("req_1", "g2"),
        ("req_1", "g9"),
        (None, None),
    ]
