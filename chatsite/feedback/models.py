"""Users' ratings of answers.

The rating itself has no content and survives the deletion of conversation and user. Comment and
shared copy are rows of their own, which are deleted with the message.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.conf import settings
from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

if TYPE_CHECKING:
    from chatsite.accounts.models import User


class Vote(models.TextChoices):
    UP = "up", _("good")
    DOWN = "down", _("bad")


class Reason(models.TextChoices):
    """Why an answer is rated. `REASONS` has those that belong to a vote."""

    CORRECT = "correct", _("Correct")
    HELPFUL = "helpful", _("Helpful")
    CLEAR = "clear", _("Clear and well written")
    WRONG = "wrong", _("Wrong or made up")
    UNHELPFUL = "unhelpful", _("Not helpful")
    IGNORED = "ignored", _("Did not follow my instructions")
    INCOMPLETE = "incomplete", _("Incomplete")
    REFUSED = "refused", _("Refused without need")
    HARMFUL = "harmful", _("Harmful or offensive")
    LANGUAGE = "language", _("Wrong language or style")
    OTHER = "other", _("Other")


REASONS: dict[str, tuple[Reason, ...]] = {
    Vote.UP: (Reason.CORRECT, Reason.HELPFUL, Reason.CLEAR, Reason.OTHER),
    Vote.DOWN: (
        *(Reason.WRONG, Reason.UNHELPFUL, Reason.IGNORED, Reason.INCOMPLETE, Reason.REFUSED),
        *(Reason.HARMFUL, Reason.LANGUAGE, Reason.OTHER),
    ),
}


class FeedbackQuerySet(models.QuerySet["Feedback"]):
    def of(self, user: User) -> FeedbackQuerySet:
        return self.filter(owner=user, message__conversation__deleted_at=None)


class Feedback(models.Model):
    """A user's rating of an answer. ``model`` is the name of the model that wrote it."""

    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, related_name="+"
    )
    message = models.OneToOneField(
        "chat.Message", on_delete=models.SET_NULL, null=True, related_name="+"
    )
    model = models.CharField(max_length=200)
    vote = models.CharField(max_length=4, choices=Vote.choices)
    reason = models.CharField(max_length=12, choices=Reason.choices, blank=True)
    created_at = models.DateTimeField(default=timezone.now)
    updated_at = models.DateTimeField(default=timezone.now)

    objects = FeedbackQuerySet.as_manager()

    class Meta:
        default_permissions = ()
        indexes = [models.Index(fields=["model", "created_at"], name="feedback_of_model")]

    def __str__(self) -> str:
        return f"{self.model}: {self.vote}"


class Comment(models.Model):
    """What a user wrote about an answer, for administrators."""

    feedback = models.OneToOneField(Feedback, on_delete=models.CASCADE, related_name="comment")
    message = models.ForeignKey("chat.Message", on_delete=models.CASCADE, related_name="+")
    text = models.TextField()

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return self.text[:60]


class SharedBranch(models.Model):
    """A copy of the branch up to the answer, which its owner shares with administrators.

    ``messages`` are ``{role, content, syntax}``, as in `sharing.models.Share`.
    """

    feedback = models.OneToOneField(Feedback, on_delete=models.CASCADE, related_name="shared")
    message = models.ForeignKey("chat.Message", on_delete=models.CASCADE, related_name="+")
    messages = models.JSONField(default=list)
    taken_at = models.DateTimeField(default=timezone.now)

    class Meta:
        default_permissions = ()
        permissions = [
            ("read_shared", "Can read conversations that users share with administrators")
        ]

    def __str__(self) -> str:
        return str(self.taken_at)
