"""Why a file can't be attached, in texts that say what to do."""

from __future__ import annotations

from django.utils.translation import gettext_lazy as _

from chatsite.errors import ChatsiteError


class AttachmentGone(ChatsiteError):
    code = "attachment_gone"
    status = 404
    message = _("An attachment is no longer on the server. Remove it and attach the file again.")


class TooManyAttachments(ChatsiteError):
    code = "too_many_attachments"
    status = 429
    message = _("You have attached too many unsent files. Send or remove some.")
