"""Notes on a document: what could not be read, and what was guessed.

The reader child returns notes as codes with values; they are formatted in the language of the
page.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

_WORDS: Final[dict[str, Promise]] = {
    "encoding_guessed": _("Read as %(encoding)s. Check the text if characters look wrong."),
    "bytes_replaced": _("Invalid characters that were replaced: %(count)s."),
    "pages_without_text": _(
        "Pages without text: %(pages)s. Scanned pages need text recognition first."
    ),
    "pages_failed": _("Pages that could not be read: %(pages)s. They are damaged."),
    "pages_garbled": _(
        "Pages whose fonts have no Unicode mapping: %(pages)s. Their text is illegible."
    ),
    "hidden": _("Hidden sheets or slides that were read too: %(count)s."),
    "mail_attachments": _("Attachments of the message that were not read: %(count)s."),
    "pictures": _("Pictures that were not read: %(count)s."),
    "objects": _("Embedded objects or charts that were not read: %(count)s."),
}


def worded(notes: Iterable[Any]) -> list[str]:
    """Return the sentences of stored ``notes``, each ``[code, values]``."""
    return [str(_WORDS[code]) % values for code, values in notes if code in _WORDS]
