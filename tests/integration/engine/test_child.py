"""Real engine children over the scripted backend: the pipe, the sandbox, and every way to end."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from chatsite.engine import autotune, frames, spawn, tuning_store
from chatsite.engine.client import EngineClient, EngineGone, EngineLoadFailed
from chatsite.engine.messages import (
    Cancel,
    ChatMessage,
    Failed,
    Finished,
    Measure,
    Measured,
    SamplingParams,
    Started,
    Step,
)
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


async def test_texts_are_measured_while_an_answer_is_written(client):
    await client.send(ask("g", "@tokens 400 @delay-ms 20"))
    await client.send(Measure("m", (ChatMessage("user", "one two"),), texts=("one two three",)))
    async for frame in client:
        if isinstance(frame, Measured):
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


async def test_a_crash_is_named_and_what_was_written_before_it_arrives(client):
    await client.send(ask("g", "one two three four @crash 2"))
    text, end = await answer(client, "g")
    assert (text, end) == ("one two", None)
    assert await client.wait() == "killed by SIGABRT"
    with pytest.raises(EngineGone, match="SIGABRT"):
        await client.send(ask("h", "hello"))


async def test_the_next_child_goes_on_where_the_crashed_one_was(client, clients):
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


async def test_a_child_that_reads_nothing_holds_up_no_sender_for_ever(client, monkeypatch):
    monkeypatch.setattr("chatsite.engine.client.SEND_SECONDS", 0.5)
    os.kill(client.pid, signal.SIGSTOP)
    long = ask("g", "x" * (frames.MAX_FRAME * 3 // 4))
    await client.send(long)  # another child's turn is not waited for
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
    """The parent is a process of its own that is killed before it can tidy up."""
    program = (
        "import asyncio, sys\n"
        "from chatsite.engine import spawn\n"
        "async def main():\n"
        "    child = await spawn.start(['--name', 'x', '--backend', 'scripted'])\n"
        "    await child.stderr.readline()\n"
        "    print(child.process.pid, flush=True)\n"
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
    monkeypatch.setenv("CHATSITE_SECRET_KEY", "hush")
    monkeypatch.setenv("DATABASE_URL", "postgres://hush")
    monkeypatch.setenv("OMP_WAIT_POLICY", "passive")
    client = EngineClient("scripted", backend="scripted")
    try:
        await client.start(load())
        environment = of_process(client, "environ")
    finally:
        await client.stop()
    names = {entry.partition("=")[0] for entry in environment.split("\0") if entry}
    assert "PATH" in names
    assert not {name for name in names if name.startswith(("CHATSITE", "DATABASE", "OMP"))}
    assert "hush" not in environment


async def test_the_child_says_whether_it_is_cut_off():
    lines: list[str] = []
    client = EngineClient("scripted", backend="scripted", on_log=lines.append)
    try:
        await client.start(load())
        cut_off = len(of_process(client, "net/dev").splitlines()) == 3
    finally:
        await client.stop()
    (line,) = [line for line in lines if "network" in line]
    assert ("not cut off" in line) is not cut_off


async def test_nonsense_on_the_pipe_ends_the_child(client):
    client._child.stdin.write(b"\x04\x00\x00\x00junk")
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
    async def probe(self, path: str, seconds: float = 30) -> tuning_store.Tried:
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

    async def test_a_probe_that_fails_says_its_last_words(self, model):
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
