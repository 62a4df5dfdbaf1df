"""How the API encodes model output, for cases that no running model produces."""

from __future__ import annotations

import asyncio
import base64
import json
import math
from array import array
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from django.http import HttpResponse, HttpResponseBase

from chatsite.accounts.keys import Caller
from chatsite.accounts.models import User
from chatsite.api.core import http, progress
from chatsite.api.core.documents import Citation
from chatsite.api.core.fan_out import Answers, GenerationRequest
from chatsite.api.core.parts import PartReader, Parts, joined
from chatsite.api.core.requests import Answer, TextChunk
from chatsite.api.core.streaming import DONE
from chatsite.api.ollama import answers, generate, types
from chatsite.api.openai import (
    chat,
    completions,
    convert,
    embeddings,
    response_events,
    responses,
    tokens,
)
from chatsite.api.openai import responses_types as r
from chatsite.api.openai import types as t
from chatsite.api.openai.response_events import Writer
from chatsite.engine.contract.messages import (
    OutputSyntax,
    PromptOptions,
    TokenLogprob,
    Tool,
    ToolCall,
)
from chatsite.stream.entries import End, Vectors
from chatsite.stream.hub import GenerationFeed

CALL = ToolCall("call_1", "weather", '{"city":"Bern"}')
PROBABLE = TokenLogprob(5, b"\xc3\xa9", -0.5, ((5, b"\xc3\xa9", -0.5), (6, b"e", -1.5)))


def an_answer() -> Answer:
    return Answer(
        "id", "tiny:latest", "ab" * 32, 0, 1.0, Caller(User()), GenerationFeed("id", "tiny")
    )


def chat_request(**fields: Any) -> t.ChatRequest:
    body = {"model": "m", "messages": [{"role": "user", "content": "x"}], **fields}
    return msgspec.convert(body, t.ChatRequest)


