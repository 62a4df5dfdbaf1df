"""Parses OpenAI's harmony format, which gpt-oss writes.

An answer is a series of messages, each a header and a body::

    <|channel|>analysis<|message|>…<|end|><|start|>assistant<|channel|>final<|message|>…

The channel ``analysis`` is reasoning. A header with a recipient (``to=functions.name``) makes the
body the arguments of a call. ``final``, and ``commentary`` without a recipient, are content. The
prompt ends with ``<|start|>assistant``, so an answer begins inside a header.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal

START: Final = "<|start|>"
CHANNEL: Final = "<|channel|>"
MESSAGE: Final = "<|message|>"
END: Final = "<|end|>"
CALL: Final = "<|call|>"
RETURN: Final = "<|return|>"
CONSTRAIN: Final = "<|constrain|>"
MARKS: Final = (START, CHANNEL, MESSAGE, END, CALL, RETURN, CONSTRAIN)

THINK_OPEN: Final = f"{CHANNEL}analysis{MESSAGE}"
THINK_CLOSE: Final = END
# Precedes the content of an answer without reasoning.
ANSWER_OPEN: Final = f"{CHANNEL}final{MESSAGE}"

# Begins a call whose name and arguments are a JSON object, as forced calls are: a grammar can't
# know the name before the header ends.
FORCED: Final = f"{CHANNEL}commentary to=functions {CONSTRAIN}json{MESSAGE}"

_TO: Final = " to="
_RECIPIENT = re.compile(r"(?:^|\s)to=(?:functions\.)?([^\s<]+)")
_BODY_ENDS = re.compile("|".join(map(re.escape, (START, CHANNEL, END, CALL, RETURN))))
_HEADER_MOST: Final = 400  # characters; a longer header is text

Kind = Literal["reasoning", "content", "call"]


@dataclass(frozen=True, slots=True)
class Piece:
    """Some text of a message.

    A ``call`` is emitted in one piece; ``name`` is its function, or empty if the text contains it.
    ``whole`` False: the answer was cut in it.
    """

    kind: Kind
    text: str
    name: str = ""
    whole: bool = True


class Reader:
    """Splits text that arrives in parts into `Piece`s."""

    def __init__(self) -> None:
        self._held = ""
        self._state: Literal["begin", "header", "body", "between"] = "begin"
        self._kind: Kind = "content"
        self._name = ""
        self._said = False  # an earlier message had content
        self._first = True  # no content of this message was emitted yet
        self._cut = False
        self._pieces: list[Piece] = []

    def push(self, text: str, *, last: bool = False, cut: bool = False) -> list[Piece]:
        """Return the pieces that are now certain.

        ``cut``: the answer hit its token limit, possibly within a mark.
        """
        self._held += text
        self._cut = cut
        while self._step(last):
            pass
        pieces, self._pieces = self._pieces, []
        return pieces

    def _step(self, last: bool) -> bool:
        """Return whether another state must process the held text."""
        match self._state:
            case "begin":
                return self._begin(last)
            case "header":
                return self._header(last)
            case "body":
                return self._body(last)
            case "between":
                return self._between(last)

    def _begin(self, last: bool) -> bool:
        """Decide whether the text begins with a header.

        An answer that is continued inside a message, or a model that omits the header, begins with
        content.
        """
        headers = (CHANNEL, START, _TO)
        if self._held.startswith(headers):
            self._state = "header"
            return True
        if any(one.startswith(self._held) for one in headers):
            if not last:
                return False
            if self._cut:
                self._held = ""
                return False
        self._state = "body"
        return True

    def _header(self, last: bool) -> bool:
        header, mark, rest = self._held.partition(MESSAGE)
        if not mark:
            if last:
                self._held = ""  # an answer cut inside a header has no content there
            elif len(self._held) > _HEADER_MOST:
                self._state, self._kind = "body", "content"
                self._give(self._held)
                self._held = ""
            return False
        recipient = _RECIPIENT.search(header.replace(CHANNEL, " ").replace(START, " "))
        channel = header.partition(CHANNEL)[2].split(maxsplit=1)
        if recipient:
            self._kind, self._name = "call", recipient[1].removeprefix("functions")
        elif channel and channel[0].startswith("analysis"):
            self._kind = "reasoning"
        else:
            self._kind = "content"
        self._state, self._held, self._first = "body", rest, True
        return True

    def _body(self, last: bool) -> bool:
        end = _BODY_ENDS.search(self._held)
        if self._kind == "call":
            if not end and not last:
                return False
            text = self._held[: end.start() if end else len(self._held)]
            self._pieces.append(Piece("call", text, self._name, whole=end is not None))
        elif end:
            self._give(self._held[: end.start()])
        else:
            certain = len(self._held) - (0 if last else self._pending())
            self._give(self._held[:certain])
            self._held = self._held[certain:]
            return False
        if not end:
            self._held = ""
            return False
        begins = end[0] in {START, CHANNEL}
        self._state = "header" if begins else "between"
        self._held = self._held[end.start() if begins else end.end() :]
        return True

    def _between(self, last: bool) -> bool:
        """After the end of a message, expect another one or whitespace."""
        text = self._held.lstrip()
        if text.startswith((START, CHANNEL)):
            self._state, self._held = "header", text
            return True
        if not text or (not last and any(one.startswith(text) for one in (START, CHANNEL))):
            return False
        self._state, self._kind, self._first = "body", "content", True
        return True

    def _pending(self) -> int:
        """Return the length of a possible start of a mark at the end of the held text."""
        at = self._held.rfind("<")
        if at < 0:
            return 0
        tail = self._held[at:]
        return len(tail) if any(mark.startswith(tail) for mark in MARKS) else 0

    def _give(self, text: str) -> None:
        if not text:
            return
        if self._kind == "content" and self._first:
            if self._said:
                text = f"\n\n{text}"
            self._said, self._first = True, False
        self._pieces.append(Piece(self._kind, text))
