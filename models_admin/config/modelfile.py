"""Parser and writer of Modelfiles, Ollama's description of a custom model.

The grammar is Ollama's: instructions in any order and case, a value up to the end of its line or
between ``"`` or ``\"\"\"`` that close at the end of a line, comments only where an instruction can
begin. Unlike in Ollama, several blanks after PARAMETER and MESSAGE count as one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from django.utils.translation import gettext_lazy as _

from chatsite.engine.contract.messages import Role
from chatsite.errors import ChatsiteError
from models_admin.config import options

COMMANDS: Final = (
    "from",
    "license",
    "template",
    "system",
    "adapter",
    "renderer",
    "parser",
    "parameter",
    "message",
    "requires",
    "draft",
)
ROLES: Final[tuple[Role, ...]] = ("system", "user", "assistant")
MAX_CHARS = 1_000_000
_BLANKS = " \t"
_NEWLINES = "\r\n"


class BadModelfile(ChatsiteError, ValueError):
    code = "bad_modelfile"
    status = 400
    message = _("This Modelfile can't be read.")


@dataclass(frozen=True)
class Modelfile:
    """The content of a Modelfile, with names not resolved yet.

    ``parameters`` are typed; ``messages`` are (role, text). Missing instructions are None.
    """

    source: str
    parameters: dict[str, Any] = field(default_factory=dict)
    template: str | None = None
    system: str | None = None
    adapter: str | None = None
    licenses: tuple[str, ...] = ()
    messages: tuple[tuple[Role, str], ...] = ()


def parse(text: str) -> Modelfile:
    """Parse a Modelfile. Raises `BadModelfile` or `BadOption`, with Ollama's texts."""
    if len(text) > MAX_CHARS:
        raise BadModelfile(str(_("A Modelfile can have at most %s characters.")) % MAX_CHARS)
    single: dict[str, str] = {}
    licenses, messages = [], []
    parameters: dict[str, Any] = {}
    for name, argument, value in _instructions(text):
        if name == "license":
            licenses.append(value)
        elif name == "message":
            messages.append((role(argument), value))
        elif name == "parameter":
            typed = options.from_text(argument, value)
            if argument == "stop":
                parameters.setdefault("stop", []).append(typed)
            else:
                parameters[argument] = typed
        else:
            single[name] = value
    if "from" not in single:
        raise BadModelfile("no FROM line")
    for name in ("renderer", "parser", "requires", "draft"):
        if name in single:
            raise BadModelfile(
                str(_("%s is not supported: it depends on Ollama's own code. Remove it."))
                % name.upper()
            )
    return Modelfile(
        source=single["from"],
        parameters=checked(parameters),
        template=single.get("template"),
        system=single.get("system"),
        adapter=single.get("adapter"),
        licenses=tuple(licenses),
        messages=tuple(messages),
    )


def role(text: str) -> Role:
    """Return ``text`` as a role. Raises `BadModelfile`."""
    for known in ROLES:
        if text == known:
            return known
    raise BadModelfile('message role must be one of "system", "user", or "assistant"')


def checked(parameters: dict[str, Any]) -> dict[str, Any]:
    """Return ``parameters`` without those of older versions. Raises `BadOption`."""
    for name in parameters:
        if name not in options.KNOWN and name not in options.OUTDATED:
            raise options.BadOption(f"unknown parameter '{name}'")
    kept = {name: value for name, value in parameters.items() if name not in options.OUTDATED}
    options.sampling(kept)
    return kept


def decode(data: bytes) -> str:
    """Decode a Modelfile in UTF-8, or UTF-16 with a byte order mark. Raises `BadModelfile`."""
    try:
        if data[:2] in {b"\xff\xfe", b"\xfe\xff"}:
            return data.decode("utf-16")
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise BadModelfile(_("The Modelfile is neither UTF-8 nor UTF-16 text.")) from None


