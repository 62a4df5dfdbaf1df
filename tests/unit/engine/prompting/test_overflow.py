"""What is left out of a prompt that does not fit."""

from __future__ import annotations

import pytest

from chatsite.engine.contract.messages import ChatMessage
from chatsite.engine.prompting.prompt import ContextExceeded
from tests.unit.engine.prompting.test_prompt_options import prepare, text


class TestOverflow:
    def talk(self, turns: int) -> list[ChatMessage]:
        messages = [ChatMessage("system", "rules")]
        for n in range(turns):
            messages += [
                ChatMessage("user", f"q{n} " + "word " * 20),
                ChatMessage("assistant", f"a{n} " + "word " * 20),
            ]
        return [*messages, ChatMessage("user", "last")]

    def test_too_long_is_an_error_with_figures(self):
        with pytest.raises(ContextExceeded) as caught:
            prepare(*self.talk(20), context=256)
        assert caught.value.details["context"] == 256

    def test_the_oldest_turns_are_left_out_and_counted(self):
        talk = self.talk(20)
        prompt = prepare(*talk, context=256, overflow="keep_latest")
        shown = text(prompt)
        assert "rules" in shown
        assert shown.rstrip().endswith("last<|im_end|>\n<|im_start|>assistant")
        assert "q0 " not in shown
        assert "q19" in shown
        assert 0 < prompt.left_out < len(talk) - 2
        assert prompt.left_out % 2 == 0
        assert shown.index("<|im_start|>user") < shown.index("<|im_start|>assistant")
        assert prompt.prompt_tokens <= 256 * 3 // 4

    def test_a_prompt_that_fits_is_unchanged(self):
        talk = self.talk(2)
        prompt = prepare(*talk, overflow="keep_latest")
        assert prompt.left_out == 0
        assert prompt.tokens == prepare(*talk).tokens

    def test_an_administrators_examples_stay(self):
        shown = text(
            prepare(
                ChatMessage("system", "rules"),
                ChatMessage("user", "example"),
                ChatMessage("assistant", "shown"),
                *self.talk(20)[1:],
                context=256,
                overflow="keep_latest",
                administered=3,
            )
        )
        assert "example" in shown
        assert "shown" in shown
        assert "q0 " not in shown

    def test_a_last_message_that_is_too_long_alone_is_an_error(self):
        with pytest.raises(ContextExceeded):
            prepare(ChatMessage("user", "word " * 500), context=256, overflow="keep_latest")
