"""The work of quantization jobs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from models_admin import catalogue
from models_admin.jobs import job_log, quantize, verify
from models_admin.jobs.job_context import Control
from models_admin.jobs.requests import Quantize
from models_admin.models import Job
from models_admin.store import files


def work(job: Job, request: Quantize, control: Control) -> None:
    model = catalogue.require(request.source)
    configuration: dict[str, Any] = model.configuration
    if request.configuration is not None:
        configuration = msgspec.to_builtins(request.configuration)
    make(job, model.version.path, request.quantization, configuration, control)


def make(
    job: Job, source: Path, quantization: str, configuration: dict[str, Any], control: Control
) -> None:
    """Create the target of ``job`` from the weights ``source``."""
    control.enter_stage("quantizing")
    with files.partial() as (_file, path):
        sizes = quantize.quantize(
            source, path, quantization, control.report, control.stop_requested.is_set
        )
        verify.load_test(path, control)
        control.enter_stage("installing")
        made = files.import_file(path, job.target, move=True, configuration=configuration)
    control.log("reduced", before=sizes.before, after=sizes.after)
    job_log.write_installed(job, made)