def _instructions(text: str) -> list[tuple[str, str, str]]:
    """Return (name, argument, value) of each instruction.

    Only PARAMETER and MESSAGE have arguments.
    """
    reader = _Reader(text.removeprefix("\ufeff"))
    found = []
    while reader.skip_to_instruction():
        found.append(reader.instruction())
    return found


class _Reader:
    def __init__(self, text: str) -> None:
        self._text = "".join(c for c in text if c.isprintable() or c in _BLANKS + _NEWLINES)
        self._at = 0

    @property
    def _line(self) -> int:
        """Return the line number. CR and LF both count, so CRLF lines count twice, as in Ollama."""
        before = self._text[: self._at]
        return 1 + sum(map(before.count, _NEWLINES))

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def _skip(self, characters: str) -> None:
        while self._peek() and self._peek() in characters:
            self._at += 1

    def _until(self, characters: str) -> str:
        start = self._at
        while self._peek() and self._peek() not in characters:
            self._at += 1
        return self._text[start : self._at]

    def skip_to_instruction(self) -> bool:
        while True:
            self._skip(_BLANKS + _NEWLINES)
            if self._peek() != "#":
                return bool(self._peek())
            self._until(_NEWLINES)

    def instruction(self) -> tuple[str, str, str]:
        line = self._line
        name = self._until(_BLANKS + _NEWLINES).lower()
        if name not in COMMANDS or (self._peek() and self._peek() in _NEWLINES):
            listed = ", ".join(f'"{command}"' for command in COMMANDS[:-1])
            raise BadModelfile(
                f'(line {line}): command must be one of {listed}, or "{COMMANDS[-1]}"'
            )
        self._skip(_BLANKS)
        argument = ""
        if name == "message":
            argument = self._until(_BLANKS + _NEWLINES)
            if argument not in ROLES:
                raise BadModelfile(
                    f'(line {line}): message role must be one of "system", "user", or "assistant"'
                )
        elif name == "parameter":
            argument = self._until(_BLANKS + _NEWLINES)
            if not all(c.isalnum() or c == "_" for c in argument):
                raise BadModelfile(f"unexpected EOF: {argument}")
        if name in {"message", "parameter"} and self._peek() not in set(_BLANKS):
            raise BadModelfile("unexpected EOF")
        return name, argument, self._value()

    def _value(self) -> str:
        self._skip(_BLANKS)
        quote = next((q for q in ('"""', '"') if self._text.startswith(q, self._at)), "")
        if not quote:
            value = self._until(_NEWLINES).strip()
            if not value:
                raise BadModelfile("unexpected EOF")
            return value
        start = self._at + len(quote)
        end = start
        while (end := self._text.find(quote, end)) >= 0:
            rest = self._text[end + len(quote) :]
            if not rest.lstrip(_BLANKS) or rest.lstrip(_BLANKS)[0] in _NEWLINES:
                self._at = end + len(quote)
                return self._text[start:end]
            end += 1
        raise BadModelfile("unexpected EOF")


def write(
    source: str,
    *,
    parameters: dict[str, Any],
    template: str = "",
    system: str = "",
    licenses: tuple[str, ...] = (),
    messages: tuple[tuple[Role, str], ...] = (),
) -> str:
    """Return the Modelfile that `parse` reads back unchanged."""
    lines = [f"FROM {source}"]
    if template:
        lines.append(f"TEMPLATE {_quoted(template)}")
    if system:
        lines.append(f"SYSTEM {_quoted(system)}")
    lines += [f"PARAMETER {name} {_short(value)}" for name, value in options.as_lines(parameters)]
    lines += [f"MESSAGE {role} {_quoted(text)}" for role, text in messages]
    lines += [f"LICENSE {_quoted(text)}" for text in licenses]
    return "\n".join(lines) + "\n"


def _short(text: str) -> str:
    plain = text == text.strip() and text.isprintable() and not text.startswith('"')
    return text if plain and text else _quoted(text)


def _quoted(text: str) -> str:
    """Quote ``text``, with three quotes if one could end it early: there is no escape."""
    quote = '"""' if '"' in text or "\n" in text or "\r" in text else '"'
    return f"{quote}{text}{quote}"
