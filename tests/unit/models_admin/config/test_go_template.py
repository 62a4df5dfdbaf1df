"""Go templates render the same prompts as Jinja as they do in Ollama."""

import jinja2
import pytest

from models_admin.config.go_template import UntranslatableTemplate, as_jinja

TURNS = [
    {"role": "system", "content": "S"},
    {"role": "user", "content": "one"},
    {"role": "assistant", "content": "two"},
    {"role": "user", "content": "three"},
]
LEGACY = (
    "{{ if .System }}<s>{{ .System }}\n{{ end }}"
    "{{ if .Prompt }}<u>{{ .Prompt }}\n{{ end }}<a>{{ .Response }}</a>\n"
)
MESSAGES = (
    "{{- if .System }}<s>{{ .System }}{{ end }}\n"
    '{{- range .Messages }}{{ if eq .Role "user" }}<u>{{ .Content }}'
    '{{ else if eq .Role "assistant" }}<a>{{ .Content }}{{ end }}{{ end }}<a>'
)


def render(text, turns):
    environment = jinja2.Environment(trim_blocks=True, lstrip_blocks=True)  # noqa: S701
    return environment.from_string(as_jinja(text)).render(messages=turns)


@pytest.mark.parametrize(
    ("text", "turns", "prompt"),
    [
        (LEGACY, TURNS, "<s>S\n<u>one\n<a>two</a>\n<u>three\n<a>"),
        (LEGACY, TURNS[1:2], "<u>one\n<a>"),
        ("[{{ .Prompt }}]", TURNS[1:2], "[one]"),
        (MESSAGES, TURNS, "<s>S<u>one<a>two<u>three<a>"),
        ("  {{- .Prompt -}}  x{# y #}", TURNS[1:2], "onex{# y #}"),
    ],
)
def test_prompts(text, turns, prompt):
    assert render(text, turns) == prompt


@pytest.mark.parametrize(
    "text",
    [
        "{{ .Prompt }}{{ .Tools }}",
        "{{ range $i, $m := .Messages }}{{ end }}",
        "{{ if .Prompt }}",
        "{{ .Prompt }}{{ end }}",
        '{{ if eq .Prompt "a" "b" }}{{ end }}',
        '{{ template "x" . }}{{ .Prompt }}',
        "{{ .System }}",
        "{{ if .Prompt }}{{ .Prompt }}{{ .Response }}{{ end }}",
    ],
)
def test_a_template_without_a_translation_is_refused(text):
    with pytest.raises(UntranslatableTemplate):
        as_jinja(text)


def test_jinja_is_unchanged():
    text = "{% for message in messages %}{{ message.content }}{% endfor %}"
    assert as_jinja(text) == text
