"""What the product asks of a remote inference engine, and what it gets back.

A client (`connect.py`) talks to one engine. It has no state besides its connections, and reads
neither settings nor the database. All text of an answer is in one form, whatever the engine sends:
see `canonical.py`.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from enum import StrEnum
from typing import Any, ClassVar, Final, Literal, Protocol

import httpx
import msgspec

from chatsite.engine.contract.messages import (
    ChatMessage,
    PromptOptions,
    SamplingParams,
    TokenLogprob,
)

# Returns the addresses of a URL's host that may be connected to, in order of preference. Raises a
# `ChatsiteError` or `OSError`.
Egress = Callable[[httpx.URL], Awaitable[Sequence[str]]]


class Kind(StrEnum):
    VLLM = "vllm"
    LLAMA_SERVER = "llama-server"
    OLLAMA = "ollama"
    OPENAI = "openai"


class Capability(StrEnum):
    """What a model of an engine can do.

    ``CONTINUATION``: it continues the beginning of an answer. ``CACHE_ISOLATION``: its prefix cache
    is separate for each salt, so that response times tell nothing about other users' prompts.
    ``TOKEN_COUNT``: it counts the tokens of a prompt without generating.
    """

    CHAT = "chat"
    COMPLETION = "completion"
    TOOLS = "tools"
    VISION = "vision"
    REASONING = "reasoning"
    JSON_SCHEMA = "json_schema"
    GRAMMAR = "grammar"
    LOGPROBS = "logprobs"
    EMBEDDINGS = "embeddings"
    CONTINUATION = "continuation"
    TOKEN_COUNT = "token_count"  # noqa: S105
    CACHE_ISOLATION = "cache_isolation"


class Timeouts(msgspec.Struct, frozen=True):
    """Limits in seconds.

    ``connect`` bounds a connection, ``reply`` a whole reply that is not a stream (health,
    discovery, token counts), ``first`` the time to the first byte of an answer, in which the engine
    may queue and prefill, ``stall`` the pause between two of its bytes, and ``total`` the answer.
    """

    connect: float = 5.0
    reply: float = 10.0
    first: float = 300.0
    stall: float = 60.0
    total: float = 3600.0


class Server(msgspec.Struct, frozen=True):
    """How to reach one engine.

    ``url`` is its base (see `endpoint`). ``key`` is sent as a Bearer token; empty for none.
    ``context`` bounds the context of its models in tokens; 0 does not.
    """

    kind: Kind
    url: str
    key: str = ""
    context: int = 0
    timeouts: Timeouts = Timeouts()

    def __post_init__(self) -> None:
        """Raise `ValueError`, whose text is for administrators, if the fields can't be used."""
        try:
            url = httpx.URL(self.url)
        except (httpx.InvalidURL, UnicodeError) as error:
            raise ValueError(f"{self.url!r} is not a valid address") from error
        if url.scheme not in {"http", "https"} or not url.host:
            raise ValueError("the address must begin with http:// or https:// and name a host")
        if url.userinfo or url.query or url.fragment:
            raise ValueError("the address must not contain a password, a query or a fragment")
        if not all("!" <= char <= "~" for char in self.key):
            raise ValueError("the key must consist of printable ASCII characters without spaces")

    def endpoint(self, path: str) -> str:
        """Return the URL of ``path``, which begins with ``/``.

        As in OpenAI's own client, an address of kind ``openai`` that has a path is complete: it
        takes the place of ``/v1``. With the other kinds, ``/v1`` and ``/api`` are not part of it.
        """
        base = self.url.rstrip("/")
        if self.kind is Kind.OPENAI:
            has_path = httpx.URL(base).path.strip("/") != ""
            return base + (path.removeprefix("/v1") if has_path else path)
        for suffix in ("/v1", "/api"):
            base = base.removesuffix(suffix)
        return base + path

    def __repr__(self) -> str:
        """Return a text without the key, which must not get into logs."""
        return f"Server({self.kind.value}, {self.url})"


class RemoteModel(msgspec.Struct, frozen=True):
    """A model as an engine offers it.

    ``context_length`` in tokens and ``slots`` (requests that it computes at once) are None if the
    engine doesn't say.
    """

    name: str
    context_length: int | None = None
    capabilities: frozenset[Capability] = frozenset()
    slots: int | None = None


class Discovery(msgspec.Struct, frozen=True):
    """What an engine says about itself; ``version`` is empty if it doesn't say."""

    version: str
    models: tuple[RemoteModel, ...]


class RemoteRequest(msgspec.Struct, frozen=True):
    """One answer to generate.

    ``resume_text`` is canonical text that has been published; only what follows it is emitted, and
    ``generated`` counts its tokens against ``params.max_tokens``. With ``restart`` the engine
    computes a new answer, which is written behind ``resume_text``; otherwise it must continue that
    text (see `messages.can_continue`). ``salt`` is an opaque text that is different for each owner.
    The caller applies ``options.context``, by ``params.max_tokens``.
    """

    model: RemoteModel
    messages: tuple[ChatMessage, ...] = ()
    params: SamplingParams = SamplingParams()
    options: PromptOptions = PromptOptions()
    resume_text: str = ""
    generated: int = 0
    restart: bool = False
    salt: str = ""