def a_response() -> r.Response:
    return r.Response(
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


def events(sent: bytes) -> list[dict[str, Any]]:
    return [
        json.loads(line.partition("data: ")[2])
        for line in sent.decode().splitlines()
        if line.startswith("data: ")
    ]


USAGE = {"prompt_tokens": 2, "completion_tokens": 3, "reasoning_tokens": 1}


def test_reasoning_and_calls_are_separate_chunks() -> None:
    answer = an_answer()
    answer.feed.syntax = OutputSyntax("<think>", "</think>", "hermes")
    tool = {"type": "function", "function": {"name": "weather"}}
    chunks = chat.Chunks(chat_request(logprobs=True, tools=[tool]), Answers((answer,)))
    text = '<think>hm</think>é<tool_call>{"name": "weather", "arguments": {}}</tool_call>'
    sent = [event["choices"][0] for event in events(chunks.piece(0, TextChunk(text, (PROBABLE,))))]
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


@pytest.mark.parametrize(
    ("ended", "told"),
    [
        *(("stop", "stop"), ("cancelled", "stop")),
        *((reason, "length") for reason in ("length", "repetition", "administrator")),
    ],
)
def test_page_8_clients_get_standard_finish_reasons(ended: str, told: str) -> None:
    assert chat.finish_reason(ended) == completions.reason_of(End("done", ended)) == told
    incomplete = b"response.incomplete" in Writer(a_response()).end(End("done", ended))
    assert incomplete == (told == "length")


def test_page_8_a_program_may_have_repetition_stopped() -> None:
    assert not convert.chat_params(chat_request()).stop_repetition
    assert convert.chat_params(chat_request(stop_repetition=True)).stop_repetition


def test_a_whole_answer_has_reasoning_in_both_spellings() -> None:
    choice = chat.choice_of(chat_request(), 0, Parts("hm", "", (CALL,)), "tool_calls")
    message = msgspec.to_builtins(choice)["message"]
    assert message["reasoning_content"] == message["reasoning"] == "hm"
    assert message["content"] is None
    assert message["tool_calls"][0]["function"]["name"] == "weather"


def test_responses_write_reasoning_text_and_calls_in_their_order() -> None:
    writer = Writer(a_response())
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
    _head, found = embeddings.rendered(embedding(), "m", vectors)
    numbers = list(found)
    assert [row.index for row in numbers] == [0, 1]
    assert numbers[0].embedding == pytest.approx([0.6, 0.8, 0.0])
    wanted = embedding(encoding_format="base64", dimensions=2)
    head, coded = embeddings.rendered(wanted, "m", vectors)
    *_first, last = coded
    assert isinstance(last.embedding, str)
    assert array("f", base64.b64decode(last.embedding)).tolist() == [0.0, 1.0]
    assert head.usage.total_tokens == 4
    with pytest.raises(http.BadField, match="have 3"):
        embeddings.rendered(embedding(dimensions=4), "m", vectors)


def many_vectors(count: int, size: int) -> Vectors:
    row = array("f", [1 / math.sqrt(size)] * size).tobytes()
    return Vectors(row * count, size, count)


async def body_of(response: HttpResponseBase) -> tuple[bytes, list[int]]:
    """Return a streamed body, and the turns that another task had before each of its pieces."""
    turns = 0

    async def neighbour() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(neighbour())
    seen, body = [], b""
    assert isinstance(response, http.Stream)
    async for piece in response:
        seen.append(turns)
        body += piece
    task.cancel()
    return body, seen


@pytest.mark.parametrize("fields", [{}, {"encoding_format": "base64"}, {"dimensions": 255}])
async def test_many_vectors_are_encoded_in_pieces_between_which_other_tasks_run(
    fields: dict[str, Any],
) -> None:
    vectors = many_vectors(800, 256)
    head, data = embeddings.rendered(embedding(**fields), 'm"data":[]', vectors)
    made = 0

    def counted() -> Iterator[t.Embedding]:
        nonlocal made
        for item in data:
            made += 1
            yield item

    response = http.answer_lists(head, {"data": counted()}, 3)
    assert made * 256 < 50_000  # numbers: only the first pieces
    assert response["X-Queue-Position"] == "3"
    body, turns = await body_of(response)
    again, data = embeddings.rendered(embedding(**fields), 'm"data":[]', vectors)
    assert body == http.encode(msgspec.structs.replace(again, data=list(data)))
    assert len(turns) >= len(body) // (2 * http.PIECE_BYTES)
    assert turns[2:] == sorted(set(turns[2:]))


def test_pieces_are_bounded_and_together_what_one_encoding_gives() -> None:
    head = tokens.Tokens([], 50_000, 4096, [])
    ids, texts = list(range(50_000)), ['"token_strs":['] * 50_000
    pieces = list(http.list_pieces(head, {"tokens": ids, "token_strs": texts}))
    assert b"".join(pieces) == http.encode(tokens.Tokens(ids, 50_000, 4096, texts))
    assert max(map(len, pieces)) <= http.PIECE_BYTES + 100
    assert list(http.list_pieces(head, {"tokens": [], "token_strs": []})) == [http.encode(head)]


def test_a_short_list_is_answered_in_one_with_its_length() -> None:
    vectors = many_vectors(2, 16)
    head, data = embeddings.rendered(embedding(), "m", vectors)
    response = http.answer_lists(head, {"data": data})
    assert isinstance(response, HttpResponse)
    assert len(json.loads(response.content)["data"]) == 2


@pytest.mark.parametrize(
    ("sent", "taken"),
    [
        ("text", ("text",)),
        (["a", "b"], ("a", "b")),
        ([1, 2], ((1, 2),)),
        ([[1], [2, 3]], ((1,), (2, 3))),
        ([12, "a", 3], ((12, "a", 3),)),
        (["a", [1, "b"]], ("a", (1, "b"))),
        ({"content": "a"}, ("a",)),
        ([{"prompt_string": "a"}, {"content": "b"}], ("a", "b")),
        ([1, {"content": "b"}], ((1, "b"),)),
        (["a", ""], ("a", "")),
    ],
)
def test_d10_d18_prompts_are_texts_tokens_or_both(sent: Any, taken: tuple[object, ...]) -> None:
    for kind, field in ((t.EmbeddingRequest, "input"), (t.CompletionRequest, "prompt")):
        body = msgspec.convert({"model": "m", field: sent}, kind)
        assert tuple(convert.prompts(getattr(body, field), field)) == taken


@pytest.mark.parametrize("sent", [[[]], [-1], [2**31], [{}], [1, [2]], [{"other": "a"}]])
def test_d10_d18_other_prompts_are_refused(sent: Any) -> None:
    body = msgspec.convert({"model": "m", "input": sent}, t.EmbeddingRequest)
    with pytest.raises(http.BadField) as refused:
        convert.prompts(body.input, "input")
    assert refused.value.details["param"] == "input"


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


def test_choices_have_separate_seeds() -> None:
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


def test_a_reader_separates_reasoning_text_and_the_first_call() -> None:
    answer = an_answer()
    answer.feed.syntax = OutputSyntax("<think>", "</think>", "hermes")
    call = '<tool_call>{"name": "weather", "arguments": {}}</tool_call>'
    reader = PartReader(answer, tools=True, one_call=True)
    texts = ["<think>h", "m</think>", "Let me see. ", call, call]
    whole = joined([*[reader.push(TextChunk(text)) for text in texts], reader.finish()])
    assert (whole.reasoning, whole.content.strip()) == ("hm", "Let me see.")
    assert [one.name for one in whole.calls] == ["weather"]
    assert reader.finish_reason("stop") == "tool_calls"
    plain = PartReader(answer, tools=False)
    assert call in joined([plain.push(TextChunk("ok " + call)), plain.finish()]).content


def test_d8_responses_have_the_log_probabilities_of_the_message() -> None:
    opening = r.Response(
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
    thought, first, second = (TokenLogprob(n, b"ab"[:n], -n) for n in (1, 2, 1))
    parts = [
        Parts("a", logprobs=(thought,)),
        Parts(content="ab", logprobs=(first,)),
        Parts(logprobs=(second,)),
        Parts(content="a"),
        Parts(logprobs=(PROBABLE,)),
    ]
    writer = Writer(opening, with_logprobs=True)
    sent = events(b"".join(map(writer.parts, parts)) + writer.end(End("done", "stop")))
    deltas = [one["logprobs"] for one in sent if one["type"] == "response.output_text.delta"]
    assert [[one["logprob"] for one in found] for found in deltas] == [[-2], [-1]]
    message = writer.response.output[1]["content"][0]
    assert [one.token for one in message["logprobs"]] == ["ab", "a", "é"]
    assert message["logprobs"][2].top_logprobs[1].token == "e"
    done = next(one for one in sent if one["type"] == "response.output_text.done")
    assert len(done["logprobs"]) == 3
    assert writer.response.output[0]["type"] == "reasoning"
    plain = Writer(opening)
    plain.parts(Parts(content="ab", logprobs=(first,)))
    plain.end(End("done", "stop"))
    assert plain.response.output[0]["content"][0]["logprobs"] == []


def test_d8_text_after_reasoning_in_one_piece_has_its_own_log_probabilities() -> None:
    tokens = (TokenLogprob(1, b"hm", -1), TokenLogprob(2, b"so", -2), TokenLogprob(3, b" it", -3))
    assert response_events.last_of(list(tokens), "so it") == list(tokens[1:])
    assert response_events.last_of(list(tokens), "") == []


ENDED = End(
    "done",
    "stop",
    usage={"prompt_tokens": 12, "cached_tokens": 2, "completion_tokens": 6},
    timings={"total": 150.0, "prefill": 20.0, "decode": 100.0},
)


def test_d19_timings_have_the_names_of_llama_server_beside_ours() -> None:
    assert progress.timings(ENDED) == {
        "total": 150.0,
        "prefill": 20.0,
        "decode": 100.0,
        "cache_n": 2,
        "prompt_n": 10,
        "prompt_ms": 20.0,
        "prompt_per_token_ms": 2.0,
        "prompt_per_second": 500.0,
        "predicted_n": 6,
        "predicted_ms": 100.0,
        "predicted_per_token_ms": pytest.approx(16.667),
        "predicted_per_second": 60.0,
    }
    assert progress.timings(End("done"))["predicted_per_second"] == 0


@pytest.mark.parametrize("usage", [False, True])
def test_d19_the_last_chunk_of_a_stream_has_timings(usage: bool) -> None:
    body = chat_request(stream_options={"include_usage": usage})
    chunks = chat.Chunks(body, Answers((an_answer(),)))
    chunks.piece(0, TextChunk("text"))
    *_others, last = events(chunks.end(0, ENDED).removesuffix(b"data: [DONE]\n\n"))
    assert last["timings"]["predicted_per_second"] == 60.0
    assert last["choices"] == [] if usage else last["choices"][0]["finish_reason"] == "stop"


CITATION = Citation(1, "d", "pump.pdf", 3, 3, "", 7, 9, "40")


@pytest.mark.parametrize("usage", [False, True])
def test_the_last_chunk_of_a_stream_has_the_citations(usage: bool) -> None:
    body = chat_request(stream_options={"include_usage": usage}, collections=["Manuals"])
    chunks = chat.Chunks(body, Answers((an_answer(),)), [CITATION])
    first = events(chunks.piece(0, TextChunk("text")))
    *others, last = events(chunks.end(0, ENDED).removesuffix(b"data: [DONE]\n\n"))
    assert last["citations"] == [msgspec.to_builtins(CITATION)]
    assert not any("citations" in one for one in (*first, *others))


@pytest.mark.parametrize("found", [None, [], [CITATION]])
def test_other_forms_of_answers_have_citations_if_they_were_requested(
    found: list[Citation] | None,
) -> None:
    expected = {} if found is None else {"citations": msgspec.to_builtins(found)}
    body = msgspec.convert({"model": "m", "input": "x"}, r.ResponseRequest)
    response = responses.Events(body, Answers((an_answer(),)), found).response
    shape = msgspec.to_builtins(response)
    assert {name: shape[name] for name in shape if name == "citations"} == expected
    lines = answers.Chatted("m", GenerationRequest("m"), Answers((an_answer(),)), found)
    assert "citations" not in json.loads(lines.piece(0, TextChunk("x")))
    last = json.loads(lines.end(0, ENDED))
    assert {name: last[name] for name in last if name == "citations"} == expected


def test_d19_progress_and_timings_come_while_an_answer_is_written() -> None:
    answer = an_answer()
    body = chat_request(return_progress=True, timings_per_token=True)
    chunks = chat.Chunks(body, Answers((answer,)))
    answer.feed.prompt = (12, 2)
    [begun] = events(chunks.piece(0, TextChunk("")))
    assert begun["choices"] == []
    assert {**begun["prompt_progress"], "time_ms": 0} == {
        "total": 12,
        "cache": 2,
        "processed": 2,
        "time_ms": 0,
    }
    answer.feed.tokens = 1
    done, text = events(chunks.piece(0, TextChunk("one")))
    assert done["prompt_progress"]["processed"] == 12
    assert text["choices"][0]["delta"] == {"content": "one"}
    assert (text["timings"]["prompt_n"], text["timings"]["predicted_n"]) == (10, 1)
    plain = chat.Chunks(chat_request(), Answers((answer,)))
    [text] = events(plain.piece(0, TextChunk("one")))
    assert "timings" not in text


def test_t09_parts_of_text_do_not_run_together() -> None:
    parts = [{"type": "text", "text": "Hello"}, {"type": "text", "text": "world"}]
    made = convert.messages(chat_request(messages=[{"role": "user", "content": parts}]).messages)
    assert made[0].content == "Hello\nworld"


BEGUN = [{"role": "user", "content": "Count."}, {"role": "assistant", "content": "one, two,"}]


@pytest.mark.parametrize(
    "fields",
    [
        {"continue_final_message": True, "add_generation_prompt": False},
        {"continue_final_message": True},
        {"messages": [BEGUN[0], {**BEGUN[1], "prefix": True}]},
    ],
)
def test_d4_a_last_answer_is_continued_on_request(fields: dict[str, Any]) -> None:
    assert convert.chat_options(chat_request(**{"messages": BEGUN, **fields})).continue_final


def test_d4_otherwise_it_is_not() -> None:
    assert not convert.chat_options(chat_request(messages=BEGUN)).continue_final


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        (
            {"continue_final_message": True, "add_generation_prompt": True},
            "continue_final_message",
        ),
        ({"add_generation_prompt": False}, "add_generation_prompt"),
        ({"continue_final_message": True, "messages": BEGUN[:1]}, "messages"),
        (
            {"messages": [BEGUN[0], {**BEGUN[1], "prefix": True}, BEGUN[0]]},
            "messages[1].prefix",
        ),
        ({"messages": [{**BEGUN[0], "prefix": True}]}, "messages[0].prefix"),
    ],
)
def test_d4_an_invalid_continuation_is_refused(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(http.BadField) as refused:
        convert.chat_options(chat_request(**{"messages": BEGUN, **fields}))
    assert refused.value.details["param"] == param


def test_t40_reasoning_effort_reaches_the_template() -> None:
    high = convert.chat_options(chat_request(reasoning_effort="high"))
    assert (high.think, high.effort) == (True, "high")
    none = convert.chat_options(chat_request(reasoning_effort="none"))
    assert (none.think, none.effort) == (False, "")
    given = {"chat_template_kwargs": {"reasoning_effort": "low", "thinking": True}}
    low = convert.chat_options(chat_request(**given))
    assert (low.think, low.effort) == (True, "low")


def test_t40_ollamas_words_for_thinking_reach_the_template() -> None:
    asked = generate.options_of(
        msgspec.convert({"model": "m", "messages": [], "think": "high"}, types.Chat)
    )
    assert (asked.think, asked.effort) == (True, "high")


TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]
FLAT = [{"type": "function", "name": "weather", "parameters": {"type": "object"}}]
CUT = '<tool_call>\n{"name": "weather", "arguments": {"city": "Be'
LIMIT = End("done", finish_reason="length")


