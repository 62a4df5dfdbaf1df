from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator

import msgspec
import pytest

from chatsite.engine.contract import frames
from chatsite.engine.contract.messages import (
    Cancel,
    ChatMessage,
    Delta,
    Failed,
    Finished,
    Generate,
    Load,
    Loaded,
    LoadFailed,
    Loading,
    SamplingParams,
    Shutdown,
    Started,
    Step,
    Usage,
)
from chatsite.engine.contract.tuning import Tuning

TO_CHILD = [
    Load("m", "/m.gguf", Tuning(False, True, 2), 2048, 8, 200.0),
    Generate("g", "o", (ChatMessage("user", "größe"),), SamplingParams(stop=("x",)), "so far", 3),
    Cancel("g"),
    Shutdown(),
]
TO_HOST = [
    Loading(0.5),
    Loaded(2048, 8, "llama", 1, 2, "gguf", 1.0, 3),
    LoadFailed("model_unavailable", "no"),
    Started("g", 5, 3),
    Step((Delta("g", "text", 1), Delta("h", "你", 3))),
    Finished("g", "stop", Usage(1, 2, 3, 4.0, 5.0, 6.0)),
    Failed("g", "context_length_exceeded", "long", {"prompt_tokens": 9, "context": 8}),
]


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for end in ends:
        try:
            os.close(end)
        except OSError:
            pass  # the test closed it


@pytest.mark.parametrize("frame", TO_CHILD, ids=lambda frame: type(frame).__name__)
def test_frames_to_the_child_come_back_as_they_were(pipe, frame):
    os.write(pipe[1], frames.encode(frame))
    assert frames.read_frame(pipe[0]) == frame


@pytest.mark.parametrize("frame", TO_HOST, ids=lambda frame: type(frame).__name__)
async def test_frames_to_the_host_come_back_as_they_were(frame):
    reader = asyncio.StreamReader()
    reader.feed_data(frames.encode(frame))
    reader.feed_eof()
    assert await frames.receive(reader) == frame
    assert await frames.receive(reader) is None


def test_a_frame_larger_than_the_pipe_is_read_whole(pipe):
    frame = Step((Delta("g", "x" * 1_000_000, 1),))
    writer = threading.Thread(target=frames.write_frame, args=(pipe[1], frame))
    writer.start()
    header = os.read(pipe[0], 4)
    body = b""
    while len(body) < int.from_bytes(header, "little"):
        body += os.read(pipe[0], 1 << 20)
    writer.join()
    assert frames.decode_to_host(body) == frame


def test_the_end_between_frames_is_none_and_inside_one_an_error(pipe):
    os.write(pipe[1], frames.encode(Cancel("g"))[:-1])
    os.close(pipe[1])
    with pytest.raises(frames.FrameError, match="ended after"):
        frames.read_frame(pipe[0])
    assert frames.read_frame(pipe[0]) is None


def test_the_end_inside_a_length_is_an_error(pipe):
    os.write(pipe[1], b"\x01\x00")
    os.close(pipe[1])
    with pytest.raises(frames.FrameError, match="length"):
        frames.read_frame(pipe[0])


async def test_half_a_frame_of_a_dying_child_is_its_end():
    reader = asyncio.StreamReader()
    reader.feed_data(frames.encode(Loading(0.5))[:-1])
    reader.feed_eof()
    assert await frames.receive(reader) is None


def test_a_length_above_the_limit_is_refused_before_it_is_read(pipe):
    os.write(pipe[1], (frames.MAX_FRAME + 1).to_bytes(4, "little"))
    with pytest.raises(frames.FrameTooLarge):
        frames.read_frame(pipe[0])


def test_a_frame_above_the_limit_is_not_sent(monkeypatch):
    monkeypatch.setattr(frames, "MAX_FRAME", 100)
    with pytest.raises(frames.FrameTooLarge) as caught:
        frames.encode(Cancel("x" * 200))
    assert caught.value.size > 200


@pytest.mark.parametrize(
    "body",
    [
        b"\xc1",
        msgspec.msgpack.encode({"type": "loaded"}),
        msgspec.msgpack.encode({"type": "generate", "id": "g", "owner": "o", "messages": [1]}),
        msgspec.msgpack.encode(
            {
                "type": "generate",
                "id": "g",
                "owner": "o",
                "messages": [],
                "params": {"temperature": -1},
            }
        ),
    ],
)
def test_invalid_frames_and_values_out_of_range_are_refused(body):
    with pytest.raises(frames.FrameError):
        frames.decode_to_child(body)
