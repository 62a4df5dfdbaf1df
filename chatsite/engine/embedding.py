"""Vectors of texts: prepared by the reader thread, computed one input at a time between steps."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from chatsite.engine.backend import Backend, BadParameters, LoadError, Vocabulary
from chatsite.engine.messages import Embed, Embedded, Failed, ToHost
from chatsite.engine.prompt import ContextExceeded


@dataclass(slots=True)
class EmbedWork:
    """``inputs`` are tokens, each of at least one; ``vectors`` those that are done."""

    id: str
    inputs: list[list[int]]
    vectors: list[array[float]] = field(default_factory=list)

    @property
    def done(self) -> bool:
        return len(self.vectors) == len(self.inputs)

    def step(self, embed: Callable[[Sequence[int]], array[float]]) -> None:
        self.vectors.append(embed(self.inputs[len(self.vectors)]))

    def result(self, size: int) -> Embedded:
        return Embedded(
            self.id,
            b"".join(vector.tobytes() for vector in self.vectors),
            size,
            sum(map(len, self.inputs)),
        )


class EmbedQueue:
    """Requests for vectors, first come first served."""

    def __init__(self, backend: Backend, emit: Callable[[ToHost], None]) -> None:
        self._backend = backend
        self._emit = emit
        self._waiting: dict[str, EmbedWork] = {}

    @property
    def idle(self) -> bool:
        return not self._waiting

    def add(self, work: EmbedWork) -> None:
        self._waiting[work.id] = work

    def drop(self, id: str) -> None:
        self._waiting.pop(id, None)

    def step(self) -> None:
        """Computes one input, if there is any: those who write wait for no more."""
        work = next(iter(self._waiting.values()), None)
        if work is None:
            return
        try:
            if not work.done:
                work.step(self._backend.embed)
        except (LoadError, RuntimeError) as error:
            self.drop(work.id)
            self._emit(Failed(work.id, "engine_error", str(error)))
            return
        if work.done:
            self.drop(work.id)
            self._emit(work.result(self._backend.facts.embedding_size))


def prepare(request: Embed, vocabulary: Vocabulary, context: int) -> EmbedWork:
    """Raises `ContextExceeded` for an input that does not fit, unless it may be cut, and
    `BadParameters` for tokens that the model does not have."""
    inputs = []
    for one in request.inputs:
        if isinstance(one, str):
            tokens = vocabulary.tokenize(one, special=False)
            if vocabulary.add_bos and vocabulary.bos is not None:
                tokens.insert(0, vocabulary.bos)
        else:
            tokens = list(one)
            if any(not 0 <= token < vocabulary.size for token in tokens):
                raise BadParameters(f"tokens of this model are 0 to {vocabulary.size - 1}")
        if not tokens:
            raise BadParameters("an input is empty")
        if len(tokens) > context and not request.truncate:
            raise ContextExceeded(len(tokens), context)
        inputs.append(tokens[:context])
    return EmbedWork(request.id, inputs)
