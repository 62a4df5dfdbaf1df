"""Settings from the environment, validated at start.

Every setting is a `CHATSITE_*` variable (and `DATABASE_URL`, the conventional name). An invalid
value stops the start with the variable's name and its description.
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
import unicodedata
from email.utils import parseaddr
from functools import cached_property
from importlib.util import find_spec
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import parse_qsl, urlsplit

from pydantic import AliasChoices, Field, ValidationError, field_validator, model_validator
from pydantic_settings import NoDecode, SettingsConfigDict

from chatsite import durations
from chatsite.directory_settings import SECRETS, DirectorySettings

# The address field of a Unix socket holds 108 bytes on Linux, 104 on macOS and BSD.
_SOCKET_PATH_MAX = 100
# The password in a URL, which is not shown.
_PASSWORD = re.compile(r"(://[^/@]*:)\S*@")

# The same, with the username before it.
_PASSWORD_IN_URL = re.compile(r"(?<=://)([^/@]*):[^/@]*@")
_SECRET = {
    *("hf_token", "metrics_token", "redis_sentinel_password", "secret_key", "smtp_password"),
    *SECRETS,
}

_LOOPBACK = {"127.0.0.1", "localhost", "::1"}

_SENTINEL_PORT = 26379

# Options of a Redis URL that name files.
_TLS_FILES = {"ssl_ca_certs", "ssl_certfile", "ssl_keyfile"}

# Control characters, surrogates, and separators of lines and paragraphs.
_NOT_IN_NAMES = {"Cc", "Cs", "Zl", "Zp"}

Words = Annotated[tuple[str, ...], NoDecode]
Networks = Annotated[tuple[IPv4Network | IPv6Network, ...], NoDecode]


class Environment(DirectorySettings):
    """Each field's description is its documentation: `manage.py settings` prints it."""

    model_config = SettingsConfigDict(env_prefix="CHATSITE_", frozen=True, extra="ignore")

    name: str = Field(
        "Chatsite",
        min_length=1,
        max_length=40,
        description="Name of the site on its pages, in their titles and of the installed web app.",
    )
    data_dir: Path = Field(Path("var"), description="Folder for all data.")
    host: str = Field("127.0.0.1", description="Address that the web server binds.")
    port: int = Field(8000, ge=1, le=65535, description="Port that the web server binds.")
    origins: Words = Field(
        (),
        description="Addresses that users open, with scheme, separated by commas, when they "
        "differ from HOST and PORT (https://chat.example.org).",
    )
    path_prefix: str = Field(
        "",
        description="Path below which a proxy serves the site (/chat). The proxy may keep the path "
        "in requests or remove it.",
    )
    trusted_proxies: Networks = Field(
        (),
        description="Addresses or networks of reverse proxies (127.0.0.1, 10.0.0.0/8), separated "
        "by commas. X-Forwarded-For and X-Forwarded-Proto are accepted only from them. Needed "
        "for sign-in limits per client.",
    )
    hsts_seconds: int = Field(
        31_536_000,
        ge=0,
        description="max-age of Strict-Transport-Security in seconds, sent when all of "
        "CHATSITE_ORIGINS are https; 0 sends no such header.",
    )
    secret_key: str = Field(
        "", description="Signs sessions. Generated in the data folder when empty."
    )
    debug: bool = Field(False, description="Django's debug pages. Never enable on a shared server.")
    database_url: str = Field(
        "",
        validation_alias=AliasChoices("DATABASE_URL", "CHATSITE_DATABASE_URL"),
        description="postgres://user:password@host/name. SQLite in the data folder when empty.",
    )
    database_connections: int = Field(
        4, ge=2, le=100, description="Connections of each process to PostgreSQL."
    )
    database_pooler: Literal["none", "session", "transaction"] = Field(
        "none",
        description="pool_mode of a connection pooler, such as PgBouncer, that DATABASE_URL leads "
        "to.",
    )
    redis_url: str = Field(
        "",
        description="redis://… or rediss://… (TLS) of an existing server. `manage.py up` runs its "
        "own when empty. With CHATSITE_REDIS_SENTINELS its host is the name of the master.",
    )
    redis_sentinels: Words = Field(
        (),
        description="Redis Sentinels (10.0.0.5:26379, 10.0.0.6:26379), separated by commas. They "
        "use TLS if CHATSITE_REDIS_URL is rediss://.",
    )
    redis_sentinel_password: str = Field("", description="Password of the Sentinels, if any.")
    redis_prefix: str = Field(
        "cs:",
        min_length=1,
        max_length=64,
        pattern=r"^[A-Za-z0-9_.:-]+$",
        description="Prefix of all keys in Redis. Sites that share a server need different "
        "prefixes.",
    )
    log_format: Literal["text", "json"] = Field("text", description="Format of log lines.")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO", description="Lowest severity that is logged."
    )
    session_days: int = Field(14, ge=1, le=365, description="Days until a user must sign in again.")
    smtp_host: str = Field(
        "",
        description="Mail server for invitations, password resets and sign-up. Empty sends no "
        "mail: administrators pass links on themselves.",
    )
    smtp_port: int = Field(
        0,
        ge=0,
        le=65535,
        description="Port of the mail server; 0: 587, or 465 for CHATSITE_SMTP_TLS=tls.",
    )
    smtp_user: str = Field("", description="Username at the mail server, if it needs one.")
    smtp_password: str = Field("", description="Password at the mail server.")
    smtp_tls: Literal["starttls", "tls", "none"] = Field(
        "starttls",
        description="Encryption to the mail server: `starttls`, `tls` from the start, or `none`.",
    )
    smtp_sender: str = Field(
        "", description="Sender of mails (Chat <chat@example.org>). Needed with CHATSITE_SMTP_HOST."
    )
    queue_max: int = Field(512, ge=1, description="Requests that may be queued for one model.")
    queue_max_per_person: int = Field(
        50, ge=1, description="Open requests (queued and running) of one user."
    )
    queue_mb_per_person: int = Field(
        64, ge=1, le=100_000, description="MiB that the open requests of one user may hold."
    )
    redis_mb: int = Field(
        0,
        ge=0,
        le=1_000_000,
        description="Memory limit of the site's own Redis in MiB; new requests are refused beyond "
        "it. 0: a sixteenth of the memory, 256 to 4096. Rewriting its file can need as much again.",
    )
    max_message_chars: int = Field(
        100_000, ge=100, le=1_000_000, description="Maximum length of a message, in characters."
    )
    attachment_mb: int = Field(
        20, ge=1, le=200, description="Maximum size of an attachment, in MB."
    )
    attachment_chars: int = Field(
        5_000_000,
        ge=1000,
        le=20_000_000,
        description=(
            "Maximum text of an attachment, in characters. What does not fit in the context of the "
            "model is searched for what matches the question."
        ),
    )
    document_mb: int = Field(
        50, ge=1, le=500, description="Maximum size of a document of a collection, in MB."
    )
    document_chars: int = Field(
        5_000_000,
        ge=1000,
        le=50_000_000,
        description="Maximum text of a document of a collection, in characters.",
    )
    document_readers: int = Field(
        1, ge=1, le=32, description="Documents of collections that are read in parallel."
    )
    knowledge_mb: int = Field(
        2000,
        ge=1,
        description="Maximum size of all collections of a user, and of a collection of a group, in "
        "MB.",
    )
    collection_documents: int = Field(
        50_000, ge=1, description="Maximum number of documents in a collection."
    )
    api_anonymous: str = Field(
        "",
        description="Username whose rights API requests without a key have. Empty refuses them.",
    )
    api_origins: Words = Field(
        (),
        description="Origins whose pages may call the API from a browser (CORS), with scheme, "
        "separated by commas (https://tool.example.org, app://obsidian.md); `*` for any.",
    )
    api_body_mb: int = Field(
        32, ge=1, le=1024, description="Maximum size of an API request, in MiB."
    )
    client_header_seconds: float = Field(
        20, gt=0, le=3600, description="Timeout in seconds for the headers of a request."
    )
    client_body_seconds: float = Field(
        30,
        gt=0,
        le=3600,
        description="Seconds that a request body may arrive more slowly than 1 KiB/s.",
    )
    client_idle_seconds: float = Field(
        75,
        gt=0,
        le=86_400,
        description="Keep-alive timeout of idle connections in seconds; longer than the timeout "
        "of the proxy.",
    )
    client_connections: int = Field(
        1000,
        ge=0,
        le=1_000_000,
        description="Open connections per client address, except from this machine; 0 for no "
        "limit. Behind a proxy on another machine all users have its address.",
    )
    system_prompt: str = Field(
        "You are a helpful assistant. Give short, clear and correct answers.",
        description="System prompt of every chat. Empty uses the model's own.",
    )
    titles: bool = Field(
        True,
        description="Let the model generate conversation titles when it is idle. Models under "
        "0.4 billion parameters are not used for it.",
    )
    slots: int = Field(8, ge=1, le=256, description="Concurrent answers per model.")
    context: int = Field(
        4096,
        ge=64,
        description="Context per answer in tokens, at most what the model supports; less where "
        "memory does not suffice.",
    )
    answer_tokens: int = Field(
        8192,
        ge=0,
        le=10_000_000,
        description="Tokens after which a chat answer is cut; the user can continue it. Models and "
        "assistants can have their own limit; 0 for none. Does not apply to API requests.",
    )
    threads: int = Field(
        0, ge=0, le=1024, description="Threads per model; 0 uses what CPU affinity and quota allow."
    )
    step_target_ms: float = Field(
        200,
        ge=10,
        le=10_000,
        description="Target for the longest engine step: bounds gaps in a stream.",
    )
    cache_mb: int = Field(
        1024,
        ge=0,
        le=1_000_000,
        description="RAM per model in MiB for the KV cache of conversations that lost their slot; "
        "they resume in milliseconds.",
    )
    memory_mb: int = Field(
        0,
        ge=0,
        le=100_000_000,
        description="Memory for all models of this machine in MiB; 0 takes all but an eighth "
        "(1.5 GiB at least).",
    )
    fast_weights: bool = Field(
        True,
        description="Compute with a Q8_0 copy of a model's weights where that is measured to be "
        "faster. The copy takes disk and memory. Off: the file's own weights only.",
    )
    gpu_layers: Annotated[int, Field(ge=0, le=10_000)] | Literal["auto"] = Field(
        "auto",
        description="Layers of a model on GPUs: a number, 0 for none, or `auto` for as many as "
        "fit their free memory.",
    )
    gpu_devices: Words = Field(
        (),
        description="GPUs to use, as `manage.py doctor` lists them, separated by commas, in the "
        "order in which they are filled; all if empty.",
    )
    keep_loaded: int = Field(
        4, ge=1, le=64, description="Models in memory at the same time, where memory allows."
    )
    keep_alive: float = Field(
        -1,
        description="How long an idle model stays in memory (5m, 3600, 0); -1 until another model "
        "needs the memory.",
    )
    preload: bool = Field(True, description="Load the default model at start.")
    files_address: str = Field(
        "",
        description="Address of this machine (10.0.0.5:8010) at which its inference host gives its "
        "model files to the hosts of other machines. Empty: it gives none.",
    )
    files_mb_per_second: float = Field(
        100, ge=0, description="Most MB per second that it gives; 0 for no limit."
    )
    lease_seconds: float = Field(
        10,
        ge=1,
        le=600,
        description="Seconds within which another host continues the answers of a host that does "
        "not respond.",
    )
    drain_seconds: float = Field(
        0,
        ge=0,
        le=3600,
        description="Seconds that a web server or inference host finishes its requests after "
        "SIGTERM. What remains then is continued by another host; 0 hands it over at once.",
    )
    max_attempts: int = Field(
        3, ge=1, le=10, description="Attempts at one answer before it is marked as interrupted."
    )
    hang_seconds: float = Field(
        60,
        ge=0,
        le=3600,
        description="Seconds without a heartbeat after which `manage.py up` kills and restarts a "
        "process; 0 never does.",
    )
    stream_ttl: int = Field(
        3600, ge=60, description="Seconds that a finished stream stays in Redis for late readers."
    )
    temporary_seconds: int = Field(
        600,
        ge=60,
        le=86_400,
        description="Seconds that the finished answer of a temporary chat stays in Redis, so that "
        "a reloaded page still gets it.",
    )
    metrics_token: str = Field(
        "",
        description="Bearer token for `/metrics`. Empty: only direct requests from this machine "
        "may read it.",
    )
    otel_endpoint: str = Field(
        "",
        description="Address of an OpenTelemetry collector that gets the spans of requests (OTLP "
        "over HTTP), such as http://collector:4318/v1/traces. Empty: no tracing. Needs "
        "`make setup EXTRAS=otel`.",
    )
    otel_share: float = Field(
        1.0,
        ge=0,
        le=1,
        description="Share of requests that are traced, of those that bring no `traceparent`.",
    )
    audit_days: int = Field(
        0,
        ge=0,
        le=36_500,
        description="Days after which audit events are deleted; 0 keeps them forever.",
    )
    audit_api: Literal["off", "summary", "all"] = Field(
        "summary",
        description="API requests in the audit log: `all` records each, `summary` one event per "
        "day, key and model, `off` none. Refused requests are always recorded.",
    )
    audit_syslog: str = Field(
        "",
        description="udp://host:514 or tcp://host:514 of a syslog server that gets each audit "
        "event (RFC 5424).",
    )
    jobs: int = Field(2, ge=1, le=16, description="Concurrent downloads and other jobs on models.")
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
        description="Hosts that models may be downloaded from, over https; `*.` matches any "
        "subdomain.",
    )
    ollama_registry: str = Field(
        "",
        description="http(s)://… of a registry to use instead of Ollama's; it is trusted.",
    )
    hf_endpoint: str = Field(
        "", description="http(s)://… of a mirror to use instead of Hugging Face; it is trusted."
    )
    hf_token: str = Field("", description="Token for gated models of Hugging Face.")
    backup_dir: Path | None = Field(
        None,
        description="Folder for regular backups, which every web server can read. Unset makes "
        "none, and their age is not checked.",
    )
    backup_hours: int = Field(
        24,
        ge=0,
        le=8784,
        description="Hours between regular backups; 0 makes none, for backups by another "
        "scheduler into CHATSITE_BACKUP_DIR.",
    )
    backup_keep: int = Field(
        7, ge=1, le=10_000, description="Regular backups to keep; older ones are deleted."
    )
    backup_age_hours: int = Field(
        48,
        ge=1,
        le=87_840,
        description="Age in hours of the newest backup beyond which the overview and `manage.py "
        "doctor` warn.",
    )
    backend: Literal["llama", "scripted"] = Field(
        "llama", description="`scripted` replaces llama.cpp in tests."
    )

    @field_validator(
        *("origins", "trusted_proxies", "api_origins", "download_hosts", "gpu_devices"),
        "redis_sentinels",
        mode="before",
    )
    @classmethod
    def _split(cls, value: Any) -> Any:
        if isinstance(value, str):
            return tuple(word.strip() for word in value.split(",") if word.strip())
        return value

    @field_validator("smtp_sender")
    @classmethod
    def _mailbox(cls, value: str) -> str:
        address = parseaddr(value)[1]
        if value and not (is_one_line(value) and re.fullmatch(r"[^@\s]+@[^@\s]+", address)):
            raise ValueError(
                f"{value!r} must look like chat@example.org or Chat <chat@example.org>"
            )
        return value

    @field_validator("smtp_host")
    @classmethod
    def _host_name(cls, value: str) -> str:
        if value and not re.fullmatch(r"[A-Za-z0-9._-]+|[0-9A-Fa-f:.]+", value):
            raise ValueError(f"{value!r} must be a host name, such as mail.example.org")
        return value

    @model_validator(mode="after")
    def _complete_smtp(self) -> Environment:
        if self.smtp_host and not self.smtp_sender:
            raise ValueError("CHATSITE_SMTP_HOST is set, but CHATSITE_SMTP_SENDER is not")
        if self.smtp_password and not self.smtp_user:
            raise ValueError("CHATSITE_SMTP_PASSWORD is set, but CHATSITE_SMTP_USER is not")
        if self.smtp_user and self.smtp_tls == "none" and self.smtp_host not in _LOOPBACK:
            raise ValueError(
                "CHATSITE_SMTP_TLS=none would send CHATSITE_SMTP_PASSWORD unencrypted to "
                f"{self.smtp_host}"
            )
        return self

    @field_validator("keep_alive", mode="before")
    @classmethod
    def _seconds(cls, value: Any) -> Any:
        # A bare number is parsed as seconds.
        has_unit = isinstance(value, str) and value[-1:].isalpha()
        return durations.seconds(value) if has_unit else value

    @field_validator("name")
    @classmethod
    def _on_one_line(cls, value: str) -> str:
        if not value.strip() or not is_one_line(value):
            raise ValueError("must be text without control characters")
        return value.strip()

    @field_validator("path_prefix")
    @classmethod
    def _path(cls, value: str) -> str:
        path = value.rstrip("/")
        if path and not re.fullmatch(r"(/[A-Za-z0-9._~-]+)+", path):
            raise ValueError(f"{value!r} must look like /chat")
        return path

    @field_validator("host")
    @classmethod
    def _without_brackets(cls, value: str) -> str:
        """Accept an IPv6 address in the form that it has in a URL."""
        return value[1:-1] if value.startswith("[") and value.endswith("]") else value

    @field_validator("keep_alive")
    @classmethod
    def _finite(cls, value: float) -> float:
        return durations.seconds(value)

    @field_validator("origins")
    @classmethod
    def _with_scheme(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        value = tuple(origin.removesuffix("/") for origin in value)
        for origin in value:
            scheme, separator, rest = origin.partition("://")
            if scheme not in {"http", "https"} or not separator or not rest or "/" in rest:
                raise ValueError(
                    f"{origin!r} must look like https://chat.example.org or http://h:8000"
                )
            if "*" in rest:
                raise ValueError(
                    f"{origin!r}: a wildcard would let any site use the sessions of users"
                )
            if rest.count(":") > 1 and not rest.startswith("["):
                raise ValueError(f"{origin!r}: write an IPv6 address as http://[::1]:8000")
        return value

    @field_validator("api_origins")
    @classmethod
    def _of_pages(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for origin in value:
            scheme, _separator, rest = origin.partition("://")
            if origin not in {"*", "null"} and (not scheme or not rest or {*"/*"} & {*rest}):
                raise ValueError(f"{origin!r} must look like https://tool.example.org, or be *")
        return value

    @field_validator("redis_url")
    @classmethod
    def _of_redis(cls, value: str) -> str:
        if not value:
            return value
        try:
            parts = urlsplit(value)
            valid = parts.scheme in {"redis", "rediss"} and (parts.port or 1) > 0
        except ValueError:
            valid = False
        else:
            # redis-py uses database 0 if the path is not a number.
            valid = valid and (not parts.path.strip("/") or parts.path[1:].isdecimal())
            valid = valid or (parts.scheme == "unix" and bool(parts.path))
        if not valid:
            raise ValueError(
                "must look like redis://user:password@host:6379/0, rediss://host:6379 "
                "or unix:///path/to/redis.sock?db=0"
            )
        for name, option in parse_qsl(parts.query):
            if name.startswith("ssl_") and parts.scheme != "rediss":
                raise ValueError(f"{name} needs TLS: begin the address with rediss://")
            if name in _TLS_FILES and not os.access(option, os.R_OK):
                raise ValueError(f"the file {option} of {name} can't be read")
        return value

    @field_validator("redis_sentinels")
    @classmethod
    def _of_sentinels(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for word in value:
            try:
                parts = urlsplit(f"//{word}")
                valid = bool(parts.hostname) and (parts.port or 1) > 0 and parts.netloc == word
            except ValueError:
                valid = False
            if not valid or "@" in word:
                raise ValueError(f"{word!r} must look like sentinel1.example.org:26379")
        return value

    @model_validator(mode="after")
    def _complete_sentinels(self) -> Environment:
        if not self.redis_sentinels:
            if self.redis_sentinel_password:
                raise ValueError(
                    "CHATSITE_REDIS_SENTINEL_PASSWORD is set, but CHATSITE_REDIS_SENTINELS is not"
                )
            return self
        parts = urlsplit(self.redis_url)
        if parts.scheme not in {"redis", "rediss"} or not parts.hostname or parts.port:
            raise ValueError(
                "CHATSITE_REDIS_SENTINELS is set, so CHATSITE_REDIS_URL must have the name of the "
                "master as its host, without a port: redis://:password@mymaster/0"
            )
        return self

    @field_validator("files_address")
    @classmethod
    def _of_this_machine(cls, value: str) -> str:
        if not value:
            return value
        try:
            parts = urlsplit(f"//{value}")
            valid = bool(parts.hostname) and bool(parts.port) and parts.netloc == value
        except ValueError:
            valid = False
        if not valid or "@" in value:
            raise ValueError(f"{value!r} must look like 10.0.0.5:8010")
        if parts.hostname in {"0.0.0.0", "::"}:  # noqa: S104
            raise ValueError("must be the address that other machines reach this one at")
        return value

    @field_validator("audit_syslog")
    @classmethod
    def _of_syslog(cls, value: str) -> str:
        if not value:
            return value
        try:
            parts = urlsplit(value)
            valid = parts.scheme in {"udp", "tcp"} and bool(parts.hostname)
            valid = valid and (parts.port is None or parts.port > 0)
            valid = valid and not (parts.path.strip("/") or parts.query or parts.username)
        except ValueError:
            valid = False
        if not valid:
            raise ValueError("must look like udp://logs.example.org:514 or tcp://10.0.0.5:601")
        return value.rstrip("/")

    @field_validator("ollama_registry", "hf_endpoint")
    @classmethod
    def _endpoint(cls, value: str) -> str:
        if value and not value.startswith(("http://", "https://")):
            raise ValueError(f"{value!r} must look like https://models.example.org")
        return value.rstrip("/")

    @field_validator("data_dir", "backup_dir")
    @classmethod
    def _absolute(cls, value: Path | None) -> Path | None:
        return value and value.expanduser().absolute()

    @field_validator("backup_dir", mode="before")
    @classmethod
    def _unset_if_empty(cls, value: Any) -> Any:
        return value or None

    @cached_property
    def redis_socket(self) -> Path:
        """The socket of the site's own Redis.

        For a data folder with a long path it is in a private folder under the system's temporary
        one, since the kernel limits the length of a socket's path.
        """
        path = self.data_dir / "run" / "redis.sock"
        if len(os.fsencode(path)) <= _SOCKET_PATH_MAX:
            return path
        digest = hashlib.sha256(os.fsencode(self.data_dir)).hexdigest()[:16]
        return Path(tempfile.gettempdir()) / f"chatsite-{os.getuid()}-{digest}" / "redis.sock"

    @cached_property
    def effective_redis_url(self) -> str:
        return self.redis_url or f"unix://{self.redis_socket}"

    @property
    def sentinel_addresses(self) -> list[tuple[str, int]]:
        """The host and port of each Sentinel."""
        parts = [urlsplit(f"//{word}") for word in self.redis_sentinels]
        return [(part.hostname or "", part.port or _SENTINEL_PORT) for part in parts]

    @cached_property
    def effective_origins(self) -> tuple[str, ...]:
        """The origins that a browser may send: the configured ones and the loopback names."""
        names = {self.host, "127.0.0.1", "localhost", "::1"} - {"0.0.0.0", "::", ""}  # noqa: S104
        return (
            *self.origins,
            *sorted(f"http://{in_url(name)}:{self.port}" for name in names),
        )

    @property
    def cookie_port(self) -> int:
        """The port in the names of cookies.

        The bound port, so that two sites on one host name don't sign each other's users out. With
        several machines it is the port that users open: their web servers may bind different ones.
        """
        if not (self.database_url and self.redis_url and self.origins):
            return self.port
        origin = urlsplit(self.origins[0])
        return origin.port or (443 if origin.scheme == "https" else 80)

    @property
    def mail_port(self) -> int:
        return self.smtp_port or (465 if self.smtp_tls == "tls" else 587)

    @property
    def https_only(self) -> bool:
        """Whether users reach the site by https only, behind a proxy that has the certificate."""
        return bool(self.origins) and all(origin.startswith("https://") for origin in self.origins)


def is_one_line(text: str) -> bool:
    """Return whether ``text`` has neither control characters nor line breaks."""
    return not any(unicodedata.category(one) in _NOT_IN_NAMES for one in text)


def variable_of(name: str) -> str:
    """Return the environment variable of a field of `Environment`."""
    alias = Environment.model_fields[name].validation_alias
    first = getattr(alias, "choices", [None])[0]
    return str(first or f"CHATSITE_{name.upper()}")


def shown_value(name: str, value: Any) -> str:
    """Return ``value`` as it would be set in the environment, with secrets masked."""
    if isinstance(value, tuple) and value and isinstance(value[0], tuple):
        value = "; ".join("=".join(pair) for pair in value)
    if isinstance(value, tuple):
        value = ",".join(map(str, value))
    text = str(value)
    if name in _SECRET and text:
        return "********"
    return _PASSWORD_IN_URL.sub(r"\1:********@", text)


def in_url(host: str) -> str:
    """Return ``host`` as it is written in a URL: IPv6 addresses in brackets."""
    return f"[{host}]" if ":" in host else host


class BadSetting(SystemExit):
    """Ends the process with the variable's name, what was wrong, and its description."""


def require_ldap() -> None:
    """Stop the start if LDAP is configured, but the packages for it are not installed."""
    missing = [name for name in ("ldap", "django_auth_ldap") if find_spec(name) is None]
    if missing:
        raise BadSetting(
            "CHATSITE_LDAP_URL is set, but sign-in with LDAP is not installed: run "
            "`make setup EXTRAS=ldap`, or remove the setting."
        )


def require_otel() -> None:
    """Stop the start if a collector is configured, but the packages for it are not installed."""
    if find_spec("opentelemetry") is None or find_spec("opentelemetry.exporter") is None:
        raise BadSetting(
            "CHATSITE_OTEL_ENDPOINT is set, but the export of spans is not installed: run "
            "`make setup EXTRAS=otel`, or remove the setting."
        )


def load() -> Environment:
    try:
        return Environment()
    except ValidationError as error:
        lines = []
        for problem in error.errors():
            if not problem["loc"]:  # settings that contradict each other
                lines.append(str(problem["msg"]).removeprefix("Value error, "))
                continue
            name = str(problem["loc"][0])
            variable = name if name.isupper() else f"CHATSITE_{name.upper()}"
            field = Environment.model_fields.get(name.lower())
            hint = f" ({field.description})" if field and field.description else ""
            value = _PASSWORD.sub(r"\1…@", repr(problem.get("input")))
            if name.lower() in {*SECRETS, "redis_sentinel_password"}:
                value = "********"
            lines.append(f"{variable}={value}: {problem['msg']}{hint}")
        raise BadSetting("Invalid settings:\n  " + "\n  ".join(lines)) from None
