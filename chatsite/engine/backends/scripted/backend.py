"""A deterministic replacement of llama.cpp for tests and load tests of everything around it.

Its answers are read back from its own KV cache, so a bug in slots, prefixes or resumed text shows
in the answer. The answer to a conversation is the last user message, word by word (system messages
and earlier turns don't matter), unless the message has directives:

``@tokens N``      N words: ``w1 w2 … wN``, one token each, instead of the echo
``@say TEXT``      TEXT (the rest of the message), instead of the echo
``@next TEXT``     the next message is replaced by TEXT (the rest of this one)
``@delay-ms N``    each token of this sequence takes at least N ms, drafted ones too
``@crash N``       the process aborts (SIGABRT) instead of token N + 1 of each attempt
``@crash-once N``  the same, but only in an attempt that does not continue earlier text
``@hang N``        the process hangs instead of token N + 1
``@fail``          every step with this sequence fails, like a fatal error of llama.cpp

Directives are removed from the echo. A model file may begin with the line ``scripted`` and then its
own directives; any other file, or none, works too:

``@context N``     the model's trained context
``@load-ms N``     loading takes that long, in ten reported parts
``@load-fail``     loading fails
``@load-crash``    loading aborts the process
``@forgetful``     slots can't be truncated, as in recurrent models
``@device-layers N``  loading fails with more than N layers on devices
``@device-crash N``   the same, but it aborts the process
``@embeds``        the model computes vectors only, no text

Vectors have 64 components, each counting the words that hash to it, and length 1, so texts with the
same words are similar. An input with ``@embed-fail`` can't be computed.

Tokens are words with their leading blanks; non-ASCII bytes are a token each, so that characters
cross tokens. Sampling parameters other than ``ignore_eos`` (which makes the answer start again at
its end) have no effect. Log probabilities are -0.5 for each token, and lower by 1 for each
alternative. A bias may name tokens below 2**20. A grammar or schema is compiled, so that an invalid
one is refused, but not applied. Nothing sleeps unless requested.
"""

from __future__ import annotations

import os
import re
import threading
import time
from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chatsite.engine.backends.scripted.embedder import ScriptedEmbedder
from chatsite.engine.contract.backend import (
    BackendInfo,
    BadParameters,
    Chunk,
    Constraint,
    Decoded,
    LoadError,
)
from chatsite.engine.contract.messages import Load, SamplingParams, TokenLogprob
from chatsite.engine.grammar.automaton import Automaton
from chatsite.engine.grammar.schema import to_gbnf
from chatsite.engine.grammar.token_grammar import automaton_of
from chatsite.engine.prompting.template import CHATML

_START, _END = 256, 257
_FIRST_WORD = 1024
_TOKENS = 1 << 20
_CONTROLS = {"<|im_start|>": _START, "<|im_end|>": _END}
_CONTROL_TOKENS = frozenset(_CONTROLS.values())
_SPLIT = re.compile(r"(<\|im_(?:start|end)\|>)")
_WORD = re.compile(rb"[ \t]*[!-~]+|[ \t]+|[\x00-\xff]")
_DIRECTIVE = re.compile(r"@([a-z-]+)(?:[ ]+(\d+))?[ ]?")
_KNOWN = {"tokens", "delay-ms", "crash", "crash-once", "hang", "fail"}


class ScriptedVocabulary:
    """Tokens below 256 are bytes, two are control tokens, words are numbered as they occur."""

    bos: int | None = None
    bos_text = ""
    eos_text = "<|im_end|>"
    add_bos = False
    ends = frozenset({_END})
    controls: Mapping[str, int] = _CONTROLS
    infill: tuple[int, int, int] | None = None

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._words: dict[bytes, int] = {}
        self._pieces: list[bytes] = []

    @property
    def size(self) -> int:
        return _FIRST_WORD + len(self._pieces)

    def tokenize(self, text: str, *, special: bool) -> list[int]:
        tokens: list[int] = []
        for part in _SPLIT.split(text) if special else (text,):
            if special and part in _CONTROLS:
                tokens.append(_CONTROLS[part])
            else:
                tokens += map(self._token, _WORD.findall(part.encode()))
        return tokens

    def reveal(self, texts: Sequence[str]) -> None:
        """Do nothing: all but the marks of turns is text anyway."""

    def piece(self, token: int) -> bytes:
        if token < 256:
            return bytes((token,))
        return self._pieces[token - _FIRST_WORD] if token >= _FIRST_WORD else b""

    def enclosed(self, tokens: Sequence[int]) -> list[int]:
        return list(tokens)

    def pair(self, query: Sequence[int], document: Sequence[int]) -> list[int]:
        return [*query, self.tokenize("\n", special=False)[0], *document]

    def text(self, tokens: Sequence[int]) -> str:
        return b"".join(map(self.piece, tokens)).decode(errors="replace")

    def _token(self, word: bytes) -> int:
        if len(word) == 1:
            return word[0]
        with self._lock:
            token = self._words.get(word)
            if token is None:
                token = self._words[word] = _FIRST_WORD + len(self._pieces)
                self._pieces.append(word)
            return token


