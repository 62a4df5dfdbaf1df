"""The JSON of conversations that the server sends to the page, over HTTP and the socket.

The one source of these shapes: `manage.py docs` writes them as TypeScript to
``static/src/lib/wire.d.ts``, against which the page's scripts are checked. IDs are UUIDs, times are
ISO 8601.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypedDict

import msgspec
from msgspec import Meta

from chatsite.engine.contract.messages import OutputSyntax

Role = Literal["system", "user", "assistant"]
GenerationState = Literal["queued", "running", "done", "failed", "cancelled", "interrupted"]


class ErrorShape(TypedDict):
    code: str
    message: str
    permanent: bool


# `ChatsiteError.as_dict`: the shape with further keys, the details of the error.
ErrorBody = Annotated[dict[str, Any], Meta(extra={"shape": ErrorShape})]


class Folder(msgspec.Struct, frozen=True):
    id: str
    name: str


class Conversation(msgspec.Struct, frozen=True):
    """A conversation without its messages.

    ``head`` is the last message of the shown branch. ``keep_latest``: the oldest messages may be
    left out of prompts.
    """

    id: str
    title: str
    head: str | None
    keep_latest: bool
    folder: str | None
    pinned: bool
    archived: bool
    created_at: str
    updated_at: str


Sending = Literal["whole", "pages", "matches"]


class Attachment(msgspec.Struct, frozen=True):
    """An attached document without its text.

    ``size`` is in bytes. ``tokens`` are those of the text for the model that was chosen at the
    upload. ``notes`` say what could not be read or was guessed. Of a message: ``send`` is what is
    sent of it, ``send_pages`` the chosen page ranges.
    """

    id: str
    name: str
    size: int
    kind: str
    pages: int | None
    characters: int
    tokens: int | None
    notes: list[str]
    send: Sending = "whole"
    send_pages: str = ""


class AssistantFace(msgspec.Struct, frozen=True):
    id: str
    name: str
    icon: str


class Usage(msgspec.Struct, frozen=True):
    prompt_tokens: int | None
    cached_tokens: int | None
    completion_tokens: int | None


class CitedDocument(msgspec.Struct, frozen=True):
    """A document with passages in a prompt.

    ``state``: it may be read now, the user lost access to it, or it was deleted; then its name is
    not known. ``pages`` is its number of pages, null if it has none.
    """

    id: str
    kind: Literal["document", "attachment"]
    name: str
    pages: int | None
    state: Literal["available", "denied", "deleted"]


class CitedPassage(msgspec.Struct, frozen=True):
    """A passage under its number. ``document`` is the id in `Sources.documents`.

    ``passage`` is null if it can't be shown any more: the document has changed or is not available.
    """

    number: int
    document: str
    page: int | None
    last_page: int | None
    passage: int | None


class Sources(msgspec.Struct, frozen=True):
    """The passages that an answer was given, and how they were found.

    ``mode``: by words, by words and vectors, or also ordered by a reranker model. ``missing`` says
    why not better: ``no_model``, ``engine_unavailable``, ``index_building`` or ``language`` (no
    vectors), ``failed`` (nothing was searched), ``no_room`` (no passage fits in the context),
    ``spread`` (nothing matched an attachment: passages of all of it). ``searched`` counts
    documents. ``removed`` counts the numbers removed from the answer that were none of a passage.
    """

    mode: str
    missing: str
    searched: int
    documents: list[CitedDocument]
    passages: list[CitedPassage]
    removed: int


class Quoted(msgspec.Struct, frozen=True):
    """A cited passage in its document.

    ``start`` and ``end`` are characters of the document's text, ``text`` is that range.
    ``changed``: the document has another version now; then the passage itself is not known.
    """

    kind: Literal["document", "attachment"]
    id: str
    name: str
    file_kind: str
    pages: int | None
    page: int | None
    last_page: int | None
    start: int
    end: int
    text: str
    heading: str
    changed: bool


class Generation(msgspec.Struct, frozen=True):
    """The generation of an answer.

    ``sources`` are the passages of documents that it was given; null: no documents were searched.
    ``left_out`` counts messages that did not fit in the prompt. ``timings`` are in milliseconds.
    """

    id: str
    state: GenerationState
    model: str
    assistant: AssistantFace | None
    finish_reason: str
    error: ErrorBody | None
    usage: Usage
    left_out: int
    timings: dict[str, float]
    syntax: OutputSyntax
    queued_at: str
    started_at: str | None
    finished_at: str | None
    sources: Sources | None = None


class Message(msgspec.Struct, frozen=True):
    """Only answers of this product have a ``generation``."""

    id: str
    conversation: str
    parent: str | None
    role: Role
    content: str
    created_at: str
    attachments: list[Attachment]
    generation: Generation | None


class Page(msgspec.Struct, frozen=True):
    conversations: list[Conversation]
    more: bool


class FirstPage(Page, frozen=True):
    """The first page of conversations, with what every view shows.

    ``archived`` says whether the archive has entries, ``counts`` has the number of conversations by
    folder and of the archive.
    """

    pinned: list[Conversation]
    folders: list[Folder]
    archived: bool
    counts: dict[str, int]


# ID, index of the parent in the list or -1, kind (`history.Shape.as_json`).
Node = tuple[str, int, int]


class CollectionFace(msgspec.Struct, frozen=True):
    """A collection of documents that is searched for a conversation's questions."""

    id: str
    name: str


