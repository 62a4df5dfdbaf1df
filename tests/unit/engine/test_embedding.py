from __future__ import annotations

from array import array

import pytest

from chatsite.engine import embedding
from chatsite.engine.backend import BadParameters, LoadError
from chatsite.engine.messages import Embed, Embedded, Failed, Step
from chatsite.engine.prompt import ContextExceeded


def ask(harness, id: str, *inputs: str | tuple[int, ...], truncate: bool = False) -> None:
    request = Embed(id, "ann", inputs, truncate)
    work = embedding.prepare(request, harness.backend.vocabulary, harness.backend.facts.context)
    harness.engine.embeddings.add(work)


def vectors(frame: Embedded) -> list[array[float]]:
    step = 4 * frame.size
    return [array("f", frame.vectors[at : at + step]) for at in range(0, len(frame.vectors), step)]


def test_vectors_come_in_the_order_of_their_inputs(harness):
    ask(harness, "e", "red green", "blue", "green red")
    harness.finish()
    (frame,) = [one for one in harness.frames if isinstance(one, Embedded)]
    red, blue, again = vectors(frame)
    assert red == again != blue
    assert sum(value * value for value in red) == pytest.approx(1)
    assert frame.tokens == 5


def test_no_inputs_give_no_vectors(harness):
    ask(harness, "e")
    harness.finish()
    (frame,) = [one for one in harness.frames if isinstance(one, Embedded)]
    assert (frame.vectors, frame.tokens) == (b"", 0)


def test_answers_go_on_between_inputs(harness):
    harness.ask("g", "@tokens 20")
    harness.steps(2)
    ask(harness, "e", *(f"text {n}" for n in range(30)))
    before = len(harness.frames)
    harness.steps(10)
    assert sum(isinstance(frame, Step) for frame in harness.frames[before:]) == 10
    harness.finish()
    assert harness.reason("g") == "stop"


def test_what_is_too_long_is_an_error_or_cut(harness):
    long = "word " * 1000
    with pytest.raises(ContextExceeded):
        ask(harness, "e", long)
    ask(harness, "e", long, truncate=True)
    harness.finish()
    (frame,) = [one for one in harness.frames if isinstance(one, Embedded)]
    assert frame.tokens == harness.backend.facts.context


@pytest.mark.parametrize("one", ["", (), (-1,), (1 << 40,)])
def test_what_is_no_text_is_refused(harness, one):
    with pytest.raises(BadParameters):
        ask(harness, "e", one)


@pytest.mark.parametrize("error", [RuntimeError("no"), LoadError("no memory")])
def test_a_failure_ends_that_request_alone(harness, monkeypatch, error):
    def fail(tokens: object) -> array[float]:
        raise error

    ask(harness, "e", "a")
    monkeypatch.setattr(harness.backend, "embed", fail)
    harness.steps(1)
    assert [one.code for one in harness.frames if isinstance(one, Failed)] == ["engine_error"]
    assert harness.engine.idle
