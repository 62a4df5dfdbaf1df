"""Answers that a client has begun, and where the answer begins in the prompt."""

from __future__ import annotations

import json

import pytest

from chatsite.engine.backends.scripted.backend import ScriptedVocabulary
from chatsite.engine.contract.messages import (
    ChatMessage,
    Generate,
    PromptOptions,
    SamplingParams,
    Tool,
)
from chatsite.engine.prompting.harmony import ANSWER_OPEN
from chatsite.engine.prompting.output import Call, Content, OutputParser, Reasoning
from chatsite.engine.prompting.prompt import Prompt, PromptBuilder
from chatsite.engine.prompting.template import CHATML, ChatTemplate
from tests.support import templates

USER = ChatMessage("user", "Count.")
BEGUN = ChatMessage("assistant", "one, two,")
TOOL = Tool("count", "Counts.", {"type": "object", "properties": {}})
# Opens reasoning in every answer, and drops it from answers in the conversation.
ALWAYS_THINKS = templates.LAST_SYSTEM
VOCABULARY = ScriptedVocabulary()


def schema_as_text(schema: object, also: object = None) -> str:
    return f"root ::= {json.dumps(schema)}"


def prepare(
    template: str,
    *messages: ChatMessage,
    prefix: str = "",
    params: SamplingParams | None = None,
    **options: object,
) -> Prompt:
    chat = ChatTemplate(template)
    builder = PromptBuilder(
        chat, VOCABULARY, 4096, lambda schema, also=None: f"root ::= {json.dumps(schema)}"
    )
    asked = PromptOptions(**options)  # type: ignore[arg-type]
    request = Generate("g", "ann", messages, params or SamplingParams(), prefix, options=asked)
    return builder.prepare(request, 0.0)


def text(prompt: Prompt) -> str:
    names = {256: "<|im_start|>", 257: "<|im_end|>"}
    pieces = (names.get(one, "").encode() or VOCABULARY.piece(one) for one in prompt.tokens)
    return b"".join(pieces).decode()


@pytest.mark.parametrize(
    ("template", "ends"),
    [
        (CHATML, "<|im_start|>assistant\none, two,"),
        (templates.ALTERNATING, "<turn>model\none, two,"),
        (templates.FOLDING, "[INST]Count.[/INST]one, two,"),
        (templates.UNKNOWN, "<|assistant|>one, two,"),
        (templates.HARMONY, "<|start|>assistant<|channel|>final<|message|>one, two,"),
        (ALWAYS_THINKS, "<|assistant|>one, two,"),
    ],
)
def test_d4_t22_t33_a_begun_answer_is_continued(template, ends):
    prompt = prepare(template, USER, BEGUN, continue_final=True)
    assert text(prompt).endswith(ends)
    assert prompt.opening == ""
    # All of it is prompt: only the text that follows is the answer.
    assert prompt.prompt_tokens == len(prompt.tokens)


def test_d4_without_the_option_a_new_turn_begins():
    assert text(prepare(CHATML, USER, BEGUN)).endswith("<|im_start|>assistant\n")


def test_d4_a_resumed_attempt_has_the_begun_and_the_generated_text():
    prompt = prepare(CHATML, USER, BEGUN, prefix=" three,", continue_final=True)
    assert text(prompt).endswith("one, two, three,")
    assert prompt.prompt_tokens < len(prompt.tokens)


def test_d4_two_answers_at_the_end_are_one():
    more = ChatMessage("assistant", "three,")
    prompt = prepare(CHATML, USER, BEGUN, more, continue_final=True)
    assert text(prompt).endswith("<|im_start|>assistant\none, two,\n\nthree,")


def test_d4_an_answer_without_text_begins_a_new_one():
    empty = ChatMessage("assistant", "")
    assert text(prepare(CHATML, USER, empty, continue_final=True)).endswith(
        "Count.<|im_end|>\n<|im_start|>assistant\n"
    )


def test_d4_a_template_that_drops_text_before_an_answer_has_it_continued_too():
    # Nemo renders the system text with the last message only if that is a user's.
    last = (
        "{% for m in messages if m.role != 'system' %}"
        "{% if m.role == 'user' %}[INST]{{ messages[0].content ~ '\n' if loop.last and "
        "messages[0].role == 'system' }}{{ m.content }}[/INST]{% else %}{{ m.content }}</s>"
        "{% endif %}{% endfor %}"
    )
    system = ChatMessage("system", "In Latin.")
    prompt = prepare(last, system, USER, BEGUN, continue_final=True)
    assert text(prompt) == "[INST]In Latin.\nCount.[/INST]one, two,"


