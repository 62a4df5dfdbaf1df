"""Collections of documents, who may use them, and the passages that answers are built on."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

from django.conf import settings
from django.contrib.auth.models import Group
from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from chatsite.text_terms import TermsField

if TYPE_CHECKING:
    from chatsite.accounts.models import User


def _one_of(first: str, second: str) -> Q:
    """Return the condition that exactly one of two nullable fields is set."""
    return Q(**{f"{first}__isnull": True}) ^ Q(**{f"{second}__isnull": True})


class CollectionQuerySet(models.QuerySet["Collection"]):
    def readable_by(self, user: User) -> CollectionQuerySet:
        """Return the collections that ``user`` owns, by group or alone, or that are shared."""
        return self.filter(self._owned(user) | self._shared(user))

    def writable_by(self, user: User) -> CollectionQuerySet:
        return self.filter(self._owned(user) | self._shared(user, may_write=True))

    def managed_by(self, user: User) -> CollectionQuerySet:
        """Return the collections that ``user`` may share, rename and delete: their own."""
        return self.filter(self._owned(user))

    @staticmethod
    def _owned(user: User) -> Q:
        return Q(owner=user) | Q(group__in=user.groups.values("pk"))

    @staticmethod
    def _shared(user: User, **conditions: bool) -> Q:
        shares = Share.objects.filter(
            Q(user=user) | Q(group__in=user.groups.values("pk")), **conditions
        )
        return Q(pk__in=shares.values("collection"))


class Collection(models.Model):
    """Documents of a user or of a group.

    The owner reads, changes, shares and deletes it, and so does each member of an owning group.
    Others read or write as their shares say.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, null=True, blank=True, related_name="+"
    )
    group = models.ForeignKey(
        Group, on_delete=models.CASCADE, null=True, blank=True, related_name="+"
    )
    name = models.CharField(_("name"), max_length=100)
    description = models.TextField(_("description"), blank=True)
    created_at = models.DateTimeField(default=timezone.now)
    updated_at = models.DateTimeField(default=timezone.now)
    # Incremented with each change of vectors: processes keep a copy of their codes.
    vectors_version = models.PositiveBigIntegerField(default=0, db_default=0, editable=False)

    objects = CollectionQuerySet.as_manager()

    class Meta:
        verbose_name = _("collection")
        verbose_name_plural = _("collections")
        ordering = ["name", "pk"]
        constraints = [
            models.CheckConstraint(condition=_one_of("owner", "group"), name="collection_owner")
        ]

    def __str__(self) -> str:
        return self.name


class Share(models.Model):
    """A user or group that may read a collection or, with ``may_write``, change its documents."""

    collection = models.ForeignKey(Collection, on_delete=models.CASCADE, related_name="shares")
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, null=True, blank=True, related_name="+"
    )
    group = models.ForeignKey(
        Group, on_delete=models.CASCADE, null=True, blank=True, related_name="+"
    )
    may_write = models.BooleanField(default=False)
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints = [
            models.CheckConstraint(condition=_one_of("user", "group"), name="share_with_one"),
            models.UniqueConstraint(fields=["collection", "user"], name="share_user_once"),
            models.UniqueConstraint(fields=["collection", "group"], name="share_group_once"),
        ]

    def __str__(self) -> str:
        return f"{self.collection_id} {self.user_id or self.group_id}"


class DocumentState(models.TextChoices):
    """``UPLOADING`` → ``QUEUED`` → ``READING`` → ``READY`` or ``FAILED``.

    A document that is ready can be found by its words; its vectors may follow (`Vectors`). New
    content returns it to ``QUEUED``; its earlier passages serve until the new ones replace them.
    """

    UPLOADING = "uploading", _("Uploading")
    QUEUED = "queued", _("Queued")
    READING = "reading", _("Reading")
    READY = "ready", _("Ready")
    FAILED = "failed", _("Failed")


