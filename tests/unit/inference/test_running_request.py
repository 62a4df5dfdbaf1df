"""The timing of an answer's reasoning."""

from __future__ import annotations

from chatsite.engine.contract.messages import PLAIN, OutputSyntax
from chatsite.inference.running_request import ReasoningClock

THINKS = OutputSyntax("<think>", "</think>")


def clock(known: str = "", syntax: OutputSyntax = THINKS) -> ReasoningClock:
    return ReasoningClock(syntax, known, 100.0)


def test_from_the_first_text_to_the_closing_mark() -> None:
    running = clock()
    text = "\n<think>\nLet me see.</think>\n\nYes."
    taken = [running.push(letter, 10.0 + at) for at, letter in enumerate(text)]
    opened, closed = text.index("k>") + 1, text.index("</think>") + 7
    assert [ms for ms in taken if ms is not None] == [(closed - opened) * 1000.0]
    assert taken[closed] is not None
    assert running.stop(99.0) is None


def test_an_attempt_that_resumes_within_the_reasoning() -> None:
    assert clock("<think>Let me s").push("ee</think>", 101.5) == 1500.0


def test_an_answer_that_ends_within_the_reasoning() -> None:
    running = clock()
    running.push("<think>Let", 10.0)
    assert running.stop(12.0) == 2000.0


def test_no_reasoning() -> None:
    for running in (clock(), clock(syntax=PLAIN), clock("<think>a</think>b")):
        assert running.push("So </think> is a mark", 102.0) is None
        assert running.stop(103.0) is None