class Opening(msgspec.Struct, frozen=True):
    """A conversation, its tree, and the last messages of the shown branch.

    ``collections`` are those attached to it that the user may read now.
    """

    conversation: Conversation
    tree: list[Node]
    messages: list[Message]
    collections: list[CollectionFace] = []


class Messages(msgspec.Struct, frozen=True):
    messages: list[Message]


class Moved(msgspec.Struct, frozen=True):
    """A changed conversation, and the folder that it was in."""

    id: str
    folder: str | None


class Model(msgspec.Struct, frozen=True, omit_defaults=True):
    """A model that the user may choose.

    ``size`` is in bytes. ``custom``: it has its own configuration. ``base``: it only continues
    text.
    """

    name: str
    size: int
    custom: bool
    state: Literal["tuning", "loading", "ready", "waiting", "failed", "unreachable", "unloaded"]
    base: bool = False


class Assistant(AssistantFace, frozen=True):
    """An assistant that the user may choose. ``own``: it is the user's, not the organization's."""

    description: str
    model: str
    suggestions: list[str]
    own: bool


class Quota(msgspec.Struct, frozen=True):
    """A quota of the user: ``text`` says how much per which period.

    ``shared``: with all users of a group. ``reserved`` is held by open requests. From ``warn_at``
    used on, the user is warned. ``renews_at`` is ISO 8601.
    """

    text: str
    shared: bool
    amount: int
    used: int
    reserved: int
    left: int
    warn_at: int
    renews_at: str


class Quotas(msgspec.Struct, frozen=True):
    quotas: list[Quota]


class Models(msgspec.Struct, frozen=True):
    """``features`` are those that the user may use."""

    models: list[Model]
    assistants: list[Assistant]
    default_model: str | None
    features: list[str]
    quotas: list[Quota]


class BootUser(msgspec.Struct, frozen=True):
    name: str
    is_staff: bool


class BootLimits(msgspec.Struct, frozen=True):
    message_chars: int
    attachment_mb: int
    attachments: int


class BootUrls(msgspec.Struct, frozen=True):
    """URLs for the page. ``catalogue`` is empty for users who are not staff."""

    logout: str
    login: str
    admin: str
    set_language: str
    catalogue: str


class AdminReadNotice(msgspec.Struct, frozen=True):
    """A read by an administrator that its owner has not confirmed; null: the chat is deleted."""

    id: str
    reader: str
    reason: str
    created_at: str
    conversation: str | None
    title: str


class BootPrivacy(msgspec.Struct, frozen=True):
    """Rules on what is kept.

    ``temporary_minutes`` after an answer of a temporary chat its text is deleted from the server.
    ``retention_days`` 0: no limit.
    """

    temporary: Literal["allowed", "forced", "forbidden"]
    temporary_minutes: int
    retention_days: int
    reads: list[AdminReadNotice]


class Boot(msgspec.Struct, frozen=True):
    """The data that the chat page is rendered with, including `FirstPage` and `Models`.

    ``error`` is why the conversation in the URL can't be shown.
    """

    user: BootUser
    csrf: str
    limits: BootLimits
    urls: BootUrls
    privacy: BootPrivacy
    conversations: list[Conversation]
    more: bool
    pinned: list[Conversation]
    folders: list[Folder]
    archived: bool
    counts: dict[str, int]
    models: list[Model]
    assistants: list[Assistant]
    default_model: str | None
    features: list[str]
    quotas: list[Quota]
    conversation: Opening | None
    error: ErrorBody | None
