"""The work of a quantization: smaller (or larger) weights from a model that is here."""

from __future__ import annotations

from models_admin import catalogue, quantize, store
from models_admin.jobs.control import Control
from models_admin.models import Job


def work(job: Job, control: Control) -> None:
    """``options["kind"]`` says which; the new model has the configuration of the old one."""
    model = catalogue.require(job.source)
    control.at("quantizing")
    with store.partial() as (_file, path):
        sizes = quantize.quantize(
            model.version.path, path, job.options["kind"], control.tell, control.leaving.is_set
        )
        control.test(path)
        control.at("installing")
        made = store.import_file(path, job.target, move=True, configuration=model.configuration)
    control.say("reduced", before=sizes.before, after=sizes.after)
    control.say("installed", name=made.name)
