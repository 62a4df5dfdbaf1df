"""JSON shapes of collections and documents, for the page and for programs."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

OwnerKind = Literal["user", "group"]
Name = Annotated[str, Meta(min_length=1, max_length=100)]
Path = Annotated[str, Meta(min_length=1, max_length=500)]
Digest = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]


class Owner(msgspec.Struct, frozen=True):
    kind: OwnerKind
    name: str


class Collection(msgspec.Struct, frozen=True):
    """``open`` documents are still being read, ``failed`` ones could not be."""

    id: str
    name: str
    description: str
    owner: Owner
    may_write: bool
    may_manage: bool
    shared: bool
    documents: int
    bytes: int
    open: int
    failed: int
    updated_at: str


class Folder(msgspec.Struct, frozen=True):
    """``documents`` counts those of folders within it too."""

    path: str
    documents: int


class Document(msgspec.Struct, frozen=True):
    id: str
    path: str
    name: str
    size: int
    kind: str
    title: str
    pages: int | None
    state: str
    error: dict[str, Any] | None
    notes: list[str]
    version: int
    source_url: str
    updated_at: str
    used: int


class Share(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    kind: OwnerKind
    id: int
    name: str = ""
    may_write: bool = False


class Upload(msgspec.Struct, frozen=True):
    """``unchanged``: the document has this content already, and no pieces are expected."""

    id: str
    version: int
    piece_bytes: int
    unchanged: bool


class SyncPlan(msgspec.Struct, frozen=True):
    """Paths that differ from a manifest; nothing is changed yet."""

    id: str
    added: list[str]
    modified: list[str]
    deleted: list[str]
    unchanged: int


# Requests.


class NewCollection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: Name
    description: Annotated[str, Meta(max_length=2000)] = ""
    group: int | None = None


class CollectionChange(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: Name | None = None
    description: Annotated[str, Meta(max_length=2000)] | None = None


class NewDocument(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    path: Path
    size: Annotated[int, Meta(ge=0)]
    sha256: Digest | None = None


class Move(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    path: Path


class Finish(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    version: Annotated[int, Meta(ge=1)]


class Shares(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    shares: Annotated[list[Share], Meta(max_length=500)]


class ManifestEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    path: Path
    sha256: Digest
    size: Annotated[int, Meta(ge=0)] = 0


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    manifest: Annotated[list[ManifestEntry], Meta(max_length=50_000)]


class Question(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    query: Annotated[str, Meta(min_length=1, max_length=4000)]
    collections: Annotated[list[str], Meta(max_length=100)] = []
    limit: Annotated[int, Meta(ge=1, le=50)] = 8
