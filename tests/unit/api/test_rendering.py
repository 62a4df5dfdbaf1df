"""How what a model gave looks to programs, where no running model shows it."""

from __future__ import annotations

import base64
import json
from array import array
from typing import Any

import msgspec
import pytest

from chatsite.accounts.keys import Caller
from chatsite.accounts.models import User
from chatsite.api import chat, convert, embeddings, http
from chatsite.api import responses_types as r
from chatsite.api import types as t
from chatsite.api.many import Answers
from chatsite.api.output import Parts, Reader, joined
from chatsite.api.requests import Answer, Piece
from chatsite.api.response_events import Writer
from chatsite.engine.messages import OutputSyntax, TokenLogprob, ToolCall
from chatsite.stream.hub import Feed
from chatsite.stream.messages import End, Vectors

CALL = ToolCall("call_1", "weather", '{"city":"Bern"}')
PROBABLE = TokenLogprob(5, b"\xc3\xa9", -0.5, ((5, b"\xc3\xa9", -0.5), (6, b"e", -1.5)))


def an_answer() -> Answer:
    return Answer("id", "tiny:latest", "ab" * 32, 0, 1.0, Caller(User()), Feed("id", "tiny"))


def chat_request(**fields: Any) -> t.ChatRequest:
    body = {"model": "m", "messages": [{"role": "user", "content": "x"}], **fields}
    return msgspec.convert(body, t.ChatRequest)


def events(sent: bytes) -> list[dict[str, Any]]:
    return [
        json.loads(line.partition("data: ")[2])
        for line in sent.decode().splitlines()
        if line.startswith("data: ")
    ]


USAGE = {"prompt_tokens": 2, "completion_tokens": 3, "reasoning_tokens": 1}


def test_reasoning_and_calls_are_chunks_of_their_own() -> None:
    answer = an_answer()
    answer.feed.syntax = OutputSyntax("<think>", "</think>", "hermes")
    tool = {"type": "function", "function": {"name": "weather"}}
    chunks = chat._Chunks(chat_request(logprobs=True, tools=[tool]), Answers((answer,)))
    text = '<think>hm</think>é<tool_call>{"name": "weather", "arguments": {}}</tool_call>'
    sent = [event["choices"][0] for event in events(chunks.piece(0, Piece(text, (PROBABLE,))))]
    call = sent[2]["delta"]["tool_calls"][0]
    assert call.pop("id")
    assert [choice["delta"] for choice in sent] == [
        {"reasoning_content": "hm", "reasoning": "hm"},
        {"content": "é"},
        {
            "tool_calls": [
                {
                    "index": 0,
                    "type": "function",
                    "function": {"name": "weather", "arguments": "{}"},
                }
            ]
        },
    ]
    first = sent[1]["logprobs"]["content"][0]
    assert (first["token"], first["bytes"], first["logprob"]) == ("é", [195, 169], -0.5)
    assert [top["token"] for top in first["top_logprobs"]] == ["é", "e"]
    ended = chunks.end(0, End("done", "stop"))
    assert ended.endswith(b"\n\ndata: [DONE]\n\n")
    assert json.loads(ended.split(b"\n\n")[0].removeprefix(b"data: "))["choices"][0] == {
        "index": 0,
        "delta": {},
        "logprobs": None,
        "finish_reason": "tool_calls",
    }


def test_a_whole_answer_has_reasoning_in_both_spellings() -> None:
    choice = chat._choice(chat_request(), 0, Parts("hm", "", (CALL,)), "tool_calls")
    message = msgspec.to_builtins(choice)["message"]
    assert message["reasoning_content"] == message["reasoning"] == "hm"
    assert message["content"] is None
    assert message["tool_calls"][0]["function"]["name"] == "weather"


def test_responses_write_reasoning_text_and_calls_in_their_order() -> None:
    body = r.Response(
        id="resp_1",
        created_at=1,
        model="m",
        status="in_progress",
        output=[],
        metadata={},
        parallel_tool_calls=True,
        temperature=None,
        top_p=None,
        max_output_tokens=None,
        tool_choice="auto",
        tools=[],
        text={},
    )
    writer = Writer(body)
    sent = writer.parts(Parts("h")) + writer.parts(Parts("m")) + writer.parts(Parts("", "text"))
    sent += writer.parts(Parts(calls=(CALL,)))
    sent += writer.end(End("done", "stop", usage=USAGE))
    kinds = [event["type"].removeprefix("response.") for event in events(sent)]
    assert kinds == [
        "output_item.added",
        "reasoning_summary_part.added",
        "reasoning_summary_text.delta",
        "reasoning_summary_text.delta",
        "reasoning_summary_text.done",
        "reasoning_summary_part.done",
        "output_item.done",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "output_item.added",
        "function_call_arguments.delta",
        "function_call_arguments.done",
        "output_item.done",
        "completed",
    ]
    assert [item["type"] for item in writer.response.output] == [
        "reasoning",
        "message",
        "function_call",
    ]
    assert writer.response.usage
    assert writer.response.usage["total_tokens"] == 5
    assert writer.response.usage["output_tokens_details"] == {"reasoning_tokens": 1}


