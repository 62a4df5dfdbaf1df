"""The base of all deliberate errors, on pages, sockets and in the API.

Every request that the product refuses on purpose raises a `ChatsiteError`. It has a stable
``code`` for programs, a translatable ``message`` that tells users what to do, an HTTP status,
and whether a retry is pointless (``permanent``).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar, cast

from django.conf import settings
from django.utils import translation
from django.utils.functional import Promise, lazy
from django.utils.translation import gettext_lazy as _


def worded(text: str | Promise, values: object) -> Promise:
    """Return ``text % values``, formatted lazily in the language of its reader."""
    return cast(Promise, _format(text, values))


def _formatted(text: str | Promise, values: object) -> str:
    return str(text) % values


_format = lazy(_formatted, str)


def in_each_language(text: object) -> dict[str, str]:
    """Return a lazy text or an error in each language of the site, to be stored."""
    worded: dict[str, str] = {}
    for code, _name in settings.LANGUAGES:
        with translation.override(code):
            worded[code] = str(text)
    return worded


def in_readers_language(texts: str | dict[str, str]) -> str:
    """Choose from the result of `in_each_language`; a plain text is returned unchanged."""
    if isinstance(texts, str):
        return texts
    return texts.get(translation.get_language() or "", "") or next(iter(texts.values()), "")


class ChatsiteError(Exception):
    """Base of all refusals; subclasses set the defaults, callers may pass a specific message."""

    code: ClassVar[str] = "error"
    status: ClassVar[int] = 500
    permanent: ClassVar[bool] = True
    message: str | Promise = _(
        "Something went wrong on the server. An administrator can find the reason in its log."
    )
    # With values from the details; used if all of them are given.
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
        """Return the wire format of all errors: ``{code, message, permanent, **details}``."""
        return {
            "code": self.code,
            "message": str(self),
            "permanent": self.permanent,
            **self.details,
        }


class BadRequest(ChatsiteError):
    code = "bad_request"
    status = 400
    message = _("The server could not read this request. Reload the page.")


class NotSignedIn(ChatsiteError):
    code = "not_signed_in"
    status = 401
    message = _("You are signed out. Sign in again; your text is kept on this page.")


class SecondFactorRequired(ChatsiteError):
    code = "second_factor_required"
    status = 403
    message = _("Your organization requires a second factor. Reload the page to set it up.")


class KeyMissing(ChatsiteError):
    code = "missing_api_key"
    status = 401
    message = _("Send an API key as `Authorization: Bearer KEY`. Create one at /accounts/keys/.")


class InvalidKey(ChatsiteError):
    code = "invalid_api_key"
    status = 401
    message = _("This API key is invalid, revoked or expired. Create a new one at /accounts/keys/.")


class KeyLacksScope(ChatsiteError):
    code = "insufficient_scope"
    status = 403
    message = _("This API key lacks the required scope. Create one that has it at /accounts/keys/.")
    detailed = _(
        "This API key lacks the scope “%(scope)s”. Create one that has it at /accounts/keys/."
    )


class NotFound(ChatsiteError):
    """Missing, or owned by another user: a client must not be able to tell which.

    Subclasses name the kind of object and keep the code.
    """

    code = "not_found"
    status = 404
    message = _("Not found, or not yours.")


class ConversationNotFound(NotFound):
    message = _("This conversation does not exist, or it is not yours.")


class MessageNotFound(NotFound):
    message = _("This message does not exist, or it is not yours.")


class FolderNotFound(NotFound):
    message = _("This folder does not exist, or it is not yours.")


class NameTaken(ChatsiteError):
    code = "name_taken"
    status = 409
    message = _("This name is already taken. Choose another one.")


class FolderNameTaken(NameTaken):
    message = _("A folder with this name already exists.")


class TooMany(ChatsiteError):
    code = "too_many"
    status = 400
    message = _("The limit has been reached. Remove some first.")
    detailed = _("The limit of %(most)s has been reached. Remove some first.")


class NothingToShare(ChatsiteError):
    code = "nothing_to_share"
    status = 409
    message = _("There is nothing to share yet.")


class TooLarge(ChatsiteError):
    code = "too_large"
    status = 413
    message = _("This is too large.")
    detailed = _("This is too large. The maximum is %(most)s MB.")


class BodyTooSlow(ChatsiteError):
    code = "body_too_slow"
    status = 408
    permanent = False
    message = _("The request did not arrive in time. Check the connection and send it again.")


class HeadersTooLarge(ChatsiteError):
    code = "headers_too_large"
    status = 431
    message = _("The headers of the request are too large. Send fewer or shorter ones.")
    detailed = _(
        "The headers of the request are larger than %(limit)s KiB. Send fewer or shorter ones."
    )


class ServerBusy(ChatsiteError):
    code = "server_busy"
    status = 503
    permanent = False
    message = _("The server is busy with other large requests. Try again in a minute.")


class ModelMissing(ChatsiteError):
    code = "model_not_found"
    status = 404
    message = _("This model is not installed. Choose another one from the list.")


class NotAChatModel(ChatsiteError):
    code = "not_a_chat_model"
    status = 400
    message = _(
        "This is a base model without a chat template: it only continues text. Use "
        "/v1/completions or /api/generate, or another model for chat."
    )


class ModelUnavailable(ChatsiteError):
    code = "model_unavailable"
    status = 503
    permanent = False
    message = _(
        "The model could not be started. Try again in a minute; an administrator can find the "
        "reason in the log."
    )


class ModelFileMissing(ModelUnavailable):
    """The file of ``model``, with its digest and size in bytes, is not on this host."""

    code = "model_file_missing"
    message = _("The file of this model is not on this host yet. Try again in a minute.")

    def __init__(self, model: str = "", digest: str = "", size: int = 0) -> None:
        self.model, self.digest, self.size = model, digest, size
        super().__init__()


class ModelDoesNotFit(ChatsiteError):
    """Needs ``needed_mb`` MiB with ``context`` tokens per answer; ``room_mb`` are available."""

    code = "model_does_not_fit"
    status = 503
    message = _("The model does not fit in this server's memory. Choose a smaller one.")
    detailed = _(
        "The model does not fit in this server's memory: it needs %(needed_mb)s MB with a context "
        "of %(context)s tokens, and %(room_mb)s MB are available. Choose a smaller one."
    )


class NoPlaceForModel(ChatsiteError):
    code = "no_place_for_model"
    status = 503
    message = _(
        "All model slots on this server are taken by pinned models. Choose one of those, or ask an "
        "administrator."
    )


class MessageTooLong(ChatsiteError):
    code = "message_too_long"
    status = 400
    message = _("The message is too long. Shorten it.")


class EmptyMessage(ChatsiteError):
    code = "empty_message"
    status = 400
    message = _("The message is empty. Write something first.")


class ContextOverflow(ChatsiteError):
    code = "context_length_exceeded"
    status = 400
    message: str | Promise = _(
        "The conversation no longer fits the model's context. Start a new chat."
    )
    detailed: ClassVar[str | Promise] = _(
        "The conversation takes %(prompt_tokens)s tokens, more than the %(context)s that the "
        "model's context holds. Shorten the message or start a new chat."
    )


class ContextLimited(ChatsiteError):
    """The prompt exceeds what the user's limits or the rest of a quota leave for the request."""

    code = "context_limit_exceeded"
    status = 400
    message = _(
        "The conversation takes more tokens than your limits allow. Shorten it, start a new chat, "
        "or ask an administrator."
    )
    detailed = _(
        "The conversation takes %(prompt_tokens)s tokens, and your limits leave %(context)s for "
        "this request. Shorten it, start a new chat, or ask an administrator."
    )


