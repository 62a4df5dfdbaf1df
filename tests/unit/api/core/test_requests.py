"""Variants of OpenAI's documented requests, as they reach the engine."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from django.test import RequestFactory

from chatsite.api.core import foreign, http, parts
from chatsite.api.core.fan_out import failure
from chatsite.api.openai import convert, responses
from chatsite.api.openai import responses_types as r
from chatsite.api.openai import types as t
from chatsite.engine.contract.messages import PromptOptions, SamplingParams
from chatsite.engine.grammar.token_grammar import automaton_of
from chatsite.errors import localise
from chatsite.stream.entries import End

_chat = msgspec.json.Decoder(t.ChatRequest)
_responses = msgspec.json.Decoder(r.ResponseRequest)


def read_body(data: bytes, decoder: msgspec.json.Decoder[Any]) -> Any:
    """Decode ``data`` as `http.endpoint` does once it has read a request's body."""
    request: Any = RequestFactory().post("/v1/chat/completions")
    request.taken, request.release = data, None
    return http.body(request, decoder)


def chat(**fields: Any) -> t.ChatRequest:
    sent = {"model": "m", "messages": [{"role": "user", "content": "x"}], **fields}
    return read_body(json.dumps(sent).encode(), _chat)


def params(**fields: Any) -> SamplingParams:
    return convert.chat_params(chat(**fields))


def options(**fields: Any) -> PromptOptions:
    return convert.chat_options(chat(**fields))


def tools(*names: str) -> list[dict[str, Any]]:
    return [{"type": "function", "function": {"name": name}} for name in names]


def allows(params: SamplingParams, text: str) -> bool:
    automaton = automaton_of(params)
    assert automaton
    state = automaton.walk(automaton.start, text)
    return state is not None and state.may_end


# T08, D9: tool_choice.

NESTED = {"type": "function", "function": {"name": "time"}}
FLAT = {"type": "function", "name": "time"}


@pytest.mark.parametrize(
    ("choice", "chosen", "told"),
    [
        (None, "auto", 2),
        ("", "auto", 2),
        ("auto", "auto", 2),
        ("none", "none", 2),
        ("required", "required", 2),
        ("any", "required", 2),
        ("time", "time", 2),
        ({"type": "auto"}, "auto", 2),
        ({"type": "none"}, "none", 2),
        ({"type": "any"}, "required", 2),
        ({"type": "required"}, "required", 2),
        (NESTED, "time", 2),
        (FLAT, "time", 2),
        ({"function": {"name": "time"}}, "time", 2),
        ({"type": "tool", "name": "time"}, "time", 2),
        (
            {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [NESTED]}},
            "auto",
            1,
        ),
        (
            {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [NESTED]}},
            "required",
            1,
        ),
        ({"type": "allowed_tools", "mode": "required", "tools": [FLAT]}, "required", 1),
    ],
)
def test_t08_every_form_of_tool_choice_is_read(choice: Any, chosen: str, told: int) -> None:
    for found in (
        options(tools=tools("time", "weather"), tool_choice=choice),
        responses.wanted_of(
            msgspec.convert(
                {
                    "model": "m",
                    "input": "x",
                    "tools": [{"type": "function", "name": n} for n in ("time", "weather")],
                    "tool_choice": choice,
                },
                r.ResponseRequest,
            )
        ).options,
    ):
        assert (found.tool_choice, len(found.tools)) == (chosen, told)


@pytest.mark.parametrize(
    "choice",
    [
        "nonsense",
        {"type": "function", "function": {"name": "other"}},
        {"type": "function"},
        {"type": "file_search"},
        {"type": "custom", "custom": {"name": "time"}},
        {"type": "allowed_tools", "tools": []},
        {"type": "allowed_tools", "mode": "none", "tools": [FLAT]},
        {"type": "allowed_tools", "tools": [{"type": "function", "name": "other"}]},
    ],
)
def test_t08_a_choice_of_a_missing_tool_is_refused(choice: Any) -> None:
    with pytest.raises(http.BadField) as refused:
        options(tools=tools("time"), tool_choice=choice)
    assert refused.value.details["param"] == "tool_choice"


