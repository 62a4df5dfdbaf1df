"""Rating answers, as their owners do, and what administrators see of it."""

from __future__ import annotations

import uuid
from typing import Annotated, Any, Literal

import msgspec
from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from msgspec import Meta

from chatsite.accounts.models import User
from chatsite.conversations import branch_copy
from chatsite.conversations.models import OPEN_STATES, Conversation, Message
from chatsite.errors import ChatsiteError, ConversationNotFound, MessageNotFound
from chatsite.feedback.models import REASONS, Comment, Feedback, SharedBranch

COMMENT_CHARS = 2000


class NotAnAnswer(ChatsiteError):
    code = "not_an_answer"
    status = 409
    message = _("Only finished answers of this site's models can be rated.")


class WrongReason(ChatsiteError):
    code = "wrong_reason"
    status = 400
    message = _("This reason does not belong to this rating. Reload the page.")


class Rating(msgspec.Struct, frozen=True):
    """A rating as the page sends and gets it.

    ``shared`` is whether administrators may read the conversation up to the answer.
    """

    vote: Literal["up", "down"]
    reason: Annotated[str, Meta(max_length=12)] = ""
    comment: Annotated[str, Meta(max_length=COMMENT_CHARS)] = ""
    shared: bool = False


class Ratings(msgspec.Struct, frozen=True):
    """The ratings of a conversation by the ID of the message."""

    ratings: dict[str, Rating]


class Changed(msgspec.Struct, frozen=True):
    """A saved rating; ``consent`` says what happened to the shared copy."""

    rating: Rating
    consent: Literal["", "given", "withdrawn"]


def of_conversation(user: User, id: uuid.UUID) -> Ratings:
    """Return the ratings of a conversation. Raises `ConversationNotFound`."""
    if not Conversation.objects.of(user).filter(pk=id).exists():
        raise ConversationNotFound
    found = Feedback.objects.of(user).filter(message__conversation=id)
    return Ratings(
        {str(one.message_id): _rating(one) for one in found.select_related("comment", "shared")}
    )


def given_by(user: User) -> list[dict[str, Any]]:
    """Return all ratings of a user, for the export of their data."""
    found = Feedback.objects.of(user).select_related("comment", "shared").order_by("created_at")
    return [
        {
            "message": str(one.message_id),
            "model": one.model,
            "created_at": one.created_at.isoformat(),
            **msgspec.to_builtins(_rating(one)),
        }
        for one in found
    ]


@transaction.atomic
def rate(user: User, id: uuid.UUID, rating: Rating) -> Changed:
    """Save the rating of an answer instead of an earlier one.

    Raises `MessageNotFound`, `NotAnAnswer` or `WrongReason`.
    """
    # Locked, so that two requests at once do not both create a row.
    message = (
        Message.objects.of(user)
        .select_for_update(of=("self",))
        .select_related("generation")
        .filter(pk=id)
        .first()
    )
    if message is None:
        raise MessageNotFound
    generation = getattr(message, "generation", None)
    if generation is None or generation.state in OPEN_STATES:
        raise NotAnAnswer
    if rating.reason and rating.reason not in REASONS[rating.vote]:
        raise WrongReason
    feedback, _created = Feedback.objects.update_or_create(
        message=message,
        defaults={
            "owner": user,
            "model": generation.model,
            "vote": rating.vote,
            "reason": rating.reason,
            "updated_at": timezone.now(),
        },
    )
    text = rating.comment.strip()
    if text:
        Comment.objects.update_or_create(
            feedback=feedback, defaults={"message": message, "text": text}
        )
    else:
        Comment.objects.filter(feedback=feedback).delete()
    consent: Literal["", "given", "withdrawn"] = ""
    if not rating.shared:
        consent = "withdrawn" if SharedBranch.objects.filter(feedback=feedback).delete()[0] else ""
    elif not SharedBranch.objects.filter(feedback=feedback).exists():
        SharedBranch.objects.create(
            feedback=feedback, message=message, messages=branch_copy.of(message)
        )
        consent = "given"
    return Changed(Rating(rating.vote, rating.reason, text, rating.shared), consent)


@transaction.atomic
def remove(user: User, id: uuid.UUID) -> bool:
    """Remove a rating with comment and copy; return whether there was a copy.

    Does nothing if there is none. Raises `MessageNotFound`.
    """
    if not Message.objects.of(user).filter(pk=id).exists():
        raise MessageNotFound
    found = Feedback.objects.of(user).filter(message=id)
    shared = SharedBranch.objects.filter(feedback__in=found).exists()
    found.delete()
    return shared


def _rating(feedback: Feedback) -> Rating:
    comment = getattr(feedback, "comment", None)
    return Rating(
        vote="up" if feedback.vote == "up" else "down",
        reason=feedback.reason,
        comment=comment.text if comment else "",
        shared=hasattr(feedback, "shared"),
    )
