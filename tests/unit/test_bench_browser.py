"""What `manage.py bench --pages` reads from a browser trace, and the answer it streams."""

from __future__ import annotations

from typing import Any

from chatsite.bench import browser, fake_answer

PAGE = {"pid": 1, "tid": 1}


def span(name: str, start_ms: float, ms: float, **thread: int) -> dict[str, object]:
    return {**PAGE, **thread, "name": name, "ts": start_ms * 1000, "dur": ms * 1000}


def test_the_work_of_each_frame_is_read_from_a_trace() -> None:
    frames = [span("FireAnimationFrame", start, 0.1) for start in (0, 0.2, 16, 33)]
    trace: list[dict[str, Any]] = [
        *frames,
        span("RunTask", 0, 4),
        span("FunctionCall", 1, 2),
        span("RunMicrotasks", 1.5, 1),
        span("RunTask", 16, 20),
        span("RunTask", 1, 90, tid=2),
        span("RunTask", 40, 1),
        {"name": "process_name"},
    ]
    main, script, longest = browser.work_per_frame(trace)
    assert main == [4, 20]
    assert script == [2, 0]
    assert longest == 20


def test_a_percentile_is_one_of_the_values() -> None:
    values = [float(value) for value in range(1, 101)]
    assert [browser.percentile(values, part) for part in (0.5, 0.95, 1)] == [50, 95, 100]


def test_the_long_answer_has_as_many_lines_as_it_says() -> None:
    text = fake_answer.text()
    assert len(text.split("\n")) == fake_answer.LINES
    assert text.count("```") % 2 == 0
