"""The persistent part of chats: conversations, a tree of messages, the generation of each answer.

Every query for a user starts from `Conversation.objects.of(user)` (or the same on the other
managers): ownership is part of the query, never a check after it.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.db import models
from django.db.models import F, Lookup, Q
from django.db.models.functions import Lower
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from chatsite.engine.contract.messages import CUT

if TYPE_CHECKING:
    from chatsite.accounts.models import User


class FolderQuerySet(models.QuerySet["Folder"]):
    def of(self, user: User) -> FolderQuerySet:
        return self.filter(owner=user)


class Folder(models.Model):
    """A user's folder of conversations; each conversation is in at most one."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="folders"
    )
    name = models.CharField(_("name"), max_length=60)
    created_at = models.DateTimeField(default=timezone.now)

    objects = FolderQuerySet.as_manager()

    class Meta:
        verbose_name = _("folder")
        verbose_name_plural = _("folders")
        constraints = [
            models.UniqueConstraint("owner", Lower("name"), name="folder_name_once"),
        ]

    def __str__(self) -> str:
        return self.name


class ConversationQuerySet(models.QuerySet["Conversation"]):
    def of(self, user: User) -> ConversationQuerySet:
        return self.filter(owner=user, deleted_at=None)

    def owned_by(self, user: User) -> ConversationQuerySet:
        """Return the conversations of a user with the deleted ones, which await their purge."""
        return self.filter(owner=user)

    def deleted_by(self, user: User) -> ConversationQuerySet:
        """Return conversations that can still be restored."""
        return self.filter(owner=user).exclude(deleted_at=None)


