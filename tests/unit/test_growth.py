"""Text from outside takes time linear in its length, whatever its content."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from chatsite import durations
from chatsite import text_terms as terms
from chatsite.api.core import http
from chatsite.api.openai import types as t
from chatsite.engine.contract.messages import OutputSyntax
from chatsite.engine.prompting import call_json
from chatsite.engine.prompting.output import OutputParser
from chatsite.exchange import writers
from chatsite.numbers import natural
from models_admin import names
from models_admin.config import go_template, modelfile
from models_admin.sources import huggingface, ollama, url
from tests.support.growth import assert_linear

Text = Callable[[int], str]

_chat = msgspec.json.Decoder(t.ChatRequest)


def _template(text: str) -> None:
    go_template.as_jinja.cache_clear()
    go_template.as_jinja(text)


@pytest.mark.parametrize(
    "text", [lambda n: "{{" + " " * n + "}}", lambda n: "{{ .Prompt }}{{" + " " * n]
)
def test_h1_templates_of_blanks(text: Text) -> None:
    """Smaller, because it was cubic."""
    assert_linear(_template, text, 100)
    _template("{{ .Prompt }}{{" + " " * 60_000 + "/* all of it blank */}}")


@pytest.mark.parametrize(
    "text",
    [
        lambda n: "{{- " * (n // 4),
        lambda n: "{{ .Prompt }}" + '{{ "' * (n // 4),
        lambda n: "{{ .Prompt }}{{ if " + "(" * n,
        lambda n: "{{ if " + "( " * (n // 2) + ".Prompt",
        lambda n: "{{ .Prompt }}{{ if and " + ".System " * (n // 8) + "}}{{ end }}",
        lambda n: "{{ .Prompt }}{{/*" * (n // 17),
        lambda n: "{{ .Prompt }} - " + "\n " * (n // 2) + "{{- end",
        lambda n: '{{ .Prompt }}{{ eq "' + "\\" * n,
    ],
)
def test_h1_templates(text: Text) -> None:
    assert_linear(_template, text, 2000)


@pytest.mark.parametrize(
    "text",
    [
        lambda n: "1" * n,
        lambda n: "1." * (n // 2),
        lambda n: "1h" * (n // 2) + "1",
        lambda n: "-" + "9" * n + "s",
    ],
)
def test_h2_lengths_of_time(text: Text) -> None:
    assert_linear(durations.seconds, text, 2000)


def _refused_role(text: str) -> None:
    body = msgspec.json.encode({"model": "m", "messages": [{"role": text}]})
    try:
        _chat.decode(body)
    except msgspec.ValidationError as error:
        refusal = http.bad_field(error)
        assert len(str(refusal)) < 2000


def test_h2_refusals_that_quote_the_input() -> None:
    assert_linear(_refused_role, lambda n: " - at `$" * (n // 8), 20_000)
    assert_linear(_refused_role, lambda n: "missing required field `" * (n // 24), 20_000)


def _pushed(text: str) -> None:
    parser = OutputParser(OutputSyntax("", "", "hermes"), tools=True)
    for at in range(0, len(text), 64):
        parser.push(text[at : at + 64])
    parser.finish()


@pytest.mark.parametrize(
    "text",
    [
        lambda n: '<tool_call>"' + "</tool_call>" * (n // 12),
        lambda n: '<tool_call>{"name": "' + "x" * n,
        lambda n: "<tool_call>" * (n // 11),
    ],
)
def test_h2_answers_with_calls(text: Text) -> None:
    assert_linear(_pushed, text, 8000)


def test_h2_calls_by_name() -> None:
    assert_linear(
        lambda text: call_json.after_marker(text, 0), lambda n: "x[CALL_ID]" + " " * n, 2000
    )


@pytest.mark.parametrize(
    ("work", "text"),
    [
        (url.is_url, lambda n: "https://a" + ".gguf?" * (n // 6) + " "),
        (url.is_url, lambda n: "https://a" + ".gguf#" * (n // 6)),
        (ollama.PARAMETER.findall, lambda n: "a" * n),
        (huggingface.NEXT_LINK.search, lambda n: "<" * n),
        (names.parse, lambda n: "a/" * (n // 2)),
        (names.parse, lambda n: "a:" * (n // 2)),
        (terms.terms, lambda n: "好a_" * (n // 3)),
        (terms.parse, lambda n: 'a"_' * (n // 3)),
        (terms.parse("a_a好b").find, lambda n: "a" + "_" * n),
        (terms.parse('"a好a好a').find, lambda n: "a好" * (n // 2)),
        (modelfile.parse, lambda n: "FROM a\n" + 'SYSTEM """' * (n // 10)),
        (modelfile.parse, lambda n: "FROM a\nSYSTEM " + '"' * n),
        (modelfile.parse, lambda n: "FROM a\n" + "\n " * (n // 2) + "#"),
        (modelfile.parse, lambda n: "FROM a\nPARAMETER seed " + "1" * n),
        (writers.fenced, lambda n: "` " * (n // 2)),
        (lambda text: natural(text, 2**63), lambda n: "1" * n),
    ],
)
def test_h2_other_readers(work: Callable[[str], object], text: Text) -> None:
    assert_linear(work, text, 4000)


def test_a_number_in_text_is_exact_and_bounded() -> None:
    assert natural("0012", 12) == 12
    assert natural("13", 12) is None
    assert natural("9" * 5000, 2**63) is None
    assert natural("0" * 5000 + "7", 9) == 7
    for text in ("", "-1", "+1", "1.0", " 1", "٣", "²"):
        assert natural(text, 10) is None
