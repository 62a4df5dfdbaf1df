"""What lasts of a chat: conversations, a tree of messages, and the generation of each answer.

Every query for a person starts from `Conversation.objects.of(user)` (or the same on the other
managers): ownership is part of the lookup, never a check after it.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.db.models.functions import Lower
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

if TYPE_CHECKING:
    from chatsite.accounts.models import User


class FolderQuerySet(models.QuerySet["Folder"]):
    def of(self, user: User) -> FolderQuerySet:
        return self.filter(owner=user)


class Folder(models.Model):
    """A person's own heading for conversations; each is in one at most."""

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

    def deleted_by(self, user: User) -> ConversationQuerySet:
        """What can still be brought back."""
        return self.filter(owner=user).exclude(deleted_at=None)


class Conversation(models.Model):
    """What is deleted counts as missing at once, and is purged an hour later (`tasks.py`).
    ``untitled``: the title is but the beginning of its first message, and a model may give a better
    one. ``head`` is the leaf of the branch that the owner looked at last; none before any message.
    ``keep_latest``: what does not fit the model's context is left out, oldest turns first, in
    place of an error."""

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
    """A node of the tree: an edit is a sibling of what it replaces, so is a regeneration."""

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
    created_at = models.DateTimeField(default=timezone.now)

    objects = MessageQuerySet.as_manager()

    class Meta:
        verbose_name = _("message")
        verbose_name_plural = _("messages")
        indexes = [models.Index(fields=["conversation", "created_at"], name="message_order")]

    def __str__(self) -> str:
        return f"{self.role}: {self.content[:60]}"


class GenerationState(models.TextChoices):
    QUEUED = "queued", _("waiting")
    RUNNING = "running", _("writing")
    DONE = "done", _("done")
    FAILED = "failed", _("failed")
    CANCELLED = "cancelled", _("stopped")
    INTERRUPTED = "interrupted", _("interrupted")


OPEN_STATES = (GenerationState.QUEUED, GenerationState.RUNNING)


class Via(models.TextChoices):
    CHAT = "chat", _("chat")
    API = "api", _("API")
    TITLE = "title", _("title of a conversation")


class GenerationQuerySet(models.QuerySet["Generation"]):
    def of(self, user: User) -> GenerationQuerySet:
        return self.filter(owner=user)

    def open(self) -> GenerationQuerySet:
        return self.filter(state__in=OPEN_STATES)


class Generation(models.Model):
    """The making of one answer: ``queued → running → done | failed | cancelled | interrupted``.

    ``advance`` is the only way from one state to another. ``attempt`` counts the starts of the
    work; a later attempt goes on from the text that earlier ones published. ``accepted_tokens`` of
    the answer had been guessed rightly. The oldest ``left_out`` messages of the prompt (of
    `prompt.build`) did not fit the context. ``timings`` holds milliseconds: ``queue``,
    ``prefill``, ``decode``, ``ttft``, ``total``, and ``reasoning`` where the answer has some.
    ``syntax`` is how its text marks that (`OutputSyntax`). ``request_id`` is the browser's: the
    same one sent twice (the answer to the first was lost) makes one answer.
    A request of a program (``via`` API) has no message: nothing that it says or gets is kept. Nor
    has the making of a title (``via`` TITLE), which is saved when it is over.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="generations"
    )
    message = models.OneToOneField(
        Message, on_delete=models.CASCADE, null=True, blank=True, related_name="generation"
    )
    via = models.CharField(_("through"), max_length=8, choices=Via.choices, default=Via.CHAT)
    api_key = models.ForeignKey(
        "accounts.ApiKey",
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        related_name="+",
        verbose_name=_("API key"),
    )
    state = models.CharField(
        max_length=12, choices=GenerationState.choices, default=GenerationState.QUEUED
    )
    attempt = models.PositiveSmallIntegerField(default=0)
    request_id = models.CharField(max_length=64, blank=True)
    model = models.CharField(max_length=200)
    model_version = models.CharField(max_length=64, blank=True)
    params = models.JSONField(default=dict, blank=True)
    assistant = models.ForeignKey(
        "assistants.Assistant", on_delete=models.SET_NULL, null=True, blank=True, related_name="+"
    )
    syntax = models.JSONField(default=dict, blank=True)
    finish_reason = models.CharField(max_length=20, blank=True)
    error = models.JSONField(null=True, blank=True)
    prompt_tokens = models.PositiveIntegerField(null=True, blank=True)
    cached_tokens = models.PositiveIntegerField(null=True, blank=True)
    completion_tokens = models.PositiveIntegerField(null=True, blank=True)
    accepted_tokens = models.PositiveIntegerField(null=True, blank=True)
    left_out = models.PositiveIntegerField(default=0)
    timings = models.JSONField(default=dict, blank=True)
    queued_at = models.DateTimeField(default=timezone.now)
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)

    objects = GenerationQuerySet.as_manager()

    class Meta:
        verbose_name = _("generation")
        verbose_name_plural = _("generations")
        indexes = [
            models.Index(
                fields=["queued_at"],
                condition=Q(state__in=["queued", "running"]),
                name="generation_open",
            )
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
        """Whether it ended before the model was done with it."""
        if self.state == GenerationState.DONE:
            return self.finish_reason == "length"
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
        """Moves one generation from any of ``frm`` to ``to``; False when it was elsewhere, or a
        later attempt than ``attempt`` has it."""
        changed = cls.objects.filter(pk=id, state__in=frm, attempt__lte=attempt).update(
            state=to, attempt=attempt, **values
        )
        return changed == 1