class Busy(ChatsiteError):
    """The conversation already has a running answer on this branch."""

    code = "busy"
    status = 409
    permanent = False
    message = _("An answer is still being generated. Stop it or wait for it to finish.")


class NothingToContinue(ChatsiteError):
    """Only a truncated answer can be continued, and only if nothing follows it."""

    code = "nothing_to_continue"
    status = 409
    message = _("This answer can't be continued: it is complete, or something follows it.")


class QueueFull(ChatsiteError):
    code = "queue_full"
    status = 503
    permanent = False
    message = _("Too many users are waiting for this model. Try again in a minute.")


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


class TooMuchQueued(ChatsiteError):
    code = "too_much_queued"
    status = 429
    permanent = False
    message = _(
        "Your open requests hold too much text. Wait for some of them to end, or send less at once."
    )
    detailed = _(
        "Your open requests hold more than %(limit)s MiB. Wait for some of them to end, or send "
        "less at once."
    )


class UnusableValue(ChatsiteError):
    """A value that hosts can't decode. ``reason`` is the decoder's message, ``param`` its path."""

    code = "invalid_value"
    status = 400
    message = _("The request has a value that can't be used.")
    detailed = _("The request has a value that can't be used: %(reason)s")


class QueueMemoryFull(ChatsiteError):
    code = "queue_memory_full"
    status = 503
    permanent = False
    message = _(
        "The server has no memory left for more requests. Try again in a minute, when other "
        "requests have finished; a shorter request may be accepted sooner."
    )


class StorageFull(ChatsiteError):
    code = "storage_full"
    status = 507
    message = _("The server's disk is full. Nothing was saved; tell an administrator.")


class RequestRefused(ChatsiteError):
    """The engine found that this model does not support the request; ``reason`` is its message.

    It is translated if it is one of the product's own.
    """

    code = "request_refused"
    status = 400
    message = _("The model does not support this request.")
    detailed = _("The model does not support this request: %(reason)s")

    def __str__(self) -> str:
        reason = self.details.get("reason")
        if not reason:
            return str(self.message)
        return str(self.detailed) % {"reason": translation.gettext(str(reason))}


class EngineFailed(ChatsiteError):
    code = "engine_error"
    message = _("The model could not finish this answer because of an internal error.")


class Interrupted(ChatsiteError):
    code = "interrupted"
    permanent = False
    message = _(
        "The server was interrupted while it was generating this answer. The text so far is kept. "
        "Try again or continue the answer."
    )


def kinds(base: type[ChatsiteError] = ChatsiteError) -> Iterator[type[ChatsiteError]]:
    """Yield ``base`` and all its subclasses in imported modules."""
    yield base
    for kind in base.__subclasses__():
        yield from kinds(kind)


def revived(error: dict[str, Any]) -> ChatsiteError | None:
    """Return a stored error as it was raised; None for a code of the engine's own."""
    details = {k: v for k, v in error.items() if k not in {"code", "message", "permanent"}}
    kind = next((kind for kind in kinds() if kind.code == error.get("code")), None)
    return kind(**details) if kind else None


def localise(error: dict[str, Any] | None) -> dict[str, Any] | None:
    """Return a stored error with its message in the reader's language."""
    if error is None:
        return None
    found = revived(error)
    return found.as_dict() if found else error
