"""Settings from the environment, checked at start.

Every setting is a `CHATSITE_*` variable (and `DATABASE_URL`, as other products spell it). A
value that can't be used stops the start with the variable's name and what it may be.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AliasChoices, Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from chatsite import durations

# The address field of a Unix socket holds 108 bytes on Linux, 104 on macOS and BSD.
_SOCKET_PATH_MAX = 100

Words = Annotated[tuple[str, ...], NoDecode]


class Environment(BaseSettings):
    """Each field's description is its documentation: `manage.py settings` prints them."""

    model_config = SettingsConfigDict(env_prefix="CHATSITE_", frozen=True, extra="ignore")

    data_dir: Path = Field(Path("var"), description="The one place for data.")
    host: str = Field("127.0.0.1", description="Address that the web server binds.")
    port: int = Field(8000, ge=1, le=65535, description="Port that the web server binds.")
    origins: Words = Field(
        (),
        description="Addresses people use, with scheme, separated by commas, when they differ "
        "from HOST and PORT (https://chat.example.org).",
    )
    secret_key: str = Field(
        "", description="Signs sessions; made in the data folder when it is empty."
    )
    debug: bool = Field(False, description="Django's debug pages. Never on a shared server.")
    database_url: str = Field(
        "",
        validation_alias=AliasChoices("DATABASE_URL", "CHATSITE_DATABASE_URL"),
        description="postgres://user:password@host/name. SQLite in the data folder when empty.",
    )
    redis_url: str = Field(
        "",
        description="redis://… of a server of yours; `manage.py up` runs its own when empty.",
    )
    log_format: Literal["text", "json"] = Field("text", description="How log lines look.")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO", description="The least severe lines that are logged."
    )
    session_days: int = Field(14, ge=1, le=365, description="Days until one must sign in again.")
    queue_max: int = Field(512, ge=1, description="Requests that may wait for one model.")
    queue_max_per_person: int = Field(
        50, ge=1, description="Open requests (waiting and running) of one person."
    )
    max_message_chars: int = Field(
        100_000, ge=100, le=1_000_000, description="Characters in one message."
    )
    attachment_mb: int = Field(
        20, ge=1, le=200, description="Largest file that can be attached to a message, in MB."
    )
    attachment_chars: int = Field(
        200_000, ge=1000, le=2_000_000, description="Characters of text in an attached file."
    )
    api_anonymous: str = Field(
        "",
        description="Username whose rights API requests without a key get; empty refuses them.",
    )
    api_origins: Words = Field(
        (),
        description="Origins whose pages may use the API from a browser, with scheme, separated "
        "by commas (https://tool.example.org, app://obsidian.md); `*` for any.",
    )
    api_body_mb: int = Field(32, ge=1, le=1024, description="Largest API request, in MiB.")
    system_prompt: str = Field(
        "You are a helpful assistant. Give short, clear and correct answers.",
        description="What every conversation begins with, unseen; empty for the model's own.",
    )
    titles: bool = Field(
        True,
        description="Let the model that answered name the conversation, once it has time; models "
        "under 0.4 billion parameters are not asked.",
    )
    slots: int = Field(8, ge=1, le=256, description="Answers written at once per model.")
    context: int = Field(
        4096,
        ge=64,
        description="Tokens of context per answer, capped by the model's own; less where memory "
        "is too short for it.",
    )
    threads: int = Field(
        0, ge=0, le=1024, description="Threads per model; 0 takes what affinity and quota allow."
    )
    step_target_ms: float = Field(
        200, ge=10, le=10_000, description="Longest engine step aimed at: bounds gaps in a stream."
    )
    cache_mb: int = Field(
        1024,
        ge=0,
        le=1_000_000,
        description="MiB of RAM per model for conversations that lost their slot; they come back "
        "in milliseconds.",
    )
    memory_mb: int = Field(
        0,
        ge=0,
        le=100_000_000,
        description="MiB that models of this machine may take together; 0 takes all but an eighth "
        "(1.5 GiB at least).",
    )
    fast_weights: bool = Field(
        True,
        description="Compute with a copy of a model's weights as Q8_0 where that is measured to be "
        "faster: it takes disk and memory, and rounds as little as other settings of llama.cpp do. "
        "Off: the file's own weights only.",
    )
    gpu_layers: Annotated[int, Field(ge=0, le=10_000)] | Literal["auto"] = Field(
        "auto",
        description="Layers of a model on graphics processors: a number, 0 for none, or `auto` for "
        "as many as their free memory takes.",
    )
    gpu_devices: Words = Field(
        (),
        description="Graphics processors to use, as `manage.py doctor` names them, separated by "
        "commas, the one to fill first in front; all if empty.",
    )
    keep_loaded: int = Field(
        4, ge=1, le=64, description="Models held in memory at once, where memory allows."
    )
    keep_alive: float = Field(
        -1,
        description="How long an unused model stays in memory (5m, 3600, 0); -1 until another one "
        "needs the room.",
    )
    preload: bool = Field(
        True, description="Load the default model at start, so that nobody waits for it."
    )
    lease_seconds: float = Field(
        10, ge=1, le=600, description="Silence after which a host's jobs go to another."
    )
    max_attempts: int = Field(
        3, ge=1, le=10, description="Starts of one answer before it is given up as interrupted."
    )
    stream_ttl: int = Field(
        3600, ge=60, description="Seconds that an ended stream stays in Redis for late readers."
    )
    metrics_token: str = Field(
        "",
        description="Bearer token for `/metrics`; empty lets only this machine read it, without "
        "a proxy between.",
    )
    jobs: int = Field(
        2, ge=1, le=16, description="Downloads and other work on models done at once."
    )
    import_dir: Path | None = Field(
        None,
        description="Folder with GGUF files and bundles that administrators may import; `import` "
        "in the data folder if unset.",
    )
    download_hosts: Words = Field(
        (
            *("registry.ollama.ai", "*.r2.cloudflarestorage.com"),
            *("huggingface.co", "*.huggingface.co", "hf.co", "*.hf.co"),
        ),
        description="Hosts that models may come from, over https; `*.` stands for any name below.",
    )
    ollama_registry: str = Field(
        "",
        description="http(s)://… of a registry to ask in place of Ollama's; it is trusted.",
    )
    hf_endpoint: str = Field(
        "", description="http(s)://… of a mirror to ask in place of Hugging Face; it is trusted."
    )
    hf_token: str = Field("", description="Token for gated models of Hugging Face.")
    backend: Literal["llama", "scripted"] = Field(
        "llama", description="`scripted` stands in for llama.cpp in tests of everything else."
    )

    @field_validator("origins", "api_origins", "download_hosts", "gpu_devices", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        if isinstance(value, str):
            return tuple(word.strip() for word in value.split(",") if word.strip())
        return value

    @field_validator("keep_alive", mode="before")
    @classmethod
    def _seconds(cls, value: Any) -> Any:
        # A bare number is left to be read as seconds.
        has_unit = isinstance(value, str) and value[-1:].isalpha()
        return durations.seconds(value) if has_unit else value

    @field_validator("origins")
    @classmethod
    def _with_scheme(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for origin in value:
            scheme, separator, rest = origin.partition("://")
            if scheme not in {"http", "https"} or not separator or not rest or "/" in rest:
                raise ValueError(
                    f"{origin!r} is not like https://chat.example.org or http://h:8000"
                )
            if "*" in rest:
                raise ValueError(f"{origin!r}: a wildcard would let any site use people's sessions")
        return value

    @field_validator("api_origins")
    @classmethod
    def _of_pages(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for origin in value:
            scheme, _separator, rest = origin.partition("://")
            if origin not in {"*", "null"} and (not scheme or not rest or {*"/*"} & {*rest}):
                raise ValueError(f"{origin!r} is not like https://tool.example.org, nor *")
        return value

    @field_validator("ollama_registry", "hf_endpoint")
    @classmethod
    def _endpoint(cls, value: str) -> str:
        if value and not value.startswith(("http://", "https://")):
            raise ValueError(f"{value!r} is not like https://models.example.org")
        return value.rstrip("/")

    @field_validator("data_dir")
    @classmethod
    def _absolute(cls, value: Path) -> Path:
        return value.expanduser().absolute()

    @cached_property
    def redis_socket(self) -> Path:
        """Where our own Redis listens. A data folder with a long path gets a private folder
        under the system's temporary one, since the kernel limits a socket's path."""
        path = self.data_dir / "run" / "redis.sock"
        if len(os.fsencode(path)) <= _SOCKET_PATH_MAX:
            return path
        digest = hashlib.sha256(os.fsencode(self.data_dir)).hexdigest()[:16]
        return Path(tempfile.gettempdir()) / f"chatsite-{os.getuid()}-{digest}" / "redis.sock"

    @cached_property
    def effective_redis_url(self) -> str:
        return self.redis_url or f"unix://{self.redis_socket}"

    @cached_property
    def effective_origins(self) -> tuple[str, ...]:
        """What a browser may send as `Origin`: the configured ones and the loopback names."""
        names = {self.host, "127.0.0.1", "localhost", "[::1]"} - {"0.0.0.0", "::", ""}  # noqa: S104
        return (*self.origins, *sorted(f"http://{name}:{self.port}" for name in names))


class BadSetting(SystemExit):
    """Ends the process with the variable's name, what was wrong, and its description."""


def load() -> Environment:
    try:
        return Environment()
    except ValidationError as error:
        lines = []
        for problem in error.errors():
            name = str(problem["loc"][0])
            variable = name if name.isupper() else f"CHATSITE_{name.upper()}"
            field = Environment.model_fields.get(name.lower())
            hint = f" ({field.description})" if field and field.description else ""
            lines.append(f"{variable}={problem.get('input')!r}: {problem['msg']}{hint}")
        raise BadSetting("Bad settings:\n  " + "\n  ".join(lines)) from None