@pytest.mark.parametrize("choice", ["none", {"type": "none"}])
def test_t08_an_answer_without_a_choice_of_tools_has_no_calls(choice: Any) -> None:
    asked = options(tools=tools("time"), tool_choice=choice)
    assert not parts.called(asked)["tools"]
    assert parts.called(options(tools=tools("time")))["tools"]


# T11: arguments.


@pytest.mark.parametrize(
    ("sent", "text"),
    [
        ({"city": "Oslo"}, '{"city":"Oslo"}'),
        ('{"city": "Oslo"}', '{"city": "Oslo"}'),
        ({}, "{}"),
        (None, "{}"),
        ("", "{}"),
        (["Oslo"], '["Oslo"]'),
        ({"n": 1.5}, '{"n":1.5}'),
    ],
)
def test_t11_arguments_may_be_the_value_itself(sent: Any, text: str) -> None:
    call = {"id": "c", "function": {"name": "weather", "arguments": sent}}
    body = chat(messages=[{"role": "assistant", "tool_calls": [call]}])
    assert convert.messages(body.messages)[0].tool_calls[0].arguments == text
    item = {"type": "function_call", "call_id": "c", "name": "weather", "arguments": sent}
    request = msgspec.convert({"model": "m", "input": [item]}, r.ResponseRequest)
    assert responses.wanted_of(request).messages[0].tool_calls[0].arguments == text


# T14: numbers.


def test_t14_integers_may_be_written_as_floats() -> None:
    found = params(
        max_tokens=5.0,
        seed=7.0,
        top_k=40.0,
        n=1.0,
        min_tokens=2.0,
        stop_token_ids=[3.0],
        logprobs=True,
        top_logprobs=2.0,
        temperature=0.5,
    )
    assert (found.max_tokens, found.seed, found.top_k, found.min_tokens) == (5, 7, 40, 2)
    assert (found.stop_tokens, found.top_logprobs, found.temperature) == ((3,), 2, 0.5)


@pytest.mark.parametrize("field", ["max_tokens", "seed", "n"])
def test_t14_fractions_are_no_integers(field: str) -> None:
    with pytest.raises(http.BadField) as refused:
        chat(**{field: 5.5})
    assert refused.value.details["param"] == field


@pytest.mark.parametrize(
    ("seed", "used"),
    [(0, 0), (2**32 - 1, 0), (2**40, 2**40 % (2**32 - 1)), (10**30, 10**30 % (2**32 - 1))],
)
def test_t14_a_seed_may_have_any_size(seed: int, used: int) -> None:
    assert params(seed=seed).seed == used
    assert params(seed=-seed - 1).seed is None


# T15: logit_bias.


@pytest.mark.parametrize(
    ("sent", "pairs"),
    [
        ([], ()),
        ({}, ()),
        ([[1, -100]], ((1, -100.0),)),
        ([["1", "2.5"], [2, False]], ((1, 2.5), (2, -100.0))),
        ({"7": "-1.5", "8": 3}, ((7, -1.5), (8, 3.0))),
    ],
)
def test_t15_biases_come_as_an_object_or_as_pairs(sent: Any, pairs: Any) -> None:
    assert params(logit_bias=sent).logit_bias == pairs


@pytest.mark.parametrize(
    "sent", [[[1]], [["word", 1]], {"word": 1}, {"1": "much"}, {"1": 101}, [[-1, 1]], [1, 2]]
)
def test_t15_other_biases_are_refused(sent: Any) -> None:
    with pytest.raises(http.BadField) as refused:
        params(logit_bias=sent)
    assert str(refused.value.details["param"]).startswith("logit_bias")


# T23: effort.


@pytest.mark.parametrize(
    ("effort", "think"),
    [
        ("auto", None),
        ("", None),
        (None, None),
        ("none", False),
        ("low", True),
        ("High", True),
        ("minimal", True),
        ("xhigh", True),
    ],
)
def test_t23_every_effort_is_read(effort: Any, think: bool | None) -> None:
    assert options(reasoning_effort=effort).think is think
    body = {"model": "m", "input": "x", "reasoning": {"effort": effort}}
    assert responses.wanted_of(msgspec.convert(body, r.ResponseRequest)).options.think is think


