"""The work of a quantization: smaller (or larger) weights from a model that is here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from models_admin import catalogue, quantize, store
from models_admin.jobs.control import Control
from models_admin.models import Job


def work(job: Job, control: Control) -> None:
    """``options["kind"]`` says which; the new model has the configuration of the old one, or that
    of ``options["configuration"]``."""
    model = catalogue.require(job.source)
    make(job, model.version.path, job.options.get("configuration", model.configuration), control)


def make(job: Job, source: Path, configuration: dict[str, Any], control: Control) -> None:
    """The model that ``job`` makes, of the weights ``source``."""
    control.at("quantizing")
    with store.partial() as (_file, path):
        sizes = quantize.quantize(
            source, path, job.options["kind"], control.tell, control.leaving.is_set
        )
        control.test(path)
        control.at("installing")
        made = store.import_file(path, job.target, move=True, configuration=configuration)
    control.say("reduced", before=sizes.before, after=sizes.after)
    control.say("installed", name=made.name)
