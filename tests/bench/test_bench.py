"""`manage.py bench` on the scripted stack: its figures are whole and it leaves nothing behind."""

from __future__ import annotations

import json

from tests.support.stack import Stack


def test_bench_measures_stack_and_engine_and_cleans_up(scripted_stack: Stack) -> None:
    options = ("--runs", "1", "--turns", "2", "--tokens", "8", "--words", "5", "--json")
    result = scripted_stack.manage("bench", "--users", "1,3", *options)
    figures = json.loads(result.stdout)
    assert [entry["users"] for entry in figures] == [1, 3]
    for entry in figures:
        for part in ("stack", "engine"):
            assert entry[part]["errors"] == 0
            assert entry[part]["tokens_per_s"] > 0
            assert entry[part]["ttft_p50_ms"] > 0
    assert scripted_stack.query("SELECT count(*) FROM accounts_user") == [(0,)]
    assert scripted_stack.query("SELECT count(*) FROM chat_conversation") == [(0,)]


def test_bench_says_what_is_wrong(scripted_stack: Stack) -> None:
    result = scripted_stack.manage("bench", "--model", "absent:1b", check=False)
    assert result.returncode == 1
    assert "not installed" in result.stderr
    assert "Traceback" not in result.stderr
