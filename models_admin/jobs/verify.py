"""The step between fetching a file and installing it: a test load."""

from __future__ import annotations

from pathlib import Path

from models_admin.jobs import load_test as probe
from models_admin.jobs.job_context import Control


def load_test(path: Path, control: Control) -> None:
    """Load the file once in an engine child.

    Raises `ImportRefused` if it can't be loaded, and `JobInterrupted`.
    """
    control.raise_if_stopped()
    control.enter_stage("testing")
    if probe.check(path):
        control.log("probed")
    control.raise_if_stopped()
