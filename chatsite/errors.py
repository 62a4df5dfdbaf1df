"""The one exception base: what a person, a socket and an API client are told.

Every refusal that the product means to make is a `ChatsiteError`. It carries a stable
``code`` for programs, a translatable ``message`` for people that says what to do, the HTTP
status that fits, and whether trying the same thing again can help (``permanent``).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _


class ChatsiteError(Exception):
    """Base of all refusals; subclasses set the defaults, callers may pass a fuller message."""

    code: ClassVar[str] = "error"
    status: ClassVar[int] = 500
    permanent: ClassVar[bool] = True
    message: str | Promise = _("Something went wrong on the server. Try again in a moment.")
    # With figures from the details, used when all of them are there.
    detailed: ClassVar[str | Promise] = ""

    def __init__(self, message: str | Promise | None = None, **details: Any) -> None:
        if message is not None:
            self.message = message
        self.details = details
        super().__init__(self.code)

    def __str__(self) -> str:
        if self.detailed:
            try:
                return str(self.detailed) % self.details
            except KeyError:
                pass
        return str(self.message)

    def as_dict(self) -> dict[str, Any]:
        """The one shape of an error on the wire: ``{code, message, permanent, **details}``."""
        return {
            "code": self.code,
            "message": str(self),
            "permanent": self.permanent,
            **self.details,
        }


class BadRequest(ChatsiteError):
    code = "bad_request"
    status = 400
    message = _("The server could not read that request. Reload the page and try again.")


class NotSignedIn(ChatsiteError):
    code = "not_signed_in"
    status = 401
    message = _("You are signed out. Sign in again; your text is kept on this page.")


class KeyMissing(ChatsiteError):
    code = "missing_api_key"
    status = 401
    message = _(
        "Send an API key as `Authorization: Bearer KEY`. You can make one on the page "
        "/accounts/keys/ of this site."
    )


class InvalidKey(ChatsiteError):
    code = "invalid_api_key"
    status = 401
    message = _("This API key is wrong, revoked or expired. Make a new one at /accounts/keys/.")


class KeyLacksScope(ChatsiteError):
    code = "insufficient_scope"
    status = 403
    message = _("This API key may not be used for this. Make one that may at /accounts/keys/.")
    detailed = _(
        "This API key lacks the scope “%(scope)s”. Make one that has it at /accounts/keys/."
    )


class NotFound(ChatsiteError):
    """Also the answer for what belongs to somebody else: the two must look the same."""

    code = "not_found"
    status = 404
    message = _("This conversation does not exist, or it is not yours.")


class NameTaken(ChatsiteError):
    code = "name_taken"
    status = 409
    message = _("There is a folder of this name already.")


class TooMany(ChatsiteError):
    code = "too_many"
    status = 400
    message = _("There are too many of these already. Remove some first.")
    detailed = _("At most %(most)s of these are possible. Remove some first.")


class NothingToShare(ChatsiteError):
    code = "nothing_to_share"
    status = 409
    message = _("There is nothing to share yet.")


class TooLarge(ChatsiteError):
    code = "too_large"
    status = 413
    message = _("This is too large.")
    detailed = _("This is too large: at most %(most)s MB are possible.")


class ModelMissing(ChatsiteError):
    code = "model_not_found"
    status = 404
    message = _("This model is not installed. Choose another one from the list.")


class ModelUnavailable(ChatsiteError):
    code = "model_unavailable"
    status = 503
    permanent = False
    message = _("The model could not be started. An administrator can see why in the logs.")


class ModelDoesNotFit(ChatsiteError):
    """``needed_mb`` MiB, with ``context`` tokens per answer, of ``room_mb`` that there can be."""

    code = "model_does_not_fit"
    status = 503
    message = _("The model does not fit the memory of this server. Choose a smaller one.")
    detailed = _(
        "The model does not fit the memory of this server: it takes %(needed_mb)s MB with a "
        "context of %(context)s tokens, and there are %(room_mb)s MB for it. Choose a smaller one."
    )


class NoPlaceForModel(ChatsiteError):
    code = "no_place_for_model"
    status = 503
    message = _(
        "The models that are always loaded take all places of this server. Choose one of them, "
        "or ask an administrator."
    )


class MessageTooLong(ChatsiteError):
    code = "message_too_long"
    status = 400
    message = _("The message is too long. Shorten it and send it again.")


class EmptyMessage(ChatsiteError):
    code = "empty_message"
    status = 400
    message = _("The message is empty. Write something first.")


class ContextOverflow(ChatsiteError):
    code = "context_length_exceeded"
    status = 400
    message = _("The conversation no longer fits the model's context. Start a new chat.")
    detailed = _(
        "The conversation takes %(prompt_tokens)s tokens, more than the %(context)s that the "
        "model's context holds. Shorten the message or start a new chat."
    )


class Busy(ChatsiteError):
    """The conversation already has a running answer on this branch."""

    code = "busy"
    status = 409
    permanent = False
    message = _("An answer is still being written. Stop it or wait for it to end.")


class NothingToContinue(ChatsiteError):
    """Only an answer that was cut can go on, and only where nothing follows it."""

    code = "nothing_to_continue"
    status = 409
    message = _("This answer can't be continued: it is complete, or something follows it.")


class QueueFull(ChatsiteError):
    code = "queue_full"
    status = 503
    permanent = False
    message = _("Too many people are waiting for this model. Try again in a minute.")


class TooManyRequests(ChatsiteError):
    code = "too_many_requests"
    status = 429
    permanent = False
    message = _("You have too many open requests. Wait for some of them to end.")


class StreamsUnavailable(ChatsiteError):
    code = "streams_unavailable"
    status = 503
    permanent = False
    message = _("The server cannot reach its queue right now. Try again in a moment.")


class RequestRefused(ChatsiteError):
    """Only the engine could tell that this model can't do it; ``reason`` is its own words."""

    code = "request_refused"
    status = 400
    message = _("The model can't do what was asked.")
    detailed = _("The model can't do what was asked: %(reason)s")


class EngineFailed(ChatsiteError):
    code = "engine_error"
    message = _("The model could not finish this answer. Try again.")


class Interrupted(ChatsiteError):
    code = "interrupted"
    permanent = False
    message = _("The server was interrupted while it wrote this answer. The text so far is kept.")


def _kinds(base: type[ChatsiteError] = ChatsiteError) -> Iterator[type[ChatsiteError]]:
    yield base
    for kind in base.__subclasses__():
        yield from _kinds(kind)


def revived(error: dict[str, Any]) -> ChatsiteError | None:
    """A stored error as it was raised; None for a code that the engine made up."""
    details = {k: v for k, v in error.items() if k not in {"code", "message", "permanent"}}
    kind = next((kind for kind in _kinds() if kind.code == error.get("code")), None)
    return kind(**details) if kind else None


def localise(error: dict[str, Any] | None) -> dict[str, Any] | None:
    """A stored error with its message in the reader's language."""
    if error is None:
        return None
    found = revived(error)
    return found.as_dict() if found else error