def test_choices_share_their_prompt_and_add_up_what_they_wrote_and_reasoned() -> None:
    found = chat.usage([End("done", usage=USAGE), End("done", usage=USAGE)])
    assert (found.prompt_tokens, found.completion_tokens, found.total_tokens) == (2, 6, 8)
    assert found.completion_tokens_details.reasoning_tokens == 2


def embedding(**fields: Any) -> t.EmbeddingRequest:
    return msgspec.convert({"model": "m", "input": "x", **fields}, t.EmbeddingRequest)


def test_vectors_come_as_numbers_or_base64_and_shorter_ones_have_length_one() -> None:
    vectors = Vectors(array("f", [0.6, 0.8, 0.0, 0.0, 0.6, 0.8]).tobytes(), 3, 4)
    numbers = embeddings.rendered(embedding(), "m", vectors)
    assert [row.index for row in numbers.data] == [0, 1]
    assert numbers.data[0].embedding == pytest.approx([0.6, 0.8, 0.0])
    coded = embeddings.rendered(embedding(encoding_format="base64", dimensions=2), "m", vectors)
    assert isinstance(coded.data[1].embedding, str)
    assert array("f", base64.b64decode(coded.data[1].embedding)).tolist() == [0.0, 1.0]
    assert coded.usage.total_tokens == 4
    with pytest.raises(http.BadField, match="have 3"):
        embeddings.rendered(embedding(dimensions=4), "m", vectors)


@pytest.mark.parametrize(
    ("sent", "taken"),
    [
        ("text", ("text",)),
        (["a", "b"], ("a", "b")),
        ([1, 2], ((1, 2),)),
        ([[1], [2, 3]], ((1,), (2, 3))),
    ],
)
def test_inputs_are_texts_or_tokens(sent: Any, taken: tuple[object, ...]) -> None:
    assert embeddings.inputs(sent) == taken


@pytest.mark.parametrize("sent", [["a", 1], [[]], [-1]])
def test_other_inputs_are_refused(sent: Any) -> None:
    with pytest.raises(http.BadField):
        embeddings.inputs(sent)


def test_fields_of_other_servers_reach_the_sampler() -> None:
    params = convert.chat_params(
        chat_request(
            top_k=-1,
            min_p=0.2,
            typical_p=0.9,
            repetition_penalty=1.2,
            ignore_eos=True,
            min_tokens=3,
            logit_bias={"7": 2},
            stop="END",
            seed=-1,
            logprobs=True,
            response_format={"type": "json_object"},
        )
    )
    assert (params.top_k, params.min_p, params.typical_p) == (0, 0.2, 0.9)
    assert (params.repeat_penalty, params.ignore_eos, params.min_tokens) == (1.2, True, 3)
    assert (params.logit_bias, params.stop, params.seed) == (((7, 2.0),), ("END",), None)
    assert (params.top_logprobs, params.json_schema) == (0, {"type": "object"})


def test_choices_have_seeds_of_their_own() -> None:
    params = convert.chat_params(chat_request(seed=5))
    assert [one.seed for one in convert.choices(params, 3)] == [5, 6, 7]


def test_a_tool_message_knows_which_tool_it_answers() -> None:
    sent = [
        {"role": "developer", "content": "d"},
        {
            "role": "assistant",
            "tool_calls": [{"id": "c", "function": {"name": "weather", "arguments": "{}"}}],
        },
        {"role": "tool", "tool_call_id": "c", "content": "rain"},
    ]
    made = convert.messages(msgspec.convert(sent, list[t.MessageIn]))
    assert [message.role for message in made] == ["system", "assistant", "tool"]
    assert made[1].tool_calls == (ToolCall("c", "weather", "{}"),)
    assert made[2].tool_name == "weather"


def test_reasoning_is_switched_off_by_no_effort() -> None:
    assert convert.chat_options(chat_request(reasoning_effort="none")).think is False
    assert convert.chat_options(chat_request(reasoning_effort="high")).think is True
    assert convert.chat_options(chat_request()).think is None


def test_a_reader_tells_reasoning_text_and_the_first_call_apart() -> None:
    answer = an_answer()
    answer.feed.syntax = OutputSyntax("<think>", "</think>", "hermes")
    call = '<tool_call>{"name": "weather", "arguments": {}}</tool_call>'
    reader = Reader(answer, tools=True, one_call=True)
    texts = ["<think>h", "m</think>", "Let me see. ", call, call]
    whole = joined([*[reader.push(Piece(text)) for text in texts], reader.finish()])
    assert (whole.reasoning, whole.content.strip()) == ("hm", "Let me see.")
    assert [one.name for one in whole.calls] == ["weather"]
    assert reader.finish_reason("stop") == "tool_calls"
    plain = Reader(answer, tools=False)
    assert call in joined([plain.push(Piece("ok " + call)), plain.finish()]).content