@dataclass(frozen=True, slots=True)
class Script:
    """The answer that a slot's prompt requests.

    ``start`` is where it begins in the slot, ``resumed`` the number of its tokens that the attempt
    began with.
    """

    start: int
    answer: tuple[int, ...]
    resumed: int
    directives: Mapping[str, int]


class ScriptedKVCache:
    """The `KVCache` of the scripted backend."""

    restores_only_at_end = False

    def __init__(self, slots: int, supports_truncation: bool) -> None:
        self.tokens: list[list[int]] = [[] for _ in range(slots)]
        self.scripts: dict[int, Script] = {}
        self._can_cut = supports_truncation

    def length(self, slot: int) -> int:
        return len(self.tokens[slot])

    def clear(self, slot: int) -> None:
        self.tokens[slot] = []
        self.scripts.pop(slot, None)

    def truncate(self, slot: int, length: int) -> bool:
        script = self.scripts.get(slot)
        if script and length <= script.start:  # not only drafted tokens of its answer
            del self.scripts[slot]
        if not self._can_cut and length < len(self.tokens[slot]):
            return False
        del self.tokens[slot][length:]
        return True

    def copy(self, source: int, target: int) -> None:
        if self.tokens[target]:
            raise AssertionError("copied into a slot that is not clear")
        self.tokens[target] = list(self.tokens[source])

    def size(self, slot: int) -> int:
        return 4 * len(self.tokens[slot])

    def save(self, slot: int) -> memoryview | None:
        return memoryview(array("i", self.tokens[slot]).tobytes())

    def restore(self, slot: int, data: memoryview) -> bool:
        if self.tokens[slot]:
            raise AssertionError("read back into a slot that is not clear")
        self.tokens[slot] = array("i", data.tobytes()).tolist()
        return True


class ScriptedSampler:
    """The `Sampler` of the scripted backend."""

    def __init__(self, backend: ScriptedBackend, params: SamplingParams) -> None:
        self._backend = backend
        self._ignore_eos = params.ignore_eos
        self.top_logprobs = params.top_logprobs

    def ready(self) -> bool:
        return True

    def sample(self, row: int) -> int:
        script, given = self._backend.progress(row)
        _misbehave(script, given)
        if given < len(script.answer):
            return script.answer[given]
        return script.answer[given % len(script.answer)] if self._ignore_eos else _END

    def logprob(self, row: int, token: int) -> TokenLogprob | None:
        if self.top_logprobs is None:
            return None
        piece = self._backend.vocabulary.piece
        top = [token, *range(97, 97 + max(0, self.top_logprobs - 1))][: self.top_logprobs]
        likely = tuple((one, piece(one), -0.5 - place) for place, one in enumerate(top))
        return TokenLogprob(token, piece(token), -0.5, likely)

    def close(self) -> None:
        """Do nothing."""