def test_t23_an_unknown_effort_is_refused_by_name() -> None:
    with pytest.raises(http.BadField) as refused:
        options(reasoning_effort="lots")
    assert refused.value.details["param"] == "reasoning_effort"


# D3: a prompt that is too long.


@pytest.mark.parametrize("param", ["messages", "prompt", "input"])
def test_d3_clients_recognise_a_context_overflow(param: str) -> None:
    end = End(
        "failed",
        error={"code": "context_length_exceeded", "prompt_tokens": 9031, "context": 4096},
    )
    body = http.error_body(failure(end, param))["error"]
    assert (body["param"], body["code"]) == (param, "context_length_exceeded")
    assert (body["n_prompt_tokens"], body["n_ctx"]) == (9031, 4096)
    text = body["message"]
    # The texts that LangChain, LiteLLM and Ollama's own tests match.
    assert "context_length_exceeded" in text
    assert "prompt is too long" in text
    assert "this model's maximum context length is 4096 tokens" in text.lower()
    assert "input length exceeds the context length" in text
    assert f"your {param} resulted in 9031 tokens" in text


def test_d3_the_page_keeps_its_own_words() -> None:
    shown = localise({"code": "context_length_exceeded", "prompt_tokens": 9, "context": 4})
    assert shown
    assert "start a new chat" in shown["message"]


# D7: constraints of other servers.

PERSON = {"type": "object", "properties": {"age": {"type": "integer"}}, "required": ["age"]}
GOOD = '{"age": 5}'


@pytest.mark.parametrize(
    "sent",
    [
        {"guided_json": PERSON},
        {"guided_json": json.dumps(PERSON)},
        {"structured_outputs": {"json": PERSON}},
        {"structured_outputs": {"json": json.dumps(PERSON)}},
        {"json_schema": json.dumps(PERSON)},
        {"format": PERSON},
        {"response_format": {"type": "json", "value": PERSON}},
    ],
)
def test_d7_a_schema_is_kept_to_under_every_name(sent: Any) -> None:
    found = params(**sent)
    assert found.json_schema == PERSON
    assert allows(found, GOOD)
    assert not allows(found, '{"age": "old"}')


@pytest.mark.parametrize(
    "sent",
    [
        {"guided_json_object": True},
        {"structured_outputs": {"json_object": True}},
        {"format": "json"},
    ],
)
def test_d7_any_object_is_kept_to_under_every_name(sent: Any) -> None:
    assert params(**sent).json_schema == {"type": "object"}


@pytest.mark.parametrize(
    "sent",
    [
        {"guided_choice": ["yes", 'no "not"', "köö\n"]},
        {"structured_outputs": {"choice": ["yes", 'no "not"', "köö\n"]}},
    ],
)
def test_d7_a_choice_is_one_of_the_texts(sent: Any) -> None:
    found = params(**sent)
    assert all(allows(found, text) for text in ("yes", 'no "not"', "köö\n"))
    assert not any(allows(found, text) for text in ("ye", "yes ", "maybe", '"yes"'))


@pytest.mark.parametrize(
    "sent",
    [
        {"guided_regex": r"\d{3}-[a-cé]+|x"},
        {"structured_outputs": {"regex": r"^\d{3}-[a-cé]+$|^x$"}},
        {"regex": r"\d{3}-[a-cé]+|x"},
        {"response_format": {"type": "regex", "value": r"\d{3}-[a-cé]+|x"}},
    ],
)
def test_d7_a_regular_expression_matches_the_whole_answer(sent: Any) -> None:
    found = params(**sent)
    assert all(allows(found, text) for text in ("123-abc", "000-é", "x"))
    assert not any(allows(found, text) for text in ("12-abc", "123-", "123-abcd", "xx", '"x"'))


def test_d7_a_regular_expression_may_have_what_json_escapes() -> None:
    found = params(guided_regex=r'"[^"\\]*"\n')
    assert allows(found, '"a\tb"\n')
    assert not allows(found, '"a\\b"\n')


@pytest.mark.parametrize("name", ["grammar", "guided_grammar", "ebnf"])
def test_d7_a_grammar_is_kept_to_under_every_name(name: str) -> None:
    found = params(**{name: 'root ::= "a" | "b"'})
    assert allows(found, "a")
    assert not allows(found, "c")


