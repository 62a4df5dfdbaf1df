import pytest

from chatsite.engine.contract import messages as m
from chatsite.inference.engines import requests
from chatsite.inference.remote.contract import (
    Capability,
    Interrupted,
    Refused,
    RemoteModel,
    RemoteRequest,
    TooLong,
    Unreachable,
    Unsupported,
)

CHAT = RemoteModel("m", 4096, frozenset({Capability.CHAT}))
USER = (m.ChatMessage("user", "Hello"),)


def asked(**values):
    return RemoteRequest(CHAT, USER, **values)


@pytest.mark.parametrize(
    ("request_", "word"),
    [
        (asked(options=m.PromptOptions(tools=(m.Tool("f"),))), "tools"),
        (asked(params=m.SamplingParams(json_schema={"type": "object"})), "JSON"),
        (asked(params=m.SamplingParams(grammar="root ::= x")), "grammar"),
        (asked(params=m.SamplingParams(top_logprobs=0)), "log prob"),
        (asked(options=m.PromptOptions(raw="once")), "plain text"),
        (asked(options=m.PromptOptions(continue_final=True)), "continue"),
        (asked(options=m.PromptOptions(template="{{ x }}")), "template"),
    ],
)
def test_what_an_engine_cant_do_is_refused_by_name(request_, word):
    with pytest.raises(requests.CantServe) as refusal:
        requests.check("id", request_)
    assert refusal.value.failed.code == "request_refused"
    assert word in refusal.value.failed.message


def test_a_plain_chat_needs_nothing_more():
    requests.check("id", asked())


def test_salts_are_opaque_and_stable():
    assert requests.salt_of("1") == requests.salt_of("1") != requests.salt_of("2")
    assert len(requests.salt_of("1")) == 32


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (TooLong("long", 5000, 4096), "context_length_exceeded"),
        (Refused(400, "bad"), "request_refused"),
        (Unsupported("no"), "request_refused"),
        (Refused(500, "oops"), None),
        (Refused(429, "busy"), None),
        (Unreachable("refused"), None),
        (Interrupted("reset"), None),
    ],
)
def test_only_errors_that_a_retry_cant_help_end_the_answer(error, code):
    failed = requests.ended("id", error)
    assert (failed.code if failed else None) == code


def test_a_prompt_that_is_too_long_has_its_figures():
    failed = requests.ended("id", TooLong("long", 5000, 4096))
    assert failed
    assert failed.details == {"prompt_tokens": 5000, "context": 4096}
    unknown = requests.ended("id", TooLong("long"))
    assert unknown
    assert unknown.details == {}


def turn(number):
    return (
        m.ChatMessage("user", f"question {number} " * 30),
        m.ChatMessage("assistant", f"answer {number} " * 30),
    )


def test_the_oldest_turns_are_left_out_until_the_prompt_fits():
    system = m.ChatMessage("system", "Be brief.")
    last = m.ChatMessage("user", "Now?")
    messages = (system, *turn(1), *turn(2), *turn(3), last)
    counted = requests.estimate(messages)
    fitted = requests.fit(messages, 1, counted, counted)
    assert fitted.messages[0] is system
    assert fitted.messages[-1] is last
    assert fitted.left_out
    assert fitted.left_out % 2 == 0
    assert fitted.messages[1].role == "user"
    assert requests.estimate(fitted.messages) < counted
    assert len(fitted.messages) + fitted.left_out == len(messages)


def test_nothing_is_left_out_where_it_fits_and_the_question_always_stays():
    messages = (*turn(1), m.ChatMessage("user", "x" * 9000))
    assert requests.fit(messages, 0, 500, 4096).left_out == 0
    fitted = requests.fit(messages, 0, 3200, 1024)
    assert fitted.messages == messages[-1:]


def test_a_limit_bounds_the_answer():
    params = m.SamplingParams(max_tokens=100)
    assert requests.with_room(params, 40).max_tokens == 40
    assert requests.with_room(params, 400).max_tokens == 100
    assert requests.with_room(params, None) is params
    assert requests.with_room(m.SamplingParams(), 40).max_tokens == 40
    assert requests.usable_context(CHAT, m.PromptOptions(context=1000)) == 1000
    assert requests.usable_context(RemoteModel("m"), m.PromptOptions()) is None
