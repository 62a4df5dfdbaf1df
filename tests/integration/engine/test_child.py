"""Real engine children over the scripted backend: the pipe, the sandbox, and every kind of end."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from chatsite.engine.client import EngineClient, EngineGone, EngineLoadFailed
from chatsite.engine.contract import frames
from chatsite.engine.contract.messages import (
    Cancel,
    ChatMessage,
    CountTokens,
    Failed,
    Finished,
    SamplingParams,
    Started,
    Step,
    TokenCounts,
)
from chatsite.engine.tuning import autotune, store
from chatsite.sandbox import spawn
from chatsite.sandbox.protection import NETWORK, NO_NEW_PRIVILEGES, SECCOMP
from tests.support.children import PLAIN, answer, ask, load, of_process


async def test_an_answer_comes_over_the_pipe(client):
    await client.send(ask("g", "hello there größe"))
    text, end = await answer(client, "g")
    assert text == "hello there größe"
    assert isinstance(end, Finished)
    assert client.alive


async def test_loading_is_reported_and_the_model_described(model):
    client = EngineClient("scripted", backend="scripted")
    seen: list[float] = []
    try:
        loaded = await client.start(load(model("@load-ms 20 @context 300")), seen.append)
    finally:
        await client.stop()
    assert seen == sorted(seen)
    assert seen[-1] == 1.0
    assert len(seen) > 5
    assert (loaded.context, loaded.slots, loaded.architecture) == (300, 4, "scripted")
    assert loaded.rss_bytes > 1_000_000


async def test_a_prompt_that_does_not_fit_is_refused_with_its_figures(client):
    await client.send(ask("g", "word " * 600))
    _, end = await answer(client, "g")
    assert isinstance(end, Failed)
    assert end.code == "context_length_exceeded"
    assert end.details["prompt_tokens"] > end.details["context"] == 512


async def test_tokens_are_counted_while_an_answer_runs(client):
    await client.send(ask("g", "@tokens 400 @delay-ms 20"))
    await client.send(CountTokens("m", (ChatMessage("user", "one two"),), texts=("one two three",)))
    async for frame in client:
        if isinstance(frame, TokenCounts):
            break
        assert not isinstance(frame, Finished)
    assert frame.id == "m"
    assert frame.texts == (3,)
    assert frame.prompt > 3


async def test_cancel_ends_an_answer_and_keeps_its_text(client):
    await client.send(ask("g", "@tokens 400 @delay-ms 20"))
    async for frame in client:
        if isinstance(frame, Step):
            break
    await client.send(Cancel("g"))
    _, end = await answer(client, "g")
    assert isinstance(end, Finished)
    assert end.reason == "cancelled"
    assert 1 <= end.usage.completion_tokens < 400


async def test_a_crash_is_named_and_earlier_text_arrives(client):
    await client.send(ask("g", "one two three four @crash 2"))
    text, end = await answer(client, "g")
    assert (text, end) == ("one two", None)
    assert await client.wait() == "killed by SIGABRT"
    with pytest.raises(EngineGone, match="SIGABRT"):
        await client.send(ask("h", "hello"))


async def test_the_next_child_resumes_where_the_crashed_one_was(client, clients):
    request = "one two three four @crash-once 2"
    await client.send(ask("g", request))
    first, _ = await answer(client, "g")
    second = EngineClient("scripted", backend="scripted")
    clients.append(second)
    await second.start(load())
    await second.send(ask("g", request, prefix=first, generated=2))
    rest, end = await answer(second, "g")
    assert first + rest == "one two three four"
    assert isinstance(end, Finished)


async def test_loading_that_fails_says_why(model):
    client = EngineClient("scripted", backend="scripted")
    with pytest.raises(EngineLoadFailed, match="told not to load") as caught:
        await client.start(load(model("@load-fail")))
    assert caught.value.code == "model_unavailable"
    assert not client.alive


async def test_loading_that_crashes_says_how(model):
    client = EngineClient("scripted", backend="scripted")
    with pytest.raises(EngineGone, match="SIGABRT"):
        await client.start(load(model("@load-crash")))


async def test_start_that_is_cancelled_leaves_no_child(model):
    client = EngineClient("scripted", backend="scripted")
    loading = asyncio.Event()
    task = asyncio.create_task(
        client.start(load(model("@load-ms 60000")), lambda progress: loading.set())
    )
    await loading.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert client.exit_reason == "killed by SIGKILL"


async def test_stop_ends_an_idle_child_in_order(client):
    assert await client.stop() == "ended"
    assert await client.stop() == "ended"


async def test_stop_ends_a_child_that_hangs(client, monkeypatch):
    monkeypatch.setattr("chatsite.engine.client.SHUTDOWN_SECONDS", 0.2)
    await client.send(ask("g", "one two @hang 0"))
    async for frame in client:
        if isinstance(frame, Started):
            break
    assert await client.stop() == "killed by SIGTERM"


async def test_stop_ends_a_child_that_is_stopped(client, monkeypatch):
    monkeypatch.setattr("chatsite.engine.client.SHUTDOWN_SECONDS", 0.2)
    monkeypatch.setattr("chatsite.engine.client.TERMINATE_SECONDS", 0.2)
    os.kill(client.pid, signal.SIGSTOP)
    assert await client.stop() == "killed by SIGKILL"


async def test_a_child_that_reads_nothing_does_not_block_the_sender_forever(client, monkeypatch):
    monkeypatch.setattr("chatsite.engine.client.SEND_SECONDS", 0.5)
    os.kill(client.pid, signal.SIGSTOP)
    long = ask("g", "x" * (frames.MAX_FRAME * 3 // 4))
    await client.send(long)  # must not wait for another child
    with pytest.raises(EngineGone, match="SIGKILL"):
        await client.send(long)


async def test_a_child_leaves_when_its_input_ends():
    child = await spawn.start(["--name", "x", "--backend", "scripted"])
    await frames.transmit(child.stdin, load())
    while (frame := await frames.receive(child.stdout)) and type(frame).__name__ != "Loaded":
        pass
    child.stdin.close()
    assert await child.process.wait() == 0


async def test_a_child_dies_with_its_parent(tmp_path):
    """The parent is a separate process, killed before it can clean up."""
    program = (
        "import asyncio, sys\n"
        "from chatsite.engine.client import EngineClient\n"
        "from tests.support.children import load\n"
        "async def main():\n"
        "    client = EngineClient('x', backend='scripted')\n"
        "    await client.start(load())\n"
        "    print(client.pid, flush=True)\n"
        "    await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, stdout=asyncio.subprocess.PIPE, cwd=spawn.ROOT
    )
    assert parent.stdout is not None
    pid = int(await parent.stdout.readline())
    parent.kill()
    await parent.wait()
    for _ in range(100):
        if not alive(pid):
            return
        await asyncio.sleep(0.05)
    pytest.fail("the child outlives its parent")


def environment_of(pid: int) -> str:
    return Path(f"/proc/{pid}/environ").read_text()


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


async def test_ctrl_c_is_the_hosts_business(client):
    os.kill(client.pid, signal.SIGINT)
    await client.send(ask("g", "still here"))
    assert (await answer(client, "g"))[0] == "still here"


async def test_the_name_is_seen_in_the_list_of_processes(client):
    command = of_process(client, "cmdline").split("\0")
    assert command[1:5] == ["-m", "chatsite.engine", "--name", "scripted"]


async def test_no_secret_reaches_the_child(monkeypatch):
    # Of a child that has not hidden its memory yet: it waits for its first frame.
    monkeypatch.setenv("CHATSITE_SECRET_KEY", "hush")
    monkeypatch.setenv("DATABASE_URL", "postgres://hush")
    monkeypatch.setenv("OMP_WAIT_POLICY", "passive")
    child = await spawn.start(["--name", "x", "--backend", "scripted"])
    environment = environment_of(child.process.pid)
    child.stdin.close()
    await child.process.wait()
    names = {entry.partition("=")[0] for entry in environment.split("\0") if entry}
    assert "PATH" in names
    assert not {name for name in names if name.startswith(("CHATSITE", "DATABASE", "OMP"))}
    assert "hush" not in environment


async def test_the_child_reports_its_sandbox_layers():
    lines: list[str] = []
    client = EngineClient("scripted", backend="scripted", on_log=lines.append)
    try:
        loaded = await client.start(load())
        cut_off = len(of_process(client, "net/dev").splitlines()) == 3
        status = of_process(client, "status")
    finally:
        await client.stop()
    active = loaded.protection.active
    assert (NETWORK in active) is cut_off
    assert (SECCOMP in active) is ("Seccomp:\t2" in status)
    assert (NO_NEW_PRIVILEGES in active) is ("NoNewPrivs:\t1" in status)
    assert str(loaded.protection) in "\n".join(lines)


async def test_nonsense_on_the_pipe_ends_the_child(client, monkeypatch):
    async def transmit(pipe, frame):
        pipe.write(b"\x04\x00\x00\x00junk")

    monkeypatch.setattr(frames, "transmit", transmit)
    await client.send(ask("1", "hello"))
    assert await client.wait() == "ended"


async def test_eight_requests_stream_together(clients):
    client = EngineClient("scripted", backend="scripted")
    clients.append(client)
    await client.start(load(slots=8))
    for number in range(8):
        await client.send(ask(str(number), "@tokens 30 @delay-ms 5", owner=str(number)))
    widest, ended = 0, 0
    async for frame in client:
        if isinstance(frame, Step):
            widest = max(widest, len(frame.deltas))
        ended += isinstance(frame, Finished)
        if ended == 8:
            break
    assert widest == 8


async def test_parameters_out_of_range_never_reach_the_backend(client):
    await client.send(ask("g", "hello", params=SamplingParams(temperature=-1)))
    assert await client.wait() == "ended"


class TestProbes:
    async def probe(self, path: str, seconds: float = 30) -> store.Tried:
        return await autotune.run_probe(
            Path(path), "scripted", PLAIN, 64, seconds=seconds, backend="scripted"
        )

    async def test_a_probe_measures(self, model):
        tried = await self.probe(model(""))
        assert tried.problem == ""
        assert tried.measured is not None
        assert tried.measured.depth == 64
        assert tried.turn_ms > 0

    async def test_a_probe_that_crashes(self, model):
        assert (await self.probe(model("@load-crash"))).problem == "killed by SIGABRT"

    async def test_a_failed_probe_reports_its_last_log_lines(self, model):
        assert "told not to load" in (await self.probe(model("@load-fail"))).problem

    async def test_a_probe_that_hangs(self, model):
        tried = await self.probe(model("@load-ms 60000"), seconds=1)
        assert tried.problem == "no answer in 1 s"


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (0, "ended"),
        (3, "exited with code 3"),
        (-11, "killed by SIGSEGV"),
        (-99, "killed by signal 99"),
    ],
)
def test_ends_have_names(code, reason):
    assert spawn.exit_reason(code) == reason
