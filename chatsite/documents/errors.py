"""Why a file can't be read, in texts that say what to do."""

from __future__ import annotations

from typing import ClassVar

from django.utils.translation import gettext_lazy as _

from chatsite.errors import ChatsiteError


class FileTooLarge(ChatsiteError):
    code = "file_too_large"
    status = 413
    message = _("The file is too large. Attach a smaller one, or a part of it.")
    detailed = _("The file is larger than %(limit)s MB. Attach a smaller one, or a part of it.")


class Unreadable(ChatsiteError):
    """Base of refusals by the reader child; its codes are those that the child sends."""

    code = "document_damaged"
    status = 422
    message = _("The file is damaged or does not match its file extension. It could not be read.")


class NoDocument(Unreadable):
    code = "document_type"
    message = _(
        "This file type is not supported. Use text, code, CSV, HTML, PDF, EPUB, e-mail, or a "
        "document, table or presentation of an office program."
    )


class NoText(Unreadable):
    code = "document_empty"
    message = _("There is no text in this file. Scanned pages need text recognition first.")


class Encrypted(Unreadable):
    code = "document_encrypted"
    message = _("The file is protected by a password. Attach a copy without one.")


class TooLong(Unreadable):
    code = "document_too_long"
    message = _("There is too much text in this file. Attach the relevant part.")
    detailed = _("This file is too long: more than %(limit)s characters. Attach the relevant part.")


class TooComplex(Unreadable):
    code = "document_too_complex"
    message = _(
        "The file takes too much time or memory to read. Attach a simpler copy or its text."
    )


class ReadersBusy(ChatsiteError):
    code = "readers_busy"
    status = 503
    permanent: ClassVar[bool] = False
    message = _("Too many files are being read right now. Try again in a moment.")


UNREADABLE: dict[str, type[Unreadable]] = {
    kind.code: kind for kind in (Unreadable, NoDocument, NoText, Encrypted, TooLong, TooComplex)
}
