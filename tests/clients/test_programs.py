"""The example programs of the guide, run as a reader would run them."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.support.stack import MODEL, ROOT, Stack


@pytest.fixture(scope="module")
def key(api_stack: Stack) -> str:
    api_stack.create_user("programmer", admin=True)
    # The assistant creates a model.
    scopes = "chat,models,manage"
    made = api_stack.manage("apikey", "create", "programmer", "--scopes", scopes)
    return made.stdout.strip()


def run(stack: Stack, key: str, name: str, *args: str, stdin: str = "") -> str:
    environment = {
        "PATH": "",
        "OLLAMA_HOST": stack.url,
        "OLLAMA_API_KEY": key,
        "OPENAI_BASE_URL": f"{stack.url}/v1",
        "OPENAI_API_KEY": key,
    }
    program = ROOT / "docs" / "programs" / f"{name}.py"
    done = subprocess.run(
        [sys.executable, program, *args],
        env=environment,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_chat(api_stack: Stack, key: str) -> None:
    assert run(api_stack, key, "chat", stdin="one two\nthree\n") == "one two\nthree\n"


def test_stream(api_stack: Stack, key: str) -> None:
    assert run(api_stack, key, "stream", MODEL, "@tokens 4") == "w1 w2 w3 w4\n"


def test_benchmark(api_stack: Stack, key: str) -> None:
    here = f"{api_stack.url}/v1,{key},{MODEL}"
    told = run(api_stack, key, "benchmark", "@tokens 7", f"here={here}", f"cloud={here}")
    head, *rows = told.splitlines()
    assert head.split()[:2] == ["where", "model"]
    assert [row.split()[0] for row in rows] == ["here", "cloud"]
    assert all(row.split()[3] == "7" for row in rows)


def test_assistant(api_stack: Stack, key: str) -> None:
    assert run(api_stack, key, "assistant", MODEL, "@tokens 3") == "w1 w2 w3\n"
