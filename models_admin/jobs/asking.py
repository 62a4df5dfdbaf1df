"""From what people write to a job."""

from __future__ import annotations

from typing import Final
from uuid import UUID

from django.utils.translation import gettext_lazy as _

from chatsite.accounts.models import User
from chatsite.engine.quantize import KINDS
from models_admin import bundle, catalogue, inbox, names
from models_admin.jobs import importing, states
from models_admin.models import Job, JobKind, ModelName
from models_admin.quantize import QuantizeRefused
from models_admin.sources import url

_SOURCE_CHARS: Final = 1000  # of the column that holds it


def download(source: str, name: str = "", *, by: User | None = None) -> tuple[Job, bool]:
    """``source`` is a name at a registry or hub, or an address; ``name`` is what it is called
    here, by default as at its source. Returns the job and whether it is new. Raises
    `BadModelName`, `FetchRefused` and `JobRefused`."""
    source = source.strip()
    if url.is_url(source):
        if len(source) > _SOURCE_CHARS:
            raise states.JobRefused(_("The address is too long."))
        target = url.model_name(source)
        target = name.strip() or target
    else:
        source = names.normalise(source)
        target = name.strip() or source
    return states.ask(JobKind.DOWNLOAD, target, source, by=by)


def update(model: ModelName, *, by: User | None = None) -> tuple[Job, bool]:
    """The newest version of a model from where it came. Raises `JobRefused`."""
    if not model.origin:
        raise states.JobRefused(_("This model was brought in by hand: it has no source to ask."))
    return states.ask(JobKind.DOWNLOAD, model.name, model.origin, by=by)


def import_file(file: str, name: str = "", *, by: User | None = None) -> tuple[Job, bool]:
    """``file`` is in the inbox; ``name`` is for a GGUF file, a bundle has names of its own.
    Raises `NotFound`, `BadModelName`, `BadBundle` and `JobRefused`."""
    path = inbox.find(file)
    if bundle.is_bundle(path):
        name = bundle.read_manifest(path).models[0].name
    return states.ask(JobKind.IMPORT, name or url.fitting(file), f"{importing.FILE}{file}", by=by)


def import_upload(id: UUID, name: str, *, by: User) -> tuple[Job, bool]:
    """Raises also `UploadRefused` while pieces are missing."""
    upload = inbox.whole(id, str(by.pk))
    path = inbox.path_of(id)
    if bundle.is_bundle(path):
        name = bundle.read_manifest(path).models[0].name
    return states.ask(
        JobKind.IMPORT,
        name or url.fitting(upload.name),
        f"{importing.UPLOAD}{id}",
        options={"file": upload.name},
        by=by,
    )


def quantize(source: str, kind: str, name: str, *, by: User | None = None) -> tuple[Job, bool]:
    """``name`` becomes the model ``source`` with weights of ``kind`` (one of `KINDS`). Raises
    `ModelMissing`, `BadModelName`, `QuantizeRefused` and `JobRefused`."""
    model = catalogue.require(source)
    kind = kind.upper()
    if kind not in KINDS:
        reason = _("There is no quantization %(kind)r here. Choose one of: %(kinds)s.")
        raise QuantizeRefused(str(reason) % {"kind": kind, "kinds": ", ".join(KINDS)})
    if names.normalise(name).lower() == model.name.lower():
        raise states.JobRefused(_("Give the new model another name."))
    return states.ask(JobKind.QUANTIZE, name, model.name, options={"kind": kind}, by=by)


def export(wanted: list[str], *, by: User | None = None) -> tuple[Job, bool]:
    """A bundle of the models ``wanted``. Raises `ModelMissing`."""
    found = [catalogue.require(name).name for name in wanted]
    source = ", ".join(found)[:1000]
    return states.ask(JobKind.EXPORT, found[0], source, options={"names": found}, by=by)