@pytest.mark.parametrize(("text", "arguments"), [(CUT, '{"city": "Be'), (CUT[:14], "")])
def test_d5_a_forced_call_that_was_cut_is_a_call(text: str, arguments: str) -> None:
    answer = an_answer()
    answer.feed.syntax = OutputSyntax(tools="hermes")
    body = chat_request(tools=TOOLS, tool_choice="required")
    # Streamed.
    chunks = chat.Chunks(body, Answers((answer,)))
    sent = [
        event["choices"][0]
        for event in events(
            chunks.piece(0, TextChunk(text)) + chunks.end(0, LIMIT).removesuffix(DONE)
        )
    ]
    assert not any(choice["delta"].get("content") for choice in sent)
    [call] = sent[0]["delta"]["tool_calls"]
    assert call["function"] == {"name": "weather", "arguments": arguments}
    assert sent[-1]["finish_reason"] == "length"
    # In one piece.
    [reader] = chat.readers_of(body, [answer])
    whole = joined([reader.push(TextChunk(text)), reader.finish("length")])
    choice = chat.choice_of(body, 0, whole, reader.finish_reason("length"))
    assert choice.finish_reason == "length"
    assert choice.message.content is None
    assert choice.message.tool_calls
    assert choice.message.tool_calls[0].function == t.Function("weather", arguments)


