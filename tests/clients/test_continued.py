"""Answers that a client has begun, and base models, through the whole stack."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from openai import OpenAI

from tests.support import tiny_model
from tests.support.stack import MODEL, Stack

BEGUN: Any = [
    {"role": "user", "content": "one two three four"},
    {"role": "assistant", "content": "one two"},
]


@pytest.mark.parametrize(
    ("messages", "more"),
    [
        (BEGUN, {"continue_final_message": True, "add_generation_prompt": False}),
        ([BEGUN[0], {**BEGUN[1], "prefix": True}], {}),
    ],
)
def test_d4_openais_endpoint_continues_on_request(
    client: OpenAI, messages: Any, more: dict[str, bool]
) -> None:
    answer = client.chat.completions.create(model=MODEL, messages=messages, extra_body=more)
    assert (answer.choices[0].message.content or "").split() == ["three", "four"]
    new = client.chat.completions.create(model=MODEL, messages=BEGUN)
    assert (new.choices[0].message.content or "").split()[:2] == ["one", "two"]


def test_d4_both_options_together_are_refused(client: OpenAI) -> None:
    both = {"continue_final_message": True, "add_generation_prompt": True}
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(model=MODEL, messages=BEGUN, extra_body=both)
    assert refused.value.param == "continue_final_message"


@pytest.mark.parametrize("stream", [False, True])
def test_t33_ollamas_endpoint_always_continues(api_stack: Stack, key: str, stream: bool) -> None:
    body = {"model": MODEL, "messages": BEGUN, "stream": stream}
    headers = {"Authorization": f"Bearer {key}"}
    answer = httpx.post(f"{api_stack.url}/api/chat", json=body, headers=headers, timeout=60)
    lines = [httpx.Response(200, text=line).json() for line in answer.text.splitlines()]
    said = "".join(line["message"]["content"] for line in lines)
    assert said.split() == ["three", "four"]


def test_a_base_model_is_refused_for_chat_and_completes(
    api_stack: Stack, client: OpenAI, tmp_path: Path
) -> None:
    path = tiny_model.write(tmp_path / "base.gguf", template=None)
    said = api_stack.manage("models", "import", str(path), "--name", "base").stdout
    assert "base model" in said
    try:
        with pytest.raises(openai.BadRequestError) as refused:
            client.chat.completions.create(model="base", messages=BEGUN[:1])
        assert refused.value.code == "not_a_chat_model"
        assert "/v1/completions" in str(refused.value)
        with pytest.raises(openai.BadRequestError):
            client.responses.create(model="base", input="one")
        prompt = "<|im_start|>user\n@say Well.<|im_end|>\n<|im_start|>assistant\n"
        answer = client.completions.create(model="base", prompt=prompt)
        assert answer.choices[0].text.strip() == "Well."
        listed: Any = client.models.retrieve("base")
        assert listed.capabilities == ["completion"]
    finally:
        api_stack.manage("models", "rm", "base")
