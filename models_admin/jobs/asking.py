"""From what people write to a job."""

from __future__ import annotations

from typing import Any, Final
from uuid import UUID

import msgspec
from django.utils.translation import gettext_lazy as _

from chatsite.accounts.models import User
from chatsite.engine.quantize import KINDS
from models_admin import blobs, bundle, catalogue, custom, inbox, names
from models_admin.jobs import importing, states
from models_admin.modelfile import Modelfile
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


def quantize(
    source: str, kind: str, name: str, *, file: Modelfile | None = None, by: User | None = None
) -> tuple[Job, bool]:
    """``name`` becomes the model ``source`` with weights of ``kind`` (one of `KINDS`), and what
    ``file`` says in its configuration. Raises `ModelMissing`, `BadModelName`, `QuantizeRefused`
    and `JobRefused`."""
    model = catalogue.require(source)
    options: dict[str, Any] = {"kind": _kind(kind)}
    if names.normalise(name).lower() == model.name.lower():
        raise states.JobRefused(_("Give the new model another name."))
    if file:
        options["configuration"] = msgspec.to_builtins(custom.described(file, model))
    return states.ask(JobKind.QUANTIZE, name, model.name, options=options, by=by)


def create(
    name: str, file: Modelfile, files: dict[str, str], kind: str = "", *, by: User | None = None
) -> tuple[Job, bool]:
    """``name`` becomes what ``file`` says, with the weights of ``files``: names, as their sender
    has them, with digests of what was sent; quantized where a ``kind`` is given. Raises
    `BadModelName`, `BlobMissing`, `BlobRefused`, `QuantizeRefused` and `JobRefused`, and as
    `custom.described` does."""
    for called, digest in files.items():
        blobs.require_gguf(called, digest)
    options = {
        "files": list(files.values()),
        "configuration": msgspec.to_builtins(custom.described(file, None)),
        "kind": _kind(kind) if kind else "",
    }
    source = f"{importing.BLOB}{options['files'][0]}"
    return states.ask(JobKind.IMPORT, name, source, options=options, by=by)


def _kind(written: str) -> str:
    kind = written.upper()
    if kind not in KINDS:
        reason = _("There is no quantization %(kind)r here. Choose one of: %(kinds)s.")
        raise QuantizeRefused(str(reason) % {"kind": kind, "kinds": ", ".join(KINDS)})
    return kind


def export(wanted: list[str], *, by: User | None = None) -> tuple[Job, bool]:
    """A bundle of the models ``wanted``. Raises `ModelMissing`."""
    found = [catalogue.require(name).name for name in wanted]
    source = ", ".join(found)[:1000]
    return states.ask(JobKind.EXPORT, found[0], source, options={"names": found}, by=by)