class ScriptedBackend:
    """The scripted `Backend`."""

    template: str | None = f"{CHATML}{{# It reasons between <think> and </think>. #}}"

    def __init__(self, load: Load, on_progress: Callable[[float], None]) -> None:
        directives = _of_file(load.path)
        on_progress(0.0)
        for part in range(10) if "load-ms" in directives else ():
            time.sleep(directives["load-ms"] / 10_000)
            on_progress((part + 1) / 11)
        layers = sum(load.offload.layers)
        if "load-crash" in directives or layers > directives.get("device-crash", layers):
            os.abort()
        if layers > (most := directives.get("device-layers", layers)):
            raise LoadError(f"the device did not take more than {most} layers")
        if "load-fail" in directives:
            raise LoadError("the scripted model was told not to load")
        on_progress(1.0)
        can_cut = "forgetful" not in directives
        self.facts = BackendInfo(
            context=min(load.context, directives.get("context", 32768)),
            slots=load.slots,
            max_rows=max(512, 2 * load.slots),
            supports_truncation=can_cut,
            architecture="scripted",
            parameters=1_000_000_000,
            generates="embeds" not in directives,
        )
        self.vocabulary = ScriptedVocabulary()
        self.embedder = ScriptedEmbedder(
            self.vocabulary, self.facts.context, ranks="rerank" in load.name
        )
        self.memory = ScriptedKVCache(load.slots, can_cut)
        # Slot of each row of the last decode, and the slot's length up to it.
        self._rows: list[tuple[int, int]] = []

    def decode(self, chunks: Sequence[Chunk]) -> Decoded:
        scripts: list[Script] = []
        self._rows = []
        for chunk in chunks:
            held = self.memory.tokens[chunk.slot]
            if chunk.start != len(held):
                raise AssertionError(f"slot {chunk.slot} holds {len(held)}, not {chunk.start}")
            if len(held) + len(chunk.tokens) > self.facts.context:
                return Decoded.NO_SPACE
            held.extend(chunk.tokens)
            if not _CONTROL_TOKENS.isdisjoint(chunk.tokens):
                self.memory.scripts.pop(chunk.slot, None)  # a turn begins
            ends = range(chunk.start + 1, len(held) + 1)
            self._rows += [(chunk.slot, end) for end in ends]
            if chunk.outputs:
                scripts.append(self._script(chunk.slot))
        if any("fail" in script.directives for script in scripts):
            return Decoded.FATAL
        rows = (chunk.outputs for chunk in chunks if chunk.outputs)
        delays = (s.directives.get("delay-ms", 0) * n for s, n in zip(scripts, rows, strict=True))
        if delay := max(delays, default=0):
            time.sleep(delay / 1e3)
        return Decoded.OK

    def begin_step(self) -> None:
        """Do nothing: there are no budgets per step."""

    def check(self, params: SamplingParams) -> Automaton | None:
        return automaton_of(params)

    def grammar(self, schema: Any, also: Mapping[str, Any] | None = None) -> str:
        return to_gbnf(schema, also)

    def sampler(
        self,
        params: SamplingParams,
        prompt: Sequence[int],
        answer: Sequence[int],
        *,
        owner: str = "",
        automaton: Constraint | None = None,
    ) -> ScriptedSampler:
        if any(token >= _TOKENS for token, _ in params.logit_bias):
            raise BadParameters(f"logit_bias names a token above {_TOKENS - 1}")
        if automaton is None:
            automaton_of(params)
        return ScriptedSampler(self, params)

    def progress(self, row: int) -> tuple[Script, int]:
        """Return the script of a row's slot, and how many answer tokens the slot holds."""
        slot, length = self._rows[row]
        script = self._script(slot)
        return script, length - script.start

    def close(self) -> None:
        """Do nothing."""

    def _script(self, slot: int) -> Script:
        if slot not in self.memory.scripts:
            self.memory.scripts[slot] = self._write(self.memory.tokens[slot])
        return self.memory.scripts[slot]

    def _write(self, tokens: list[int]) -> Script:
        """Find the last user message in ChatML, and where the answer to it begins."""
        starts = [at for at, token in enumerate(tokens) if token == _START]
        header = self.vocabulary.tokenize("assistant\n", special=False)
        start = starts[-1] + 1 + len(header) if starts else 0
        said: list[str] = []
        for at, until in zip(reversed(starts[:-1]), reversed(starts), strict=False):
            text = self.vocabulary.text(tokens[at + 1 : until])
            if text.startswith("user\n"):
                said.append(text.removeprefix("user\n").rstrip("\n"))
                if len(said) == 2:
                    break
        last, before_last = (*said, "", "")[:2]
        message = before_last.partition("@next ")[2] or last.partition("@next ")[0]
        message, directives = _directives(message)
        before, say, after = message.partition("@say ")
        answer = after if say else before.strip() or "ok"
        if "tokens" in directives:
            answer = " ".join(f"w{number + 1}" for number in range(directives["tokens"]))
        answer_tokens = tuple(self.vocabulary.tokenize(answer, special=False))
        return Script(start, answer_tokens, max(0, len(tokens) - start), directives)


def _misbehave(script: Script, given: int) -> None:
    crash = script.directives.get("crash")
    if crash is None and not script.resumed:
        crash = script.directives.get("crash-once")
    if crash is not None and given - script.resumed >= crash:
        os.abort()
    hang = script.directives.get("hang")
    while hang is not None and given - script.resumed >= hang:
        time.sleep(60)


def _directives(message: str) -> tuple[str, dict[str, int]]:
    """Return the message without its directives, and those; a missing number is 0."""
    found: dict[str, int] = {}

    def take(match: re.Match[str]) -> str:
        if match[1] not in _KNOWN:
            return match[0]
        found[match[1]] = int(match[2] or 0)
        return ""

    return _DIRECTIVE.sub(take, message), found


def _of_file(path: str) -> dict[str, int]:
    try:
        with Path(path).open("rb") as file:
            head = file.read(4096)
    except OSError:
        return {}
    if not head.startswith(b"scripted\n"):
        return {}
    return {m[1]: int(m[2] or 0) for m in _DIRECTIVE.finditer(head.decode(errors="replace"))}
