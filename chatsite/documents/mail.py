"""The text of an e-mail message (EML): its headers, its text, and the names of its attachments."""

from __future__ import annotations

import re
from email import policy
from email.parser import BytesParser
from typing import Final

from chatsite.documents import markup

_START: Final = re.compile(
    rb"(?:[A-Za-z][A-Za-z0-9-]{0,60}: ?[^\r\n]{0,2000}\r?\n(?:[ \t][^\r\n]{0,2000}\r?\n){0,50}){3}"
)
_MARKS: Final = (b"\nfrom:", b"\nmessage-id:", b"\nmime-version:", b"\nreceived:")
_HEADERS: Final = ("From", "To", "Cc", "Date", "Subject")


def is_mail(data: bytes) -> bool:
    """Return whether the bytes begin like a message: header lines, among them those of mail."""
    head = b"\n" + data[:8192].lower()
    return _START.match(data) is not None and sum(mark in head for mark in _MARKS) >= 2


def text_of(data: bytes) -> tuple[str, str, int]:
    """Return text, subject, and the number of attachments, which are not read."""
    message = BytesParser(policy=policy.default).parsebytes(data)
    lines = [f"{name}: {message[name]}" for name in _HEADERS if message[name]]
    body = message.get_body(("plain", "html"))
    text = ""
    if body is not None:
        content = body.get_content()
        text = markup.text_of(content) if body.get_content_subtype() == "html" else content
    names = [part.get_filename() or "" for part in message.iter_attachments()]
    if names:
        text += "\n\nAttachments: " + ", ".join(filter(None, names))
    return "\n".join(lines) + "\n\n" + text, str(message["Subject"] or ""), len(names)
