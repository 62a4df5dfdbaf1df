"""Properties of streamed text, over random texts split at random bytes.

Emitted text never changes, and all of it is exactly the text up to the first stop string.
"""

from __future__ import annotations

import random

import pytest

from chatsite.engine.prompting.detokenize import StopFilter, TextStream

ALPHABET = "ab\né你😀"


def pieces(rng: random.Random, data: bytes) -> list[bytes]:
    cuts = sorted(rng.sample(range(len(data) + 1), k=min(len(data), rng.randint(0, 12))))
    return [data[start:end] for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]


def expected(text: str, stops: list[str]) -> str:
    """Reference: the stop string that *ends* first decides, as text arrives in order."""
    found = [at for stop in stops if (at := text.find(stop)) >= 0]
    return text[: min(found)] if found else text


@pytest.mark.parametrize("seed", range(300))
def test_any_cut_of_the_bytes_gives_the_same_text(seed):
    rng = random.Random(seed)
    text = "".join(rng.choices(ALPHABET, k=rng.randint(0, 30)))
    stream = TextStream()
    shown = "".join(stream.push(piece) for piece in pieces(rng, text.encode()))
    assert shown + stream.flush(cut=False) == text


@pytest.mark.parametrize("seed", range(300))
def test_any_cut_stops_at_the_first_stop_string(seed):
    rng = random.Random(seed)
    # Equal lengths: otherwise one could be inside a longer one, which wins if both come in one
    # piece.
    size = rng.randint(1, 4)
    stops = ["".join(rng.choices("ab", k=size)) for _ in range(rng.randint(1, 3))]
    text = "".join(rng.choices("abé", k=rng.randint(0, 30)))
    stream = TextStream(stops)
    shown = "".join(stream.push(piece) for piece in pieces(rng, text.encode()))
    assert shown + stream.flush(cut=False) == expected(text, stops)
    assert stream.stopped == any(stop in text for stop in stops)


def test_only_the_possible_beginning_of_a_stop_string_is_held_back():
    stops = StopFilter(["</end>"])
    assert stops.push("one <") == "one "
    assert stops.push("/e") == ""
    assert stops.push("x two") == "</ex two"
    assert stops.push(" <</en") == " <"
    assert stops.flush() == "</en"


def test_the_longest_of_several_beginnings_is_held_back():
    stops = StopFilter(["b!", "ab?"])
    assert stops.push("xab") == "x"
    assert stops.push("!") == "a"
    assert stops.stopped


def test_nothing_comes_after_a_stop_string():
    stream = TextStream(["stop"])
    assert stream.push(b"go stop and more") == "go "
    assert stream.push(b"more") == ""
    assert stream.flush(cut=False) == ""


def test_a_character_that_never_ends_is_dropped_where_cut_and_marked_where_ended():
    for cut, rest in ((True, ""), (False, "\ufffd")):
        stream = TextStream()
        assert stream.push("é".encode()[:1]) == ""
        assert stream.flush(cut=cut) == rest


def test_a_stop_string_may_end_with_the_flush():
    stream = TextStream(["\ufffd"])
    stream.push(b"\xc3")
    assert stream.flush(cut=False) == ""
    assert stream.stopped


def test_no_text_has_nul():
    """Byte tokens can produce it, and some databases reject it."""
    stream = TextStream(["ab"])
    assert stream.push(b"x\x00a") + stream.push(b"\x00b") == "x"
    assert stream.stopped
