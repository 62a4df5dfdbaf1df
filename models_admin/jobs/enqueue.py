"""Creation of jobs from user input."""

from __future__ import annotations

from uuid import UUID

from django.utils.translation import gettext_lazy as _

from chatsite.accounts.models import User
from chatsite.engine.quantize import KINDS
from chatsite.errors import worded
from models_admin import catalogue, names, sources
from models_admin.config import custom
from models_admin.config.modelfile import Modelfile
from models_admin.jobs import bundle, incoming, requests, states
from models_admin.jobs.quantize import QuantizeRefused
from models_admin.models import Job, ModelName
from models_admin.sources import url
from models_admin.store import blobs


def download(source: str, name: str = "", *, by: User | None = None) -> tuple[Job, bool]:
    """Create a job that downloads ``source`` as ``name``; return it and whether it is new.

    ``source`` is a registry or hub name, or a URL; ``name`` defaults to the name at the source.
    Raises `BadModelName`, `JobRefused`, and `FetchRefused` for a source that is not allowed, before
    a job is created.
    """
    source = source.strip()
    if url.is_url(source):
        if len(source) > requests.SOURCE_CHARS:
            raise states.JobRefused(_("The address is too long."))
        target = url.model_name(source)
        target = name.strip() or target
    else:
        source = names.normalise(source)
        target = name.strip() or source
    sources.check(source)
    return states.ask(requests.Download(source), target, by=by)


def require_file(model: ModelName) -> None:
    """Raise `JobRefused` for a model of remote engines, which has no file here."""
    if model.version.remote:
        raise states.JobRefused(
            worded(_("%s is computed by a remote engine: there is no file on this server."), model)
        )


def update(model: ModelName, *, by: User | None = None) -> tuple[Job, bool]:
    """Create a job that downloads the newest version of ``model``. Raises `JobRefused`."""
    require_file(model)
    if not model.origin:
        raise states.JobRefused(
            _("This model was imported manually, so there is no source to check.")
        )
    return states.ask(requests.Download(model.origin), model.name, by=by)


def import_file(
    file: str, name: str = "", *, available: bool = True, by: User | None = None
) -> tuple[Job, bool]:
    """Create a job that imports ``file`` of the import folder as ``name``.

    ``name`` defaults to the name in the file's metadata; a bundle has its own names. New models are
    ``available`` to users or hidden. Raises `ImportFileMissing`, `BadModelName`, `BadBundle` and
    `JobRefused`.
    """
    path = incoming.find(file)
    if bundle.is_bundle(path):
        name = bundle.read_manifest(path).models[0].name
    name = name or incoming.suggested_name(path)
    return states.ask(requests.ImportFile(file, available), name, by=by)


def import_upload(id: UUID, name: str, *, available: bool = True, by: User) -> tuple[Job, bool]:
    """Create a job that imports an upload as ``name``; see `import_file`.

    Also raises `UploadMissing`, and `UploadRefused` if it is incomplete.
    """
    upload = incoming.whole(id, str(by.pk))
    path = incoming.path_of(id)
    if bundle.is_bundle(path):
        name = bundle.read_manifest(path).models[0].name
    request = requests.ImportUpload(id, upload.name, available)
    return states.ask(request, name or incoming.suggested_name(path, upload.name), by=by)


def quantize(
    source: str, kind: str, name: str, *, file: Modelfile | None = None, by: User | None = None
) -> tuple[Job, bool]:
    """Create a job that creates ``name`` from the model ``source`` with weights of ``kind``.

    ``kind`` is one of `KINDS`; ``file`` gives a configuration. Raises `ModelMissing`,
    `BadModelName`, `QuantizeRefused` and `JobRefused`.
    """
    model = catalogue.require(source)
    require_file(model)
    quantization = _kind(kind)
    if names.normalise(name).lower() == model.name.lower():
        raise states.JobRefused(_("Give the new model another name."))
    configuration = custom.described(file, model) if file else None
    return states.ask(requests.Quantize(model.name, quantization, configuration), name, by=by)


def create(
    name: str, file: Modelfile, files: dict[str, str], kind: str = "", *, by: User | None = None
) -> tuple[Job, bool]:
    """Create a job that creates ``name`` from ``file`` with the weights of ``files``.

    ``files`` maps client file names to digests of uploaded blobs. A ``kind`` has the weights
    quantized. Raises `BadModelName`, `BlobMissing`, `BlobRefused`, `QuantizeRefused`, `JobRefused`
    and the errors of `custom.described`.
    """
    for called, digest in files.items():
        blobs.require_gguf(called, digest)
    request = requests.CreateModel(
        blobs=tuple(files.values()),
        configuration=custom.described(file, None),
        quantization=_kind(kind) if kind else "",
    )
    return states.ask(request, name, by=by)


def _kind(written: str) -> str:
    kind = written.upper()
    if kind not in KINDS:
        reason = _("Unknown quantization %(kind)r. Choose one of: %(kinds)s.")
        raise QuantizeRefused(worded(reason, {"kind": kind, "kinds": ", ".join(KINDS)}))
    return kind


def export(wanted: list[str], *, by: User | None = None) -> tuple[Job, bool]:
    """Create a job that writes the models ``wanted`` to one bundle.

    Raises `ModelMissing`, or `JobRefused` for a model of remote engines.
    """
    models = [catalogue.require(name) for name in wanted]
    for model in models:
        require_file(model)
    found = tuple(model.name for model in models)
    return states.ask(requests.Export(found), found[0], by=by)