class Piece(msgspec.Struct, frozen=True):
    """The next canonical text of an answer, its token count, and ``logprobs`` if requested.

    ``text`` may be empty while a tool call is incomplete. Tokens of log probabilities have the ID
    -1, because engines send only their text.
    """

    text: str
    tokens: int
    logprobs: tuple[TokenLogprob, ...] = ()


class Finish(msgspec.Struct, frozen=True):
    """The end of an answer.

    ``cached_tokens`` None: unknown. Milliseconds: ``queue_ms`` until the engine began, if it says
    so, ``prefill_ms`` until the first token, ``decode_ms`` from there to the end. ``left_out``
    messages did not fit the context, with ``options.overflow`` of ``keep_latest``.
    """

    reason: Literal["stop", "length"]
    prompt_tokens: int
    cached_tokens: int | None
    completion_tokens: int
    queue_ms: float = 0.0
    prefill_ms: float = 0.0
    decode_ms: float = 0.0
    left_out: int = 0


class Vectors(msgspec.Struct, frozen=True):
    """Consecutive L2-normalized vectors of ``size`` little-endian float32; ``tokens`` of inputs."""

    data: bytes
    size: int
    tokens: int


class RemoteError(Exception):
    """A failed call to an engine; the text is for administrators.

    ``retry``: the same request may succeed later or on another engine.
    """

    retry: ClassVar[bool] = True


class Unreachable(RemoteError):
    """No connection: refused, timed out, unknown host, certificate, or address not allowed."""


class Interrupted(RemoteError):
    """The connection broke before the answer was complete."""


class Stalled(RemoteError):
    """The engine sent nothing, or did not end, within the time limit."""


class Lied(RemoteError):
    """The engine sent something that its protocol doesn't allow, or more than the limits."""


class Refused(RemoteError):
    """An error status of the engine, or an error in its stream.

    ``retry_after`` in seconds, if it named one. ``unauthorized``: the key is missing or wrong.
    ``busy``: the engine has no capacity or loads its model. ``missing``: no such model or endpoint.
    """

    def __init__(self, status: int, message: str, retry_after: float | None = None) -> None:
        super().__init__(f"{status}: {message}" if status else message)
        self.status = status
        self.message = message
        self.retry_after = retry_after

    @property
    def unauthorized(self) -> bool:
        return self.status in {401, 403}

    @property
    def busy(self) -> bool:
        return self.status in {408, 425, 429, 503}

    @property
    def missing(self) -> bool:
        return self.status == 404

    @property
    def by_request(self) -> bool:
        """Whether the request itself was refused, so that every engine would refuse it."""
        return self.status in {400, 413, 422}


class TooLong(RemoteError):
    """The prompt exceeds the context; ``prompt_tokens`` and ``context`` are 0 if unknown."""

    retry = False

    def __init__(self, message: str, prompt_tokens: int = 0, context: int = 0) -> None:
        super().__init__(message)
        self.prompt_tokens = prompt_tokens
        self.context = context


class Unsupported(RemoteError):
    """The engine can't do what was requested. Nothing was sent."""

    retry = False


class CannotContinue(Unsupported):
    """The engine can't continue ``resume_text``; the answer can be restarted."""


class Client(Protocol):
    """One engine. All calls are bounded in time and memory and raise only `RemoteError`."""

    server: Server

    async def discover(self) -> Discovery:
        """Ask for version and models. May cost the engine one token per model."""

    async def healthy(self) -> None:
        """Return if the engine takes requests. Costs it nothing."""

    def generate(self, request: RemoteRequest) -> AsyncGenerator[Piece | Finish]:
        """Yield the pieces of an answer and one `Finish` at its end.

        Closing the generator, or cancelling the task that reads it, cancels the answer at the
        engine: use `contextlib.aclosing`.
        """

    async def embed(self, model: RemoteModel, texts: Sequence[str]) -> Vectors:
        """Return a vector for each text. A text that exceeds the context raises `TooLong`."""

    async def count_tokens(
        self, model: RemoteModel, messages: Sequence[ChatMessage], options: PromptOptions
    ) -> int | None:
        """Return the tokens of the prompt of ``messages`` or ``options.raw``.

        None if the engine can't count.
        """

    async def close(self) -> None: ...


_FOR_PARAMS: Final[tuple[tuple[str, Capability], ...]] = (
    ("json_schema", Capability.JSON_SCHEMA),
    ("grammar", Capability.GRAMMAR),
    ("top_logprobs", Capability.LOGPROBS),
)


def needed(request: RemoteRequest) -> frozenset[Capability]:
    """Return the capabilities that a model must have for ``request``."""
    params: Any = request.params
    options = request.options
    found = {need for name, need in _FOR_PARAMS if getattr(params, name) not in (None, "")}
    found.add(Capability.CHAT if options.raw is None else Capability.COMPLETION)
    if options.tools and options.tool_choice != "none":
        found.add(Capability.TOOLS)
    if options.continue_final or (request.resume_text and not request.restart):
        found.add(Capability.CONTINUATION)
    return frozenset(found)
