from __future__ import annotations

import pytest

from chatsite.engine.contract.messages import ChatMessage
from chatsite.engine.prompting.template import ChatTemplate, TemplateError

USER = ChatMessage("user", "Hello")
SYSTEM = ChatMessage("system", "Be brief.")
ANSWER = ChatMessage("assistant", "Hi")

NO_SYSTEM = """
{%- for m in messages %}
{%- if m['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}
{{- '<' + m['role'] + '>' + m['content'] }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<model>' }}{% endif %}"""


def test_the_models_own_template_is_used():
    template = ChatTemplate(
        "{{ bos_token }}{% for m in messages %}[{{ m.role }}]{{ m.content }}{{ eos_token }}"
        "{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}",
        bos="<s>",
        eos="</s>",
    )
    assert template.source == "gguf"
    assert template.problem == ""
    assert template.stops == ()
    assert template.render([SYSTEM, USER]) == "<s>[system]Be brief.</s>[user]Hello</s>[assistant]"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (None, "no chat template"),
        ("{% for %}", "does not compile"),
        ("{{ 'always the same' }}", "drops messages"),
        ("{{ messages[0].content.nothing.at_all }}", "failed"),
        ("{{ raise_exception('not today') }}", "not today"),
        ("{% include 'other' %}", "failed"),
    ],
)
def test_a_broken_template_is_replaced_and_reported(text, problem):
    template = ChatTemplate(text)
    assert template.source == "fallback"
    assert problem in template.problem
    assert "<|im_end|>" in template.stops
    assert template.render([SYSTEM, USER]) == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHello<|im_end|>\n"
        "<|im_start|>assistant\n"
    )


@pytest.mark.parametrize(
    "attack",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
        "{{ raise_exception.__globals__ }}",
        "{{ messages.append(messages) }}",
        "{{ messages[0].update({'content': 'x'}) }}",
        "{{ 'x' * 1000000000 }}",
        "{{ 10 ** 1000000000 }}",
        "{{ 'x'.ljust(1000000000) }}",
        "{{ 'x' | center(1000000000) }}",
        "{% for i in range(100000) %}{% for j in range(99) %}xxxxxxxxxx{% endfor %}{% endfor %}",
    ],
)
def test_a_hostile_template_reaches_nothing(attack):
    honest = "{% for m in messages %}{{ m.content }}{% endfor %}"
    template = ChatTemplate(attack + honest)
    assert template.source == "fallback" or template.render([USER]) == "Hello"


def test_more_output_than_the_messages_explain_is_refused():
    text = "{% if messages[0].content == 'loud' %}" + "{{ 'x' * 99999 }}" * 20 + "{% endif %}"
    template = ChatTemplate(text + "{% for m in messages %}{{ m.content }}{% endfor %}")
    assert template.render([USER]) == "Hello"
    with pytest.raises(TemplateError, match="renders more"):
        template.render([ChatMessage("user", "loud")])


def test_system_text_goes_into_the_first_user_message_where_that_role_is_refused():
    template = ChatTemplate(NO_SYSTEM)
    assert template.source == "gguf"
    assert template.render([SYSTEM, USER, ANSWER, USER]) == (
        "<user>Be brief.\n\nHello<assistant>Hi<user>Hello<model>"
    )
    assert template.render([SYSTEM]) == "<user>Be brief.<model>"


def test_system_text_is_folded_too_where_a_template_silently_drops_it():
    template = ChatTemplate(
        "{% for m in messages if m.role != 'system' %}{{ m.content }}|{% endfor %}"
    )
    assert template.render([SYSTEM, USER]) == "Be brief.\n\nHello|"


def test_a_conversation_that_the_template_refuses_is_an_error_of_that_request():
    template = ChatTemplate(
        "{% for m in messages %}{% if 'secret' in m.content %}"
        "{{ raise_exception('not that word') }}{% endif %}{{ m.content }}{% endfor %}"
    )
    assert template.source == "gguf"
    with pytest.raises(TemplateError, match="not that word"):
        template.render([ChatMessage("user", "A secret")])


def test_features_that_model_authors_use_are_available():
    template = ChatTemplate(
        "{% set ns = namespace(n=0) %}"
        "{% for m in messages %}{% if m.role == 'assistant' %}{% continue %}{% endif %}"
        "{% set ns.n = ns.n + 1 %}"
        "{% generation %}{{ m.content | trim }}{% endgeneration %}{% endfor %}"
        "{{ ns.n }}{{ {'a': '<é>'} | tojson }}{{ strftime_now('%Y') | length }}"
        "{% if tools %}tools{% endif %}"
    )
    assert template.problem == ""
    assert template.render([USER, ANSWER]) == 'Hello1{"a": "<é>"}4'


def test_blocks_take_their_line_with_them():
    template = ChatTemplate(
        "{% for m in messages %}\n    {% if true %}\n{{ m.content }}\n    {% endif %}\n{% endfor %}"
    )
    assert template.render([USER]) == "Hello\n"
