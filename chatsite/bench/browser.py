"""What a browser makes of the pages: how soon a long conversation is there, and how evenly frames
come while one scrolls through it and while a long answer is written.

Frames are as the page sees them (`requestAnimationFrame`), and beside them what its main thread
did in each, from the browser's own trace: a machine without a graphics card draws on the processor
and may be late with frames that the page had ready in time.
"""

from __future__ import annotations

import json
import math
import os
import shutil
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from chatsite.bench import feed

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

_PROGRAMS: Final = ("chromium", "chromium-browser", "google-chrome")
_SIZE: Final = {"width": 1280, "height": 900}
_OPENINGS: Final = 7
_SCROLL_MS: Final = 8_000
_CATEGORIES: Final = ["devtools.timeline", "disabled-by-default-devtools.timeline", "toplevel"]
_TASK: Final = {"RunTask", "ThreadControllerImpl::RunTask"}
_ONE_FRAME_US: Final = 4_000
_SCRIPT: Final = {"FunctionCall", "EvaluateScript", "RunMicrotasks", "v8.evaluateModule"}

# Milliseconds from the navigation to the frame that shows the last answer.
_OPENED: Final = """async () => {
  while (!document.querySelector("article .md > *")) await new Promise(requestAnimationFrame);
  await new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
  return performance.now();
}"""
_SWITCH: Final = """async (path) => {
  const began = performance.now();
  document.querySelector(`a[href="${path}"]`).click();
  while (!document.querySelector("article .md > *")) await new Promise(requestAnimationFrame);
  await new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
  return performance.now() - began;
}"""
_RECORD: Final = """() => {
  window.benchFrames = [];
  const frame = (now) => {
    window.benchFrames.push(now);
    requestAnimationFrame(frame);
  };
  requestAnimationFrame(frame);
}"""
_SCROLL: Final = """(ms) => new Promise((done) => {
  const scroller = document.getElementById("scroll");
  const began = performance.now();
  const step = (now) => {
    scroller.scrollTop -= 400;
    now - began < ms ? requestAnimationFrame(step) : done(null);
  };
  requestAnimationFrame(step);
})"""


class NoBrowser(Exception):
    """``args[0]`` says what is missing."""


def measure(url: str, cookie: str, long: UUID, answer: feed.Unwritten) -> dict[str, Any]:
    """Milliseconds. ``long`` is a conversation of many messages, ``answer`` is written meanwhile.
    Raises `NoBrowser`."""
    with _chromium() as browser:
        name, _, value = cookie.partition("=")
        context = browser.new_context(base_url=url, viewport=_SIZE, locale="en-US")  # type: ignore[arg-type]
        context.add_cookies([{"name": name, "value": value, "url": url}])
        page = context.new_page()
        path = f"/c/{long}/"
        figures: dict[str, Any] = {"browser": f"Chromium {browser.version}, without a GPU"}
        opened = sorted(_open(page, path) for _run in range(_OPENINGS))
        figures["browser_opens_conversation_ms"] = round(opened[_OPENINGS // 2], 1)
        page.goto("/")
        page.wait_for_selector(f'a[href="{path}"]')
        figures["browser_switches_to_it_ms"] = round(page.evaluate(_SWITCH, path), 1)
        with _watched(browser, page, "scroll", figures):
            page.evaluate(_SCROLL, _SCROLL_MS)
        page.goto(f"/c/{answer.conversation}/")
        page.wait_for_selector(".turn.answer.open")
        with feed.writing(answer), _watched(browser, page, "stream", figures):
            page.wait_for_selector(".turn.answer:not(.open)", timeout=300_000)
        return figures


@contextmanager
def _chromium() -> Iterator[Browser]:
    try:
        from playwright.sync_api import sync_playwright
    except ImportError as error:
        raise NoBrowser("Playwright is not installed (`make test` installs it)") from error
    program = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, _PROGRAMS)), None)
    if program is None:
        raise NoBrowser("no Chromium is installed (`make test` installs it)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=program, args=["--no-sandbox", "--disable-gpu"]
        )
        try:
            yield browser
        finally:
            browser.close()


def _open(page: Page, path: str) -> float:
    page.goto(path, wait_until="commit")
    return float(page.evaluate(_OPENED))


@contextmanager
def _watched(browser: Browser, page: Page, name: str, figures: dict[str, Any]) -> Iterator[None]:
    """Adds what frames took during the block."""
    page.evaluate(_RECORD)
    browser.start_tracing(page=page, categories=_CATEGORIES)
    yield
    trace = json.loads(browser.stop_tracing())["traceEvents"]
    frames: list[float] = page.evaluate("window.benchFrames")
    times = [later - earlier for earlier, later in pairwise(frames)]
    main, script, longest = work_per_frame(trace)
    for what, values in (("frame", times), ("main_thread", main), ("script", script)):
        for label, part in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99), ("max", 1.0)):
            figures[f"{name}_{what}_{label}_ms"] = round(percentile(values, part), 1)
    figures[f"{name}_longest_task_ms"] = round(longest, 1)


def percentile(values: Sequence[float], part: float) -> float:
    return sorted(values)[max(0, math.ceil(part * len(values)) - 1)] if values else math.nan


def work_per_frame(trace: list[dict[str, Any]]) -> tuple[list[float], list[float], float]:
    """From a trace: milliseconds of the page's main thread in each frame, those of them that ran
    scripts, and its longest task."""
    frames_of: dict[tuple[int, int], list[float]] = {}
    for event in trace:
        if event.get("name") == "FireAnimationFrame":
            frames_of.setdefault((event["pid"], event["tid"]), []).append(event["ts"])
    if not frames_of:
        return [], [], math.nan
    thread, starts = max(frames_of.items(), key=lambda item: len(item[1]))
    starts.sort()
    # Several callbacks of one frame begin within a moment.
    starts = [b for a, b in pairwise([-math.inf, *starts]) if b - a > _ONE_FRAME_US]
    own = [e for e in trace if (e.get("pid"), e.get("tid")) == thread and "dur" in e]
    tasks = [(e["ts"], e["dur"]) for e in own if e["name"] in _TASK]
    scripts = [(e["ts"], e["dur"]) for e in own if e["name"] in _SCRIPT]
    longest = max((duration for _start, duration in tasks), default=math.nan)
    return _sums(tasks, starts), _sums(scripts, starts), longest / 1000


def _sums(spans: list[tuple[float, float]], starts: list[float]) -> list[float]:
    """Milliseconds of outermost spans between each two starts."""
    sums = [0.0] * (len(starts) - 1)
    free_from = -math.inf
    for start, duration in sorted(spans, key=lambda span: (span[0], -span[1])):
        if start < free_from:
            continue
        free_from = start + duration
        frame = bisect_right(starts, start) - 1
        if 0 <= frame < len(sums):
            sums[frame] += duration / 1000
    return sums
