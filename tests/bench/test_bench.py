"""`manage.py bench` on the scripted stack: complete figures, and nothing left behind."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from chatsite.bench.hostile_inputs import ATTACKS
from chatsite.management.commands.bench import Command
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


def test_the_overhead_of_the_api_is_measured_in_all_processes(scripted_stack: Stack) -> None:
    options = ("--overhead", "--runs", "1", "--tokens", "64", "--json")
    figures = json.loads(scripted_stack.manage("bench", *options).stdout)
    assert figures["errors"] == 0
    assert figures["streams"] == 8
    assert figures["ttft_site_ms"] > 0
    assert figures["ttft_engine_ms"] > 0
    assert figures["throughput_ratio"] > 0
    kinds = ("up", "redis", "inference", "celery", "daphne", "engine", "renderer")
    parts = [figures[f"cpu_us_{kind}"] for kind in kinds]
    assert figures["cpu_us_per_token"] > 0
    assert abs(sum(parts) - figures["cpu_us_per_token"]) < 1
    for part in ("idle_ms", "streamed_us", "request_ms"):
        assert {f"{part}_{kind}" for kind in (*kinds, "all")} <= figures.keys()
    assert scripted_stack.query("SELECT count(*) FROM accounts_user") == [(0,)]


def test_hostile_inputs_are_refused_while_other_users_stream(scripted_stack: Stack) -> None:
    inputs = ["digits as a duration", "nested and huge JSON", "20 bodies of 31 MB without a key"]
    # The attacker runs at the lowest priority: on a busy machine its first answer takes a while.
    options = ("--hostile", "--seconds", "40", "--json", "--inputs", *inputs)
    figures = json.loads(scripted_stack.manage("bench", *options).stdout)
    assert figures["errors"] == []
    assert [row["input"] for row in figures["inputs"]] == inputs
    for row in figures["inputs"]:
        assert row["statuses"]
        # An excessive duration is clamped; the other inputs are refused.
        assert set(row["statuses"]) <= {"200", "400", "401", "413", "WriteError", "ReadError"}
        assert {"daphne", "inference", "engine", "redis"} <= row["memory_mib"].keys()
    assert figures["baseline"]["gap_page_ms"] > 0
    assert scripted_stack.query("SELECT count(*) FROM accounts_user") == [(0,)]


def test_bench_reports_errors(scripted_stack: Stack) -> None:
    result = scripted_stack.manage("bench", "--model", "absent:1b", check=False)
    assert result.returncode == 1
    assert "not installed" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_missing_llama_server_is_reported(scripted_stack: Stack) -> None:
    options = ("--llama-server", "/nowhere/llama-server", "--runs", "1", "--cases", "edit")
    result = scripted_stack.manage("bench", *options, check=False)
    assert result.returncode == 1
    assert "llama-server did not start" in result.stderr
    assert scripted_stack.query("SELECT count(*) FROM accounts_user") == [(0,)]


def test_the_api_is_compared_with_any_openai_compatible_server(
    scripted_stack: Stack, tmp_path: Path
) -> None:
    """The peer is a program that answers like llama-server, with two tokens each time."""
    peer = tmp_path / "llama-server"
    peer.write_text(PEER.replace("PYTHON", sys.executable))
    peer.chmod(0o755)
    options = ("--llama-server", str(peer), "--runs", "1", "--flags", "-np 8", "--flags", "-np 4")
    cases = ("--cases", "edit,return", "--json")
    result = scripted_stack.manage("bench", *options, *cases)
    edit, returning = json.loads(result.stdout)
    assert edit["figures"].keys() == {"site", "-np 8", "-np 4"}
    assert edit["ratios"]["-np 4"]["tokens_per_s"] > 0
    assert returning["figures"]["site"]["evicted_to_in_slot"] > 0
    written, drawing = tmp_path / "edit.json", tmp_path / "speed.svg"
    written.write_text(result.stdout)
    shown = scripted_stack.manage(
        "bench", "--read", str(written), str(written), "--plot", str(drawing)
    )
    assert "site / -np 8" in shown.stdout
    assert "medians of 2" in shown.stdout
    bars = ET.parse(drawing).findall(".//{http://www.w3.org/2000/svg}rect[@height='16']")  # noqa: S314
    assert len(bars) == 3


PEER = """#!PYTHON
import json, sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.end_headers()
        for text in ("one", " two"):
            self.say({"choices": [{"delta": {"content": text}}]})
        self.say({"choices": [], "usage": {"completion_tokens": 2}})
        self.wfile.write(b"data: [DONE]\\n\\n")

    def say(self, chunk):
        self.wfile.write(f"data: {json.dumps(chunk)}\\n\\n".encode())
        self.wfile.flush()

    def log_message(self, *args):
        pass

port = int(sys.argv[sys.argv.index("--port") + 1])
ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()
"""


@pytest.mark.parametrize("name", ATTACKS)
def test_each_hostile_input_can_be_chosen_by_its_name(name: str) -> None:
    parser = Command().create_parser("manage.py", "bench")
    assert parser.parse_args(["--hostile", "--inputs", name, "--json"]).inputs == [name]
