from __future__ import annotations

import asyncio
import json
import os
import threading

import pytest

from chatsite import logs
from chatsite.supervisor import logstream
from chatsite.supervisor.logstream import Output

NOW = 1_790_000_000.25


async def split(*chunks: bytes) -> list[str]:
    reader = asyncio.StreamReader()
    for chunk in chunks:
        reader.feed_data(chunk)
    reader.feed_eof()
    return [line async for line in logstream.lines(reader)]


async def test_lines_are_put_together_from_chunks() -> None:
    assert await split(b"one\ntw", b"o\r\n\nthr", b"ee") == ["one", "two", "three"]


async def test_a_line_without_end_comes_in_pieces() -> None:
    found = await split(b"x" * 1_000_000, b"\nnext\n")
    assert "".join(found) == "x" * 1_000_000 + "next"
    assert found[-1] == "next"


async def test_broken_utf_8_is_shown_as_such() -> None:
    assert await split(b"\xff\n") == ["\ufffd"]


def test_our_own_json_keeps_its_process_and_level() -> None:
    entry = {
        "time": "2026-11-23T19:45:07.250Z",
        "process": "engine smollm2:135m",
        "level": "ERROR",
        "message": "no memory",
    }
    assert logstream.parse(json.dumps(entry), "inference", NOW) == entry


def test_json_that_is_not_ours_is_text() -> None:
    for line in ('{"message": "hi"}', "{", '{"time":"x","process":"p","level":"l","message":"m"}'):
        entry = logstream.parse(line, "celery", NOW)
        assert (entry["process"], entry["level"], entry["message"]) == ("celery", "INFO", line)
        assert entry["time"] == "2026-09-21T14:13:20.250Z"


def test_redis_lines_lose_their_own_prefix() -> None:
    line = "12:M 23 Nov 2026 19:45:07.977 # Out of memory"
    entry = logstream.parse(line, "redis", NOW)
    assert (entry["level"], entry["message"]) == (
        "WARNING",
        "Out of memory",
    )


def test_redis_greetings_are_no_warnings() -> None:
    line = "12:C 23 Nov 2026 19:45:07.977 # oO0OoO0OoO0Oo Redis is starting oO0OoO0OoO0Oo"
    assert logstream.parse(line, "redis", NOW)["level"] == "DEBUG"


def test_the_format_of_redis_means_nothing_elsewhere() -> None:
    line = "12:M 23 Nov 2026 19:45:07.977 # text"
    assert logstream.parse(line, "daphne", NOW)["message"] == line


def written(*, as_json: bool, level: str = "INFO") -> list[str]:
    read_end, write_end = os.pipe()
    output = Output(as_json=as_json, level=level, target=write_end)
    output.put(logstream.parse("hello", "daphne", NOW))
    output.say("watch out", "WARNING")
    output.announce("Ready: http://127.0.0.1:8000/")
    output.close()
    os.close(write_end)
    with os.fdopen(read_end) as pipe:
        return pipe.read().splitlines()


def test_announcements_stand_bare_in_text() -> None:
    first, second, third = written(as_json=False)
    assert first.endswith("daphne     INFO    hello")
    assert second.endswith("up         WARNING watch out")
    assert third == "Ready: http://127.0.0.1:8000/"


def test_all_is_json_when_json_is_wanted() -> None:
    entries = [json.loads(line) for line in written(as_json=True)]
    assert [entry["message"] for entry in entries] == [
        "hello",
        "watch out",
        "Ready: http://127.0.0.1:8000/",
    ]
    assert [entry["process"] for entry in entries] == ["daphne", "up", "up"]


def test_less_severe_lines_are_left_out() -> None:
    lines = written(as_json=False, level="WARNING")
    assert len(lines) == 2


def test_dropped_lines_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logstream, "QUEUED_LINES", 3)
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, True)
    output = Output(as_json=False, target=write_end)
    for _ in range(200):
        output.put(logstream.parse("y" * 4000, "daphne", NOW))  # far more than a pipe holds
    with os.fdopen(read_end) as pipe:
        while "dropped" not in (line := pipe.readline()):
            assert line
            output.put(logstream.parse("more", "daphne", NOW))
        assert "Log lines dropped: the reader is too slow lines=" in line
        output.close()
        os.close(write_end)


def test_a_reader_that_is_gone_stops_nothing() -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    before = set(threading.enumerate())
    output = Output(as_json=False, target=write_end)
    for _ in range(50):
        output.put(logstream.parse("unheard", "daphne", NOW))
    output.close()
    os.close(write_end)
    assert set(threading.enumerate()) <= before


def test_text_never_takes_over_the_terminal() -> None:
    entry = logstream.parse("\x1b[2Jgone\n12:00 daphne INFO forged", "celery", NOW)
    lines = logs.to_text(entry, terminal=False).splitlines()
    assert len(lines) == 2
    assert all(" celery " in line for line in lines)
    assert "\x1b" not in "".join(lines)
