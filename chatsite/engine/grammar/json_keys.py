"""Tracks the keys of JSON objects in a growing text: no object has a key twice.

No grammar can express that. So a grammar of JSON has a comment line (`PRAGMA`), and the keys of the
answer's objects are tracked beside the grammar.
"""

from __future__ import annotations

import json
import re
from typing import Final, NamedTuple

PRAGMA: Final = "# unique keys"
_LINE = re.compile(rf'^{PRAGMA}(?: after ("(?:[^"\\\n]|\\.)*"))?$', re.MULTILINE)


def behind(grammar: str, mark: str) -> str:
    """Return the grammar with keys tracked only after ``mark``."""
    return _LINE.sub(lambda _: f"{PRAGMA} after {json.dumps(mark)}", grammar)


def keys_of(grammar: str) -> Keys | None:
    """Return the initial key state of a grammar; None if keys are not tracked."""
    found = _LINE.search(grammar)
    return Keys(mark=json.loads(found[1]) if found[1] else "") if found else None


class Keys(NamedTuple):
    """The key state of a text. Immutable.

    ``objects`` are the keys of the innermost open object (None: an array), and the enclosing ones.
    ``inside``: in a string. ``expected``: the next string is a key. ``key`` is the part of a key so
    far. ``mark`` must still occur; ``before`` is the end of the text so far.
    """

    objects: tuple[frozenset[str] | None, object] | None = None
    inside: bool = False
    escaped: bool = False
    expected: bool = False
    key: str | None = None
    mark: str = ""
    before: str = ""

    def after(self, text: str) -> Keys | None:
        """Return the state after ``text``; None if it completes a key that its object has."""
        if self.mark:
            before = self.before + text
            at = before.find(self.mark)
            if at < 0:
                return self._replace(before=before[-len(self.mark) :])
            return Keys().after(before[at + len(self.mark) :])
        objects, inside, escaped, expected, key, _, _ = self
        for one in text:
            if inside:
                if one == '"' and not escaped:
                    inside = False
                    if key is not None and objects is not None and objects[0] is not None:
                        name = json.loads(f'"{key}"')
                        if name in objects[0]:
                            return None
                        objects = (objects[0] | {name}, objects[1])
                    key = None
                    continue
                escaped = one == "\\" and not escaped
                if key is not None:
                    key += one
            elif one == '"':
                inside, key, expected = True, "" if expected else None, False
            elif one == "{":
                objects, expected = (frozenset(), objects), True
            elif one == "[":
                objects, expected = (None, objects), False
            elif one in "}]":
                objects, expected = (objects[1] if objects else None), False  # type: ignore[assignment]
            elif one == ",":
                expected = objects is not None and objects[0] is not None
        return Keys(objects, inside, escaped, expected, key)