class Document(models.Model):
    """A file of a collection.

    ``path`` is relative to the collection, with ``/`` between folders; folders exist by the paths
    of their documents. ``sha256`` is that of the current content, ``version`` counts contents.
    While a worker reads it, the document is leased until ``leased_until`` under ``attempt``.
    ``error`` is ``{"code", "message"}`` in the form of `ChatsiteError.as_dict`.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    collection = models.ForeignKey(Collection, on_delete=models.CASCADE, related_name="documents")
    path = models.CharField(_("path"), max_length=500)
    size = models.PositiveBigIntegerField(_("size in bytes"))
    sha256 = models.CharField(max_length=64)
    version = models.PositiveIntegerField(default=1)
    # The index has its former path: `ingest.index_names` renews it.
    renamed = models.BooleanField(default=False, db_default=False, editable=False)
    source_url = models.URLField(_("web address"), max_length=1000, blank=True)
    added_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, blank=True, related_name="+"
    )

    state = models.CharField(
        max_length=10, choices=DocumentState.choices, default=DocumentState.QUEUED
    )
    error = models.JSONField(null=True, blank=True)
    attempt = models.PositiveIntegerField(default=0)
    leased_until = models.DateTimeField(null=True, blank=True)
    not_before = models.DateTimeField(null=True, blank=True)

    kind = models.CharField(max_length=10, blank=True)
    title = models.CharField(_("title"), max_length=300, blank=True)
    pages = models.PositiveIntegerField(null=True, blank=True)
    # What could not be read or was guessed: `[code, values]` of `documents.notes`.
    notes = models.JSONField(default=list, blank=True)
    characters = models.PositiveIntegerField(default=0)

    uses = models.PositiveIntegerField(default=0)
    used_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(default=timezone.now)
    updated_at = models.DateTimeField(default=timezone.now)

    class Meta:
        verbose_name = _("document")
        verbose_name_plural = _("documents")
        ordering = ["path", "pk"]
        constraints = [
            models.UniqueConstraint(fields=["collection", "path"], name="document_path_once")
        ]
        indexes = [
            models.Index(
                fields=["created_at"],
                condition=Q(state__in=["queued", "reading"]),
                name="document_open",
            )
        ]

    def __str__(self) -> str:
        return str(self.id)


class DocumentText(models.Model):
    """The text of a document. ``page_starts`` has the first character of each page, if known."""

    document = models.OneToOneField(
        Document, on_delete=models.CASCADE, primary_key=True, related_name="content"
    )
    text = models.TextField()
    page_starts = models.JSONField(default=list)

    def __str__(self) -> str:
        return str(self.document_id)


class DocumentPiece(models.Model):
    """A part of the file, ``number`` counts from 0. Pieces of an unfinished upload have a name.

    ``version`` is the content that the piece belongs to: those of an earlier one are deleted when
    the new one is complete.
    """

    document = models.ForeignKey(Document, on_delete=models.CASCADE, related_name="pieces")
    version = models.PositiveIntegerField()
    number = models.PositiveIntegerField()
    data = models.BinaryField()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["document", "version", "number"], name="document_piece_once"
            )
        ]

    def __str__(self) -> str:
        return f"{self.document_id} {self.version} {self.number}"


class FolderSync(models.Model):
    """The manifest of a folder that a collection is made equal to.

    ``paths`` has the SHA-256 of each file. Nothing is deleted before all files of the manifest are
    in the collection; a sync that is not finished leaves the collection with more than it had.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    collection = models.ForeignKey(Collection, on_delete=models.CASCADE, related_name="syncs")
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, null=True, related_name="+"
    )
    paths = models.JSONField()
    created_at = models.DateTimeField(default=timezone.now)

    def __str__(self) -> str:
        return str(self.id)


class EmbeddingIndex(models.Model):
    """The vectors of one embedding model, identified by the digest of its file.

    ``BUILDING`` → ``ACTIVE`` → deleted. While one is built, the active one serves. ``prefixes``
    are what the model wants before a question and before a passage.
    """

    class State(models.TextChoices):
        BUILDING = "building", _("Building")
        ACTIVE = "active", _("Active")

    model = models.CharField(_("model"), max_length=255)
    digest = models.CharField(max_length=64, unique=True)
    dimensions = models.PositiveIntegerField()
    state = models.CharField(max_length=10, choices=State.choices, default=State.BUILDING)
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["state"], condition=Q(state="active"), name="embedding_index_one_active"
            )
        ]

    def __str__(self) -> str:
        return f"{self.model} {self.state}"


class PassageVectors(models.Model):
    """The vectors of all passages of a document or attachment in one index.

    ``data`` is a matrix of float16, little-endian, one row of unit length for each passage in the
    order of their numbers. One row of the table for all: a search reads them in sequence, and they
    are deleted with their document.
    """

    index = models.ForeignKey(EmbeddingIndex, on_delete=models.CASCADE, related_name="vectors")
    document = models.ForeignKey(
        Document, on_delete=models.CASCADE, null=True, blank=True, related_name="vectors"
    )
    attachment = models.ForeignKey(
        "attachments.Attachment",
        on_delete=models.CASCADE,
        null=True,
        blank=True,
        related_name="vectors",
    )
    rows = models.PositiveIntegerField()
    data = models.BinaryField()

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=_one_of("document", "attachment"), name="vectors_of_one"
            ),
            models.UniqueConstraint(fields=["document", "index"], name="vectors_of_document_once"),
            models.UniqueConstraint(
                fields=["attachment", "index"], name="vectors_of_attachment_once"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.document_id or self.attachment_id} {self.index_id}"


class VectorCodes(models.Model):
    """The signs of the numbers of vectors, one bit each, row by row in whole bytes.

    A search compares these for all that is in scope, and the vectors of the nearest few exactly. In
    a table of their own, so that reading them reads nothing else.
    """

    vectors = models.OneToOneField(
        PassageVectors, on_delete=models.CASCADE, primary_key=True, related_name="codes"
    )
    data = models.BinaryField()

    def __str__(self) -> str:
        return str(self.pk)