def test_d5_responses_call_it_incomplete() -> None:
    answer = an_answer()
    answer.feed.syntax = OutputSyntax(tools="hermes")
    body = msgspec.convert(
        {"model": "m", "input": "x", "tools": FLAT, "tool_choice": "required"}, r.ResponseRequest
    )
    made = responses.Events(body, Answers((answer,)))
    made.piece(0, TextChunk(CUT))
    made.end(0, LIMIT)
    [item] = made.response.output
    assert (item["type"], item["name"], item["arguments"], item["status"]) == (
        "function_call",
        "weather",
        '{"city": "Be',
        "incomplete",
    )
    assert made.response.status == "incomplete"


def test_d5_ollama_gets_the_partial_arguments_object() -> None:
    answer = an_answer()
    answer.feed.syntax = OutputSyntax(tools="hermes")
    tool = Tool("weather", "", {"type": "object"})
    wanted = GenerationRequest("m", (), options=PromptOptions(tools=(tool,)))
    lines = answers.Chatted("m", wanted, Answers((answer,)))
    assert lines.piece(0, TextChunk(CUT)) == b""
    last = json.loads(lines.end(0, LIMIT))
    assert last["message"]["content"] == ""
    assert last["message"]["tool_calls"][0]["function"]["arguments"] == {"city": "Be"}
    assert last["done_reason"] == "length"


def test_reasoning_items_belong_to_the_next_call() -> None:
    body = msgspec.convert(
        {
            "model": "m",
            "input": [
                {"role": "user", "content": "x"},
                {"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}]},
                {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
                {"type": "function_call_output", "call_id": "c", "output": "1"},
            ],
        },
        r.ResponseRequest,
    )
    assert [one.reasoning for one in responses.messages_of(body)] == ["", "hm", ""]
