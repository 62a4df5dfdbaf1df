"""Job requests: one struct per kind of work, stored in `Job.options`.

`Job.source` holds `JobRequest.source_text`, for display and for queries; it is never parsed.
"""

from __future__ import annotations

from typing import Any, ClassVar, Final
from uuid import UUID

import msgspec

from models_admin.config.custom import Configuration
from models_admin.models import Job, JobKind

SOURCE_CHARS: Final = 1000  # of `Job.source`
_DIGEST_CHARS_SHOWN: Final = 12


class JobRequest(msgspec.Struct, frozen=True, tag_field="type"):
    """Base of all requests. Equal requests for the same target are the same work."""

    kind: ClassVar[JobKind]

    @property
    def source_text(self) -> str:
        """Return the source of the model as it is shown to users."""
        raise NotImplementedError

    @property
    def temporary_files(self) -> frozenset[str]:
        """Return the uploads (by ID) and blobs (by digest) that are kept until the job succeeds."""
        return frozenset()


class Download(JobRequest, frozen=True, tag="download"):
    """A download. ``source`` is a registry or hub name, or a URL; see `sources.resolve`."""

    kind: ClassVar[JobKind] = JobKind.DOWNLOAD
    source: str

    @property
    def source_text(self) -> str:
        return self.source


class ImportFile(JobRequest, frozen=True, tag="import_file"):
    """An import of ``file`` from the import folder; the model is made ``available`` or hidden."""

    kind: ClassVar[JobKind] = JobKind.IMPORT
    file: str
    available: bool = True

    @property
    def source_text(self) -> str:
        return self.file


class ImportUpload(JobRequest, frozen=True, tag="import_upload"):
    """An import of an upload; ``file`` is the file name sent by the browser."""

    kind: ClassVar[JobKind] = JobKind.IMPORT
    upload: UUID
    file: str
    available: bool = True

    @property
    def source_text(self) -> str:
        return self.file

    @property
    def temporary_files(self) -> frozenset[str]:
        return frozenset({str(self.upload)})


class CreateModel(JobRequest, frozen=True, tag="create"):
    """A model from uploaded ``blobs`` (SHA-256 each).

    An empty ``quantization`` keeps the weights.
    """

    kind: ClassVar[JobKind] = JobKind.IMPORT
    blobs: tuple[str, ...]
    configuration: Configuration
    quantization: str = ""

    @property
    def source_text(self) -> str:
        return ", ".join(f"sha256:{digest[:_DIGEST_CHARS_SHOWN]}" for digest in self.blobs)

    @property
    def temporary_files(self) -> frozenset[str]:
        return frozenset(self.blobs)


class Quantize(JobRequest, frozen=True, tag="quantize"):
    """A quantization of the installed model ``source``.

    Without a ``configuration``, the configuration of ``source`` is kept.
    """

    kind: ClassVar[JobKind] = JobKind.QUANTIZE
    source: str
    quantization: str
    configuration: Configuration | None = None

    @property
    def source_text(self) -> str:
        return self.source


class Export(JobRequest, frozen=True, tag="export"):
    """A bundle of the installed models ``names``."""

    kind: ClassVar[JobKind] = JobKind.EXPORT
    names: tuple[str, ...]

    @property
    def source_text(self) -> str:
        return ", ".join(self.names)


AnyRequest = Download | ImportFile | ImportUpload | CreateModel | Quantize | Export


def of(job: Job) -> AnyRequest:
    """Return the decoded request of ``job``. Raises `msgspec.ValidationError`."""
    return decode(job.options)


def decode(options: dict[str, Any]) -> AnyRequest:
    request: AnyRequest = msgspec.convert(options, AnyRequest)
    return request


def encode(request: AnyRequest) -> dict[str, Any]:
    encoded: dict[str, Any] = msgspec.to_builtins(request)
    return encoded
