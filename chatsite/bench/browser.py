"""Page performance in a browser: opening a long conversation, scrolling it, and streaming.

Frame times are those of the page (`requestAnimationFrame`), together with the work of its main
thread in each frame from the browser's trace: without a graphics card the browser draws on the CPU,
and a frame may be late although the page had it ready in time.
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

from chatsite.bench import fake_answer

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
    """Playwright or a browser is missing; ``args[0]`` says which."""


def measure(url: str, cookie: str, long: UUID, answer: fake_answer.Unwritten) -> dict[str, Any]:
    """Return the figures of the pages in milliseconds. Raises `NoBrowser`.

    ``long`` is a conversation of many messages; ``answer`` is written while frames are recorded.
    """
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
        with fake_answer.writing(answer), _watched(browser, page, "stream", figures):
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
    """Record frames during the block and add their figures."""
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
    """Evaluate a trace of the browser.

    Returns the milliseconds of the page's main thread in each frame, those spent in scripts, and
    its longest task.
    """
    frames_of: dict[tuple[int, int], list[float]] = {}
    for event in trace:
        if event.get("name") == "FireAnimationFrame":
            frames_of.setdefault((event["pid"], event["tid"]), []).append(event["ts"])
    if not frames_of:
        return [], [], math.nan
    thread, starts = max(frames_of.items(), key=lambda item: len(item[1]))
    starts.sort()
    # Several callbacks of the same frame start within a few milliseconds.
    starts = [b for a, b in pairwise([-math.inf, *starts]) if b - a > _ONE_FRAME_US]
    own = [e for e in trace if (e.get("pid"), e.get("tid")) == thread and "dur" in e]
    tasks = [(e["ts"], e["dur"]) for e in own if e["name"] in _TASK]
    scripts = [(e["ts"], e["dur"]) for e in own if e["name"] in _SCRIPT]
    longest = max((duration for _start, duration in tasks), default=math.nan)
    return _sums(tasks, starts), _sums(scripts, starts), longest / 1000


def _sums(spans: list[tuple[float, float]], starts: list[float]) -> list[float]:
    """Return the milliseconds of the outermost spans between successive starts."""
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