class Conversation(models.Model):
    """A conversation.

    A deleted one counts as missing, and is purged an hour later (`retention/deletions.py`).

    ``untitled``: the title is the beginning of the first message, and a model may generate a better
    one. ``head`` is the leaf of the branch that the owner saw last; none before any message.
    ``keep_latest``: if the prompt exceeds the context, the oldest turns are left out instead of an
    error.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="conversations"
    )
    title = models.CharField(_("title"), max_length=200, blank=True)
    untitled = models.BooleanField(default=False)
    head = models.ForeignKey(
        "Message", on_delete=models.SET_NULL, null=True, blank=True, related_name="+"
    )
    keep_latest = models.BooleanField(default=False)
    folder = models.ForeignKey(
        Folder, on_delete=models.SET_NULL, null=True, blank=True, related_name="conversations"
    )
    created_at = models.DateTimeField(default=timezone.now)
    updated_at = models.DateTimeField(default=timezone.now)
    pinned_at = models.DateTimeField(null=True, blank=True)
    archived_at = models.DateTimeField(null=True, blank=True)
    deleted_at = models.DateTimeField(null=True, blank=True)

    objects = ConversationQuerySet.as_manager()

    class Meta:
        verbose_name = _("conversation")
        verbose_name_plural = _("conversations")
        indexes = [
            models.Index(fields=["owner", "-updated_at", "-id"], name="conversation_list"),
            models.Index(
                fields=["owner"],
                condition=Q(pinned_at__isnull=False),
                name="conversation_pinned",
            ),
            models.Index(
                fields=["deleted_at"],
                condition=Q(deleted_at__isnull=False),
                name="conversation_deleted",
            ),
        ]

    def __str__(self) -> str:
        return self.title or str(self.id)


class MessageQuerySet(models.QuerySet["Message"]):
    def of(self, user: User) -> MessageQuerySet:
        return self.filter(conversation__owner=user, conversation__deleted_at=None)


class Message(models.Model):
    """A node of the tree: an edit or a regeneration is a sibling of what it replaces.

    ``passages`` is the number of passages of documents that an answer may cite; null: no documents
    were searched for it. ``marks_removed`` counts the numbers removed from its text that were none
    of them.
    """

    class Role(models.TextChoices):
        SYSTEM = "system", _("system")
        USER = "user", _("user")
        ASSISTANT = "assistant", _("assistant")

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    conversation = models.ForeignKey(
        Conversation, on_delete=models.CASCADE, related_name="messages"
    )
    parent = models.ForeignKey(
        "self", on_delete=models.CASCADE, null=True, blank=True, related_name="children"
    )
    role = models.CharField(max_length=10, choices=Role.choices)
    content = models.TextField(blank=True)
    passages = models.PositiveSmallIntegerField(null=True, blank=True)
    marks_removed = models.PositiveSmallIntegerField(null=True, blank=True)
    created_at = models.DateTimeField(default=timezone.now)

    objects = MessageQuerySet.as_manager()

    class Meta:
        verbose_name = _("message")
        verbose_name_plural = _("messages")
        indexes = [models.Index(fields=["conversation", "created_at"], name="message_order")]

    def __str__(self) -> str:
        return f"{self.role}: {self.content[:60]}"


class GenerationState(models.TextChoices):
    QUEUED = "queued", _("queued")
    RUNNING = "running", _("generating")
    DONE = "done", _("done")
    FAILED = "failed", _("failed")
    CANCELLED = "cancelled", _("stopped")
    INTERRUPTED = "interrupted", _("interrupted")


OPEN_STATES = (GenerationState.QUEUED, GenerationState.RUNNING)
ENDED_STATES = (
    GenerationState.DONE,
    GenerationState.FAILED,
    GenerationState.CANCELLED,
    GenerationState.INTERRUPTED,
)


class Via(models.TextChoices):
    CHAT = "chat", _("chat")
    TEMPORARY = "temp", _("temporary chat")
    API = "api", _("OpenAI API")
    OLLAMA = "ollama", _("Ollama API")
    TITLE = "title", _("conversation title")
    KNOWLEDGE = "document", _("search in documents")


class _StateIn(Lookup):
    """``state IN (…)`` with the states in the text of the query.

    SQLite uses a partial index only if the query has its condition literally, not as parameters.
    """

    lookup_name = "state_in"
    prepare_rhs = False

    def as_sql(self, compiler: Any, connection: Any) -> tuple[str, tuple[Any, ...]]:
        column, parameters = self.process_lhs(compiler, connection)
        states = ", ".join(f"'{GenerationState(state).value}'" for state in self.rhs)
        return f"{column} IN ({states})", (*parameters,)


class GenerationQuerySet(models.QuerySet["Generation"]):
    def of(self, user: User) -> GenerationQuerySet:
        return self.filter(owner=user)

    def open(self) -> GenerationQuerySet:
        """Return queued and running generations, by a partial index."""
        return self.filter(_StateIn(F("state"), OPEN_STATES))

    def clear_content(self) -> int:
        """Remove what was derived from content; return the number of generations.

        Kept are owner, model, state, token counts, timings, and the code of an error.
        """
        for pk, error in self.exclude(error=None).values_list("pk", "error"):
            code = error.get("code", "error") if error else "error"
            kept = {"code": code, "message": "", "permanent": True}
            Generation.objects.filter(pk=pk).update(error=kept)
        return self.update(params={}, syntax={}, request_id="", assistant=None)

    def uncounted(self) -> GenerationQuerySet:
        """Return ended generations that usage statistics lack, by a partial index."""
        return self.filter(_StateIn(F("state"), ENDED_STATES), counted=False)


class Generation(models.Model):
    """The generation of one answer: ``queued → running → done | failed | cancelled | interrupted``.

    ``advance`` is the only way to change the state. ``attempt`` counts the leases; a later attempt
    continues after the text that earlier ones published. ``accepted_tokens`` is the number of draft
    tokens accepted. The oldest ``left_out`` messages of the prompt (of `prompt.build`) did not fit
    the context. ``timings`` are milliseconds: ``queue``, ``prefill``, ``decode``, ``ttft``,
    ``total``, and ``reasoning`` if there is any. ``finish_reason`` is the engine's, or
    ``administrator`` if one stopped it. ``syntax`` is how the text marks reasoning and tool calls
    (`OutputSyntax`). ``engine`` is the name of the remote engine that computed the last attempt,
    null for an inference host. ``request_id`` is the browser's idempotency key: a request that is
    sent again because its reply was lost makes no second answer.
    An API request (``via`` API or OLLAMA) has no message: its content is not stored. Neither has an
    answer of a temporary chat (``via`` TEMPORARY), nor a title (``via`` TITLE), which is saved when
    it has been generated. ``counted``: it is part of the usage statistics, see
    `chatsite.usage.rollup`.

    It outlives its message and its owner, for statistics: deletion clears what came from content
    (`clear_content`).
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        related_name="generations",
        verbose_name=_("user"),
    )
    message = models.OneToOneField(
        Message, on_delete=models.SET_NULL, null=True, blank=True, related_name="generation"
    )
    via = models.CharField(_("channel"), max_length=8, choices=Via.choices, default=Via.CHAT)
    api_key = models.ForeignKey(
        "accounts.ApiKey",
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        related_name="+",
        verbose_name=_("API key"),
    )
    state = models.CharField(
        _("state"),
        max_length=12,
        choices=GenerationState.choices,
        default=GenerationState.QUEUED,
    )
    attempt = models.PositiveSmallIntegerField(_("attempt"), default=0)
    request_id = models.CharField(max_length=64, blank=True)
    model = models.CharField(_("model"), max_length=200)
    model_version = models.CharField(_("model version"), max_length=64, blank=True)
    engine = models.CharField(_("engine"), max_length=40, null=True, blank=True)  # noqa: DJ001
    params = models.JSONField(default=dict, blank=True)
    assistant = models.ForeignKey(
        "assistants.Assistant", on_delete=models.SET_NULL, null=True, blank=True, related_name="+"
    )
    syntax = models.JSONField(default=dict, blank=True)
    finish_reason = models.CharField(_("finish reason"), max_length=20, blank=True)
    error = models.JSONField(_("error"), null=True, blank=True)
    prompt_tokens = models.PositiveIntegerField(_("prompt tokens"), null=True, blank=True)
    cached_tokens = models.PositiveIntegerField(_("cached tokens"), null=True, blank=True)
    completion_tokens = models.PositiveIntegerField(_("output tokens"), null=True, blank=True)
    accepted_tokens = models.PositiveIntegerField(_("accepted draft tokens"), null=True, blank=True)
    left_out = models.PositiveIntegerField(default=0)
    timings = models.JSONField(_("timings"), default=dict, blank=True)
    queued_at = models.DateTimeField(_("queued at"), default=timezone.now)
    started_at = models.DateTimeField(_("started at"), null=True, blank=True)
    finished_at = models.DateTimeField(_("finished at"), null=True, blank=True)
    counted = models.BooleanField(default=False, db_default=False, editable=False)

    objects = GenerationQuerySet.as_manager()

    class Meta:
        verbose_name = _("generation")
        verbose_name_plural = _("generations")
        indexes = [
            models.Index(fields=["queued_at"], name="generation_queued"),
            models.Index(
                fields=["queued_at"],
                condition=Q(state__in=["queued", "running"]),
                name="generation_open",
            ),
            models.Index(
                fields=["queued_at"],
                condition=Q(
                    counted=False, state__in=["done", "failed", "cancelled", "interrupted"]
                ),
                name="generation_uncounted",
            ),
        ]
        constraints = [
            models.UniqueConstraint(
                fields=["owner", "request_id"],
                condition=~Q(request_id=""),
                name="generation_request_once",
            )
        ]

    def __str__(self) -> str:
        return f"{self.id} {self.state}"

    @property
    def was_cut(self) -> bool:
        """Whether it ended before the model had finished the answer."""
        if self.state == GenerationState.DONE:
            return self.finish_reason in CUT
        return self.state not in OPEN_STATES

    @classmethod
    def advance(
        cls,
        id: uuid.UUID | str,
        *,
        frm: tuple[GenerationState, ...] = OPEN_STATES,
        to: GenerationState,
        attempt: int,
        **values: Any,
    ) -> bool:
        """Move a generation from any state of ``frm`` to ``to``.

        False if it was in another state or a later attempt than ``attempt`` has it.
        """
        changed = cls.objects.filter(pk=id, state__in=frm, attempt__lte=attempt).update(
            state=to, attempt=attempt, **values
        )
        return changed == 1