class PassageTerms(models.Model):
    """The terms of a passage, with those of its headings and of its document's name.

    Triggers of a migration keep an index of them: FTS5 on SQLite; GIN on PostgreSQL, with the
    number of passages that have a term in the table ``knowledge_term``.
    """

    passage = models.OneToOneField(
        "Passage", on_delete=models.CASCADE, primary_key=True, related_name="+"
    )
    terms = TermsField()

    def __str__(self) -> str:
        return str(self.passage_id)


class Passage(models.Model):
    """A part of the text of a document, or of an attachment that does not fit into the context.

    ``start`` and ``end`` are characters of that text; ``page`` and ``last_page`` count from 1 and
    are None where the format has no pages. ``heading`` is the path of headings above the passage.
    """

    document = models.ForeignKey(
        Document, on_delete=models.CASCADE, null=True, blank=True, related_name="passages"
    )
    attachment = models.ForeignKey(
        "attachments.Attachment",
        on_delete=models.CASCADE,
        null=True,
        blank=True,
        related_name="passages",
    )
    number = models.PositiveIntegerField()
    heading = models.CharField(max_length=300, blank=True)
    text = models.TextField()
    start = models.PositiveIntegerField()
    end = models.PositiveIntegerField()
    page = models.PositiveIntegerField(null=True, blank=True)
    last_page = models.PositiveIntegerField(null=True, blank=True)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=_one_of("document", "attachment"), name="passage_of_one"
            ),
            models.UniqueConstraint(fields=["document", "number"], name="passage_of_document_once"),
            models.UniqueConstraint(
                fields=["attachment", "number"], name="passage_of_attachment_once"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.document_id or self.attachment_id} {self.number}"


class ConversationCollection(models.Model):
    """A collection that the questions of a conversation are answered from."""

    conversation = models.ForeignKey(
        "chat.Conversation", on_delete=models.CASCADE, related_name="collections"
    )
    collection = models.ForeignKey(Collection, on_delete=models.CASCADE, related_name="+")

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["conversation", "collection"], name="conversation_collection_once"
            )
        ]

    def __str__(self) -> str:
        return f"{self.conversation_id} {self.collection_id}"


class AssistantCollection(models.Model):
    """A collection of an assistant. It serves those users only who may read it themselves."""

    assistant = models.ForeignKey(
        "assistants.Assistant", on_delete=models.CASCADE, related_name="collections"
    )
    collection = models.ForeignKey(Collection, on_delete=models.CASCADE, related_name="+")

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["assistant", "collection"], name="assistant_collection_once"
            )
        ]

    def __str__(self) -> str:
        return f"{self.assistant_id} {self.collection_id}"


class Retrieval(models.Model):
    """The search for one answer: how it was done, and the passages that it may cite.

    It belongs to the answer's message, not to its generation: a continued answer keeps its
    passages, and they are deleted with it. ``mode`` and ``missing`` are those of
    `retrieve.Result`; ``missing`` may also be ``failed`` (nothing could be searched), ``no_room``
    (no passage fits into the context) or ``spread`` (nothing matched an attachment: passages of all
    of it). ``searched`` counts documents, ``considered`` passages before the choice by room.
    """

    message = models.OneToOneField(
        "chat.Message", on_delete=models.CASCADE, primary_key=True, related_name="retrieval"
    )
    mode = models.CharField(max_length=10)
    missing = models.CharField(max_length=20, blank=True)
    searched = models.PositiveIntegerField(default=0)
    considered = models.PositiveIntegerField(default=0)
    created_at = models.DateTimeField(default=timezone.now)

    def __str__(self) -> str:
        return str(self.message_id)


class Citation(models.Model):
    """A passage under its number in an answer.

    It outlives its passage and its document, so that a mark can say that they are gone; it holds
    neither name nor text. ``version`` is the document's at the time, ``start`` and ``end`` are
    characters of its text.
    """

    retrieval = models.ForeignKey(Retrieval, on_delete=models.CASCADE, related_name="citations")
    number = models.PositiveSmallIntegerField()
    passage = models.ForeignKey(
        Passage, on_delete=models.SET_NULL, null=True, blank=True, related_name="+"
    )
    document = models.ForeignKey(
        Document, on_delete=models.SET_NULL, null=True, blank=True, related_name="+"
    )
    attachment = models.ForeignKey(
        "attachments.Attachment", on_delete=models.SET_NULL, null=True, blank=True, related_name="+"
    )
    version = models.PositiveIntegerField(default=1)
    start = models.PositiveIntegerField()
    end = models.PositiveIntegerField()
    page = models.PositiveIntegerField(null=True, blank=True)
    last_page = models.PositiveIntegerField(null=True, blank=True)

    class Meta:
        ordering = ["number"]
        constraints = [
            models.UniqueConstraint(fields=["retrieval", "number"], name="citation_number_once")
        ]

    def __str__(self) -> str:
        return f"{self.retrieval_id} {self.number}"