def test_d4_reasoning_is_continued_as_reasoning():
    thought = ChatMessage("assistant", "", "First I")
    for template, mark in ((ALWAYS_THINKS, "<think>\n"), (templates.UNKNOWN, "<|ponder|>\n")):
        prompt = prepare(template, USER, thought, continue_final=True)
        assert text(prompt).endswith(f"<|assistant|>{mark}First I")
        # Published first, since the text that follows has no mark.
        assert prompt.opening == mark
        again = prepare(template, USER, thought, continue_final=True, prefix=f"{mark} count.")
        assert text(again).endswith(f"{mark}First I count.")
        assert again.opening == ""


def test_d4_reasoning_in_the_content_is_taken_out_of_it():
    thought = ChatMessage("assistant", "<think>\nFirst I")
    prompt = prepare(ALWAYS_THINKS, USER, thought, continue_final=True)
    assert text(prompt).endswith("<|assistant|><think>\nFirst I")
    assert prompt.opening == "<think>\n"
    closed = ChatMessage("assistant", "<think>\nFirst I count.\n</think>\n\none,")
    prompt = prepare(ALWAYS_THINKS, USER, closed, continue_final=True)
    assert text(prompt).endswith("<|assistant|>one,")


def test_control_tokens_in_a_begun_answer_stay_text():
    begun = ChatMessage("assistant", "one<|im_end|>")
    tokens = prepare(CHATML, USER, begun, continue_final=True).tokens
    assert tokens.count(257) == prepare(CHATML, USER, BEGUN, continue_final=True).tokens.count(257)


def test_t40_harmony_answers_begin_in_a_header_and_name_their_channel():
    prompt = prepare(templates.HARMONY, USER)
    assert text(prompt).endswith("<|start|>assistant")
    assert prompt.opening == ""


def test_t40_harmony_without_reasoning_begins_with_the_answer_proper():
    prompt = prepare(templates.HARMONY, USER, think=False)
    assert text(prompt).endswith(f"<|start|>assistant{ANSWER_OPEN}")
    assert prompt.opening == ANSWER_OPEN
    # Tools may still be called, which uses another channel.
    prompt = prepare(templates.HARMONY, USER, think=False, tools=(TOOL,))
    assert text(prompt).endswith("<|start|>assistant")


def test_t40_a_schema_constrains_the_answer_proper_of_harmony():
    params = SamplingParams(json_schema={"type": "object"})
    prompt = prepare(templates.HARMONY, USER, params=params)
    assert prompt.opening == ANSWER_OPEN
    assert prompt.params == params
    again = prepare(templates.HARMONY, USER, params=params, prefix=f"{ANSWER_OPEN}{{")
    assert text(again).endswith(f"{ANSWER_OPEN}{{")
    assert again.opening == ""


def test_t40_a_forced_call_of_harmony_is_read_back():
    prompt = prepare(templates.HARMONY, USER, tools=(TOOL,), tool_choice="required")
    assert prompt.opening == ""
    root = prompt.params.grammar.splitlines()[-1]
    head = json.loads(root.removeprefix("root ::= ").removesuffix(" call"))
    parser = OutputParser(ChatTemplate(templates.HARMONY).syntax, tools=True)
    written = head + '{"name": "count", "arguments": {"to": 3}}'
    [event] = parser.push(written) + parser.finish()
    assert isinstance(event, Call)
    assert (event.call.name, event.call.arguments) == ("count", '{"to": 3}')


def test_reasoning_that_the_template_opens_is_closed_again_where_none_is_wanted():
    prompt = prepare(ALWAYS_THINKS, USER, think=False)
    assert text(prompt).endswith("<|assistant|><think>\n\n</think>\n\n")
    assert prompt.opening == ""
    parser = OutputParser(ChatTemplate(ALWAYS_THINKS).syntax, tools=False)
    assert parser.push("One.") + parser.finish() == [Content("One.")]
    thinks = prepare(ALWAYS_THINKS, USER)
    parser = OutputParser(ChatTemplate(ALWAYS_THINKS).syntax, tools=False)
    assert parser.push(thinks.opening + "Hm.") + parser.finish() == [Reasoning("Hm.")]


def test_a_grammar_behind_reasoning_ends_it_by_its_own_mark():
    marks = templates.UNKNOWN.replace(
        "<|assistant|>{% endif %}", "<|assistant|><|ponder|>{% endif %}"
    )
    params = SamplingParams(json_schema={"type": "object"})
    grammar = prepare(marks, USER, params=params).params.grammar
    assert grammar.splitlines()[-1].startswith(
        'root ::= ([^<] | [<] [^|])* "<|/ponder|>" [ \\n]* answer'
    )


def test_t46_marks_that_are_tokens_of_the_model_are_read_though_the_template_names_none():
    class Thinks(ScriptedVocabulary):
        controls = {**ScriptedVocabulary().controls, "<think>": 300, "</think>": 301}

    builder = PromptBuilder(ChatTemplate(CHATML), Thinks(), 4096)
    assert (builder.syntax.think_open, builder.syntax.think_close) == ("<think>", "</think>")
    assert PromptBuilder(ChatTemplate(CHATML), VOCABULARY, 4096).syntax.think_open == ""
