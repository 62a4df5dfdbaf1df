"""The site to measure: the one running with these settings, or one started for the purpose."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.error import URLError
from urllib.request import urlopen

from django.conf import settings

from chatsite.hosts import status

_START_SECONDS = 60
_STOP_SECONDS = 15
_TUNING_SECONDS = 300


class SiteDidNotStart(Exception):
    """The site did not start; ``args[0]`` is its address."""


@contextmanager
def running(url: str) -> Iterator[None]:
    """Leave a running site alone; otherwise run `manage.py up` during the block."""
    if _healthy(url):
        yield
        return
    process = subprocess.Popen(
        [sys.executable, str(settings.BASE_DIR / "manage.py"), "up"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.STDOUT,
    )
    try:
        deadline = time.monotonic() + _START_SECONDS
        while not _healthy(url):
            if process.poll() is not None or time.monotonic() > deadline:
                raise SiteDidNotStart(url)
            time.sleep(0.2)
        _wait_for_tuning()
        yield
    finally:
        process.terminate()
        process.wait(_STOP_SECONDS)


def _wait_for_tuning() -> None:
    """Wait until the idle host has tuned its models; before that they run more slowly."""
    deadline = time.monotonic() + _TUNING_SECONDS
    while time.monotonic() < deadline:
        models = [model for host in status.ask_from_thread() or () for model in host.models]
        if all(
            model.state == "failed" or (model.state == "ready" and not model.rough)
            for model in models
        ):
            return
        time.sleep(0.5)


def _healthy(url: str) -> bool:
    try:
        with urlopen(f"{url}/healthz", timeout=5) as answer:  # noqa: S310  (our own address)
            return bool(answer.status == 200)
    except (URLError, OSError):
        return False
