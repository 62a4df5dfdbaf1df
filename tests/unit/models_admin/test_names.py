"""Model names in Ollama's syntax."""

import pytest

from chatsite.errors import ChatsiteError
from models_admin.names import BadModelName, Name, normalise, parse


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("smollm2", "smollm2:latest"),
        ("smollm2:135m", "smollm2:135m"),
        ("SmolLM2:135M", "SmolLM2:135M"),
        ("library/smollm2", "smollm2:latest"),
        ("registry.ollama.ai/library/smollm2:x", "smollm2:x"),
        ("someone/model", "someone/model:latest"),
        ("hf.co/someone/Model-GGUF:Q4_K_M", "hf.co/someone/Model-GGUF:Q4_K_M"),
        ("https://hub.example.org:5000/a/b", "hub.example.org:5000/a/b:latest"),
        ("_x:_y", "_x:_y"),
        ("gemma-3.1_it:1b-q4.0", "gemma-3.1_it:1b-q4.0"),
    ],
)
def test_the_written_form_fills_in_the_tag_and_drops_defaults(text, written):
    assert normalise(text) == written
    assert normalise(written) == written


def test_all_parts_of_a_name_are_parsed():
    assert parse("h.example:80/space/model.x:tag") == Name(
        "h.example:80", "space", "model.x", "tag"
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "../../x",
        "..",
        "/etc/passwd",
        "a/../b",
        "a//b",
        "a/b/",
        "a/b/c/d",
        "x:",
        ":x",
        "x:a:b",
        "x y",
        "x\n",
        "x\0",
        "-x",
        ".x",
        "x:-t",
        "some.one/model",
        "x@sha256:ab",
        "模型",
        "modèle",
        "x:标签",
        "x" * 81,
        "x:" + "y" * 81,
        "x" * 300,
        "ftp://h/n/m",
        "C:\\models\\x",
        "١٢",
    ],
)
def test_an_invalid_name_is_refused_with_a_reason(text):
    with pytest.raises(BadModelName) as caught:
        parse(text)
    assert isinstance(caught.value, ChatsiteError)
    assert isinstance(caught.value, ValueError)
    assert len(str(caught.value)) > 20


def test_the_message_names_the_part():
    with pytest.raises(BadModelName, match=r"namespace '\.\.'"):
        parse("../../x")
    with pytest.raises(BadModelName, match="tag 'a b'"):
        parse("x:a b")
    with pytest.raises(BadModelName, match="300 characters"):
        parse("x" * 300)