@pytest.mark.parametrize(
    ("sent", "param"),
    [
        ({"guided_json": "no json"}, "guided_json"),
        ({"guided_json": "[1]"}, "guided_json"),
        ({"guided_choice": []}, "guided_choice"),
        ({"guided_choice": [""]}, "guided_choice"),
        ({"guided_regex": "(a"}, "guided_regex"),
        ({"guided_regex": "a(?=b)"}, "guided_regex"),
        ({"structured_outputs": {"regex": "[a"}}, "structured_outputs.regex"),
        ({"structured_outputs": {"structural_tag": "{}"}}, "structured_outputs.structural_tag"),
        ({"format": "yaml"}, "format"),
        ({"format": 5}, "format"),
        ({"guided_choice": ["a"], "guided_regex": "a|b"}, "guided_regex"),
        ({"response_format": {"type": "json_object"}, "grammar": 'root ::= "a"'}, "grammar"),
        ({"response_format": {"type": "regex"}}, "response_format.value"),
    ],
)
def test_d7_constraints_that_make_no_sense_are_refused_by_name(sent: Any, param: str) -> None:
    with pytest.raises(http.BadField) as refused:
        params(**sent)
    assert refused.value.details["param"] == param


def test_d7_the_same_constraint_twice_is_one() -> None:
    wanted = {"type": "json_schema", "json_schema": {"name": "p", "schema": PERSON}}
    assert params(response_format=wanted, guided_json=PERSON).json_schema == PERSON


REFUSED: dict[str, Any] = {
    "bad_words": ["fool"],
    "allowed_token_ids": [1, 2],
    "include_stop_str_in_output": True,
    "use_beam_search": True,
    "prompt_logprobs": 0,
    "truncate_prompt_tokens": 10,
    "documents": [{"text": "x"}],
    "chat_template": "{{ messages }}",
    "structural_tag": "{}",
    "mirostat": 2,
    "dry_multiplier": 0.8,
    "xtc_probability": 0.5,
    "top_n_sigma": 1.0,
    "t_max_predict_ms": 500,
    "n_probs": 3,
    "lora": [{"id": 0, "scale": 1}],
    "stop_regex": "a+",
    "watermark": True,
}


@pytest.mark.parametrize("name", REFUSED)
def test_d7_unsupported_fields_are_refused_by_name(name: str) -> None:
    for make in (
        lambda: params(**{name: REFUSED[name]}),
        lambda: responses.wanted_of(
            msgspec.convert({"model": "m", "input": "x", name: REFUSED[name]}, r.ResponseRequest)
        ),
    ):
        with pytest.raises(http.BadField) as refused:
            make()
        assert refused.value.details["param"] == name


def test_d7_fields_that_are_switched_off_are_accepted() -> None:
    off: dict[str, Any] = dict.fromkeys(foreign.REFUSED)
    assert params(**off) == params()
    values: tuple[Any, ...] = (0, False, "", [], {})
    for value in values:
        params(**dict.fromkeys(set(off) - {"prompt_logprobs"}, value))
    params(top_n_sigma=-1, t_max_predict_ms=-1, tfs_z=1, adaptive_target=-1.0, n_probs=0)


def test_d7_hints_are_ignored() -> None:
    hints = {
        "cache_prompt": True,
        "id_slot": 3,
        "priority": 1,
        "guided_decoding_backend": "xgrammar",
        "skip_special_tokens": False,
        "samplers": ["top_k"],
        "length_penalty": 1.2,
        "request_id": "a",
    }
    assert params(**hints) == params()


def test_d7_limits_of_other_servers() -> None:
    assert params(n_predict=5).max_tokens == 5
    assert params(n_predict=5, max_tokens=3).max_tokens == 3
    assert params(n_predict=-1).max_tokens is None
    assert params(stop_token_ids=[2, 5]).stop_tokens == (2, 5)


def test_d7_responses_take_the_sampling_fields_too() -> None:
    body = {"model": "m", "input": "x", "seed": 5, "stop": ["END"], "guided_choice": ["a"]}
    found = responses.wanted_of(msgspec.convert(body, r.ResponseRequest)).params
    assert (found.seed, found.stop) == (5, ("END",))
    assert allows(found, "a")
