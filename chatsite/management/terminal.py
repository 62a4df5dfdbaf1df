"""`manage.py models run`: a chat in the terminal, similar to `ollama run`."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

from django.core.management.base import OutputWrapper

from chatsite.accounts.keys import Caller
from chatsite.answers.runtime import runtime
from chatsite.api.core.fan_out import GenerationRequest, ask_all
from chatsite.api.core.parts import PartReader, Parts, joined
from chatsite.api.core.requests import TextChunk
from chatsite.engine.contract.messages import ChatMessage
from chatsite.errors import ChatsiteError
from chatsite.management import running
from chatsite.stream.entries import End
from chatsite.stream.hub import QueuePosition
from models_admin.config import options

# Imported for its effect on `input`: line editing and history.
with suppress(ImportError):
    import readline  # noqa: F401

HELP: Final = '''\
/set system TEXT            set the system prompt
/set parameter NAME VALUE   set a parameter, such as temperature 0.2
/show                       show the settings
/clear                      clear the conversation
/bye                        exit (Ctrl-D)

Put a message of several lines between """ and """. Ctrl-C stops an answer.
'''
_QUOTES: Final = '"""'
_GREY, _PLAIN, _ERASE = "\033[90m", "\033[0m", "\r\033[K"
Write = Callable[[str], None]


@dataclass
class Session:
    """A chat that is not saved.

    ``runner`` runs the event loop that connects to the site. ``terminal``: the output is a
    terminal, not a file or pipe. ``verbose`` adds the timings of each answer.
    """

    runner: asyncio.Runner
    caller: Caller
    model: str
    write: Write
    terminal: bool = False
    verbose: bool = False
    system: str = ""
    fields: Mapping[str, Any] = field(default_factory=dict)
    _options: dict[str, Any] = field(default_factory=dict)
    _history: list[ChatMessage] = field(default_factory=list)

    def talk(self) -> None:
        """Answer input until `/bye` or the end of input."""
        self.write("Type /? for help, /bye to exit.\n")
        while True:
            try:
                text = self._read()
            except KeyboardInterrupt:
                self.write("\nPress Ctrl-D or type /bye to exit.\n")
                continue
            except EOFError:
                self.write("\n")
                return
            if text == "/bye":
                return
            try:
                self._take(text)
            except ChatsiteError as error:
                self.write(f"{error}\n")
            except KeyboardInterrupt:
                self.write("\n")

    def _read(self) -> str:
        """Read a line, or several lines between triple quotes."""
        text = input(">>> ").strip()
        if not text.startswith(_QUOTES):
            return text
        text = text.removeprefix(_QUOTES)
        while not text.rstrip().endswith(_QUOTES):
            text += "\n" + input("... ")
        return text.rstrip().removesuffix(_QUOTES).strip()

    def _take(self, text: str) -> None:
        match text.split(maxsplit=3):
            case []:
                return
            case ["/clear"]:
                self._history.clear()
            case ["/set", "system", *_]:
                self.system = text.partition("system")[2].strip().strip('"')
            case ["/set", "parameter", name, value]:
                typed = options.from_text(name, value)
                options.sampling({name: typed})
                self._options[name] = typed
            case ["/show", *_]:
                lines = [f"system  {self.system}"] if self.system else []
                lines += [f"{name}  {value}" for name, value in options.as_lines(self._options)]
                self.write("\n".join([f"model  {self.model}", *lines, ""]))
            case [command, *_] if command.startswith("/"):
                self.write(HELP)
            case _:
                self.ask(text)

    def ask(self, text: str) -> None:
        """Write the answer. If Ctrl-C stops it, the text so far stays in the chat."""
        question = ChatMessage("user", text)
        parts: list[Parts] = []
        try:
            self.runner.run(self._answer(question, parts))
        finally:
            if said := joined(parts).content:
                self._history += [question, ChatMessage("assistant", said)]

    async def _answer(self, question: ChatMessage, parts: list[Parts]) -> None:
        head = [ChatMessage("system", self.system)] if self.system else []
        said = {**options.sampling(self._options), **self.fields}
        wanted = GenerationRequest(self.model, [*head, *self._history, question], said=said)
        async with ask_all(runtime(), self.caller, [wanted]) as answers:
            reader = PartReader(answers.first)
            async for _index, event in answers.events():
                if isinstance(event, TextChunk):
                    self._show(reader.push(event), parts)
                elif isinstance(event, End):
                    self._show(reader.finish(), parts)
                    self.write("\n")
                    if self.verbose:
                        self.write(_figures(event))
                elif isinstance(event, QueuePosition) and self.terminal:
                    self.write(f"{_ERASE}{_GREY}{_place(event)}{_PLAIN}")

    def _show(self, new: Parts, parts: list[Parts]) -> None:
        """Write an answer's text, and its reasoning in grey if the output is a terminal."""
        if self.terminal and not parts:
            self.write(_ERASE)
        if self.terminal and new.reasoning:
            self.write(f"{_GREY}{new.reasoning}{_PLAIN}")
        if self.terminal and new.content and any(one.reasoning for one in parts[-1:]):
            self.write("\n\n")
        self.write(new.content)
        parts.append(new)


def _place(place: QueuePosition) -> str:
    return f"{place.ahead} ahead, model {place.model}" if place.ahead else f"model {place.model}"


def _figures(end: End) -> str:
    """Return the timings of an answer, as `ollama run --verbose` does."""
    tokens, decode = end.usage.get("completion_tokens", 0), end.timings.get("decode", 0.0)
    rate = f"  {tokens / decode * 1000:.1f} tokens/s" if decode else ""
    return (
        f"\nprompt  {end.usage.get('prompt_tokens', 0)} tokens  "
        f"{end.timings.get('prefill', 0.0) / 1000:.2f} s\n"
        f"answer  {tokens} tokens  {decode / 1000:.2f} s{rate}\n"
        f"total   {end.timings.get('total', 0.0) / 1000:.2f} s\n"
    )


def add_parser(actions: Any) -> None:
    parser = actions.add_parser("run", help="chat in the terminal")
    parser.add_argument("name", metavar="NAME")
    parser.add_argument("prompt", metavar="PROMPT", nargs="*", help="question, or standard input")
    parser.add_argument("--system", default="", metavar="TEXT", help="system prompt")
    parser.add_argument("--format", choices=["json"], help="constrain the answer to JSON")
    parser.add_argument("--verbose", action="store_true", help="print timings after each answer")


def run(
    model: str,
    out: OutputWrapper,
    *,
    prompt: Sequence[str],
    system: str,
    format: str | None,
    verbose: bool,
    **_options: Any,
) -> None:
    """Answer standard input and the arguments. If there are none, start a chat in the terminal."""

    def write(text: str) -> None:
        out.write(text, ending="")
        out.flush()

    piped = "" if sys.stdin.isatty() else sys.stdin.read().strip()
    asked = "\n\n".join(text for text in (piped, " ".join(prompt)) if text)
    with running.visit() as runner:
        session = Session(
            runner,
            Caller(running.administrator()),
            model,
            write,
            terminal=out.isatty(),
            verbose=verbose,
            system=system,
            fields={"json_schema": {"type": "object"}} if format else {},
        )
        try:
            if asked:
                session.ask(asked)
            elif sys.stdin.isatty():
                session.talk()
        except KeyboardInterrupt:
            # The exit status that shells use for a process killed by a signal.
            raise SystemExit(128 + signal.SIGINT) from None
