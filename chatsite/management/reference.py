"""Generation of the reference pages of `docs/` from the code that they describe.

`pages` returns each generated page or section. `manage.py docs` writes them to the files, and
`tests/unit/test_documents.py` compares the files with the code.
"""

from __future__ import annotations

import argparse
import importlib
import pkgutil
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any, Final

from django.core.management import get_commands, load_command_class
from django.core.management.base import BaseCommand
from django.utils import translation

import chatsite
import models_admin
from chatsite import errors
from chatsite.engine.contract.messages import Stats, Usage
from chatsite.env import Environment, shown_value, variable_of
from chatsite.feedback.summary import OfModel
from chatsite.hosts import status
from chatsite.hosts.latency import Latency
from chatsite.management import typescript
from chatsite.site_settings import fields as site_settings
from chatsite.web import metrics

ROOT: Final = Path(__file__).resolve().parents[2]
_MARK: Final = "<!-- Generated from the code by `manage.py docs`: change it there. -->"
_END: Final = "<!-- End of the generated part. -->"

# Title and fields of each table of settings; `settings_page` checks them against `Environment`.
GROUPS: Final[tuple[tuple[str, tuple[str, ...]], ...]] = (
    (
        "Web server and addresses",
        (
            *("name", "host", "port", "origins", "path_prefix", "trusted_proxies", "hsts_seconds"),
            *("client_header_seconds", "client_body_seconds", "client_idle_seconds"),
            "client_connections",
        ),
    ),
    (
        "Data and secrets",
        (
            *("data_dir", "database_url", "database_connections", "database_pooler"),
            *("secret_key", "session_days", "debug"),
        ),
    ),
    (
        "Mail",
        (*("smtp_host", "smtp_port", "smtp_user", "smtp_password", "smtp_tls", "smtp_sender"),),
    ),
    (
        "Redis and the queue",
        (
            *(
                "redis_url",
                "redis_sentinels",
                "redis_sentinel_password",
                "redis_prefix",
                "redis_mb",
            ),
            *("queue_max", "queue_max_per_person"),
            *("queue_mb_per_person", "lease_seconds", "drain_seconds", "max_attempts"),
            *("files_address", "files_mb_per_second"),
            *("stream_ttl", "temporary_seconds"),
        ),
    ),
    (
        "Chat",
        (
            *("system_prompt", "titles", "answer_tokens", "max_message_chars", "attachment_mb"),
            *("attachment_chars", "document_mb", "document_chars", "document_readers"),
            *("knowledge_mb", "collection_documents"),
        ),
    ),
    ("API", ("api_anonymous", "api_origins", "api_body_mb")),
    (
        "Engine and memory",
        (
            *("slots", "context", "threads", "step_target_ms", "cache_mb", "memory_mb"),
            *("keep_loaded", "keep_alive", "preload", "fast_weights", "backend"),
        ),
    ),
    ("GPUs", ("gpu_layers", "gpu_devices")),
    (
        "Downloads and imports",
        ("jobs", "import_dir", "download_hosts", "ollama_registry", "hf_endpoint", "hf_token"),
    ),
    (
        "Directory",
        (
            *("directory_timeout_seconds", "directory_sync_at", "directory_sync_max_percent"),
            "directory_unseen_days",
        ),
    ),
    (
        "Sign-in with OpenID Connect",
        (
            *("oidc_issuer", "oidc_client_id", "oidc_client_secret", "oidc_name", "oidc_scopes"),
            *("oidc_hosts", "oidc_ca_file", "oidc_username_claim", "oidc_id_claim"),
            *("oidc_groups_claim", "oidc_roles", "oidc_allowed", "oidc_create_accounts"),
            *("oidc_link_accounts", "oidc_direct", "oidc_sign_out"),
        ),
    ),
    (
        "Sign-in with LDAP or Active Directory",
        (
            *("ldap_url", "ldap_kind", "ldap_start_tls", "ldap_plaintext", "ldap_ca_file"),
            *("ldap_bind_dn", "ldap_bind_password_file", "ldap_user_base", "ldap_user_filter"),
            *("ldap_login_attributes", "ldap_attributes", "ldap_group_base", "ldap_group_filter"),
            *("ldap_group_members", "ldap_nested_groups", "ldap_roles", "ldap_allowed_groups"),
            *("ldap_create_accounts", "ldap_link_accounts"),
        ),
    ),
    ("SCIM", ("scim_token", "scim_roles", "scim_link_accounts")),
    ("Audit log", ("audit_api", "audit_days", "audit_syslog")),
    ("Backups", ("backup_dir", "backup_hours", "backup_keep", "backup_age_hours")),
    (
        "Logs and monitoring",
        ("log_format", "log_level", "metrics_token", "otel_endpoint", "otel_share", "hang_seconds"),
    ),
)
_PRODUCT: Final = {"chatsite", "chatsite.accounts"}
# Administrators' commands in the order of use, then those for measurement and development.
_COMMANDS: Final = (
    *("up", "models", "engines", "people", "apikey", "createsuperuser", "policy", "usage", "audit"),
    *(
        "knowledge",
        "retention",
        "maintenance",
        "backup",
        "restore",
        "move-database",
        "doctor",
        "settings",
    ),
    *("inference", "bench", "capacity", "compare", "docs"),
)
_ERROR_GROUPS: Final = (
    ("chatsite.errors", "General"),
    ("chatsite.conversations", "Files and assistants"),
    ("chatsite.documents", "Files and assistants"),
    ("chatsite.knowledge", "Documents and collections"),
    ("chatsite.policy", "Policy and quotas"),
    ("chatsite.accounts", "Users and sign-in"),
    ("chatsite.exchange", "Import and export of conversations"),
    ("chatsite.chat", "Temporary chats"),
    ("chatsite.retention", "Data and privacy"),
    ("chatsite.policy", "Rules and quotas"),
    ("chatsite.answers", "Maintenance and terms"),
    ("chatsite.feedback", "Feedback"),
    ("chatsite.backup", "Backup and restore"),
    ("chatsite.api", "API"),
    ("chatsite.web.daphne", "Web server"),
    ("chatsite.inference", "Remote engines"),
    ("chatsite.management", "Command line"),
    ("models_admin", "Models, downloads and administration"),
)
_SETTINGS_TEXT: Final = """\
Settings are environment variables. They are read and checked when a process starts: an invalid
value stops the start, and the message names the variable. `manage.py settings` prints all settings
with their current values; secrets are masked.

Lists are separated by commas. Yes/no settings take `1`, `true`, `on` or `0`, `false`, `off`. `make`
takes three settings by shorter names: `make run HOST=0.0.0.0 PORT=8080 DATA_DIR=/srv/chat`."""
_BROWSER_TEXT: Final = """\
Administrators change these under Administration → Settings, without a restart: every process uses
the new value within two seconds, and the change is an audit event. A variable that is set wins and
is shown as locked there. Lists are separated by commas, times are in UTC (`2030-12-31 18:00`)."""
_CLI_TEXT: Final = """\
Run commands with the project's Python: `.venv/bin/python manage.py COMMAND`. Each has `--help`. Set
the same environment variables as for the running site ([settings](settings.md)), above all
`CHATSITE_DATA_DIR`: commands work on that data."""
_DJANGO_TEXT: Final = """\
`manage.py help` lists them. Useful ones: `migrate` (`up` does it), `changepassword USERNAME`,
`clearsessions` (deletes expired sessions), `dbshell`."""
_ERRORS_TEXT: Final = """\
Every error has a stable code, an HTTP status and a message that says what to do. The page shows the
message in the user's language. Retry says whether the same request can succeed later without a
change; the API then sends `Retry-After` with status 429 and 503. Details are fields with figures in
the body of the error.

The OpenAI API has the body `{"error": {"message", "type", "param", "code"}}`. Two codes have other
names there: %s. Ollama's API has the body `{"error": MESSAGE}`.
[Errors of the API](../api/openai.md#errors) names the settings that matter."""
# Not importable here: modules that configure their process, load a native library, start something
# or need a browser.
_NOT_IMPORTED: Final = re.compile(
    r"^chatsite\.(asgi|bench)\b|\.__main__$|\.engine\.backends\.llama\b|\.migrations\b"
)


def pages() -> dict[Path, str]:
    """Return the generated text of each file, by path."""
    with translation.override("en"):
        monitoring = ROOT / "docs/admin/monitoring.md"
        return {
            ROOT / "docs/reference/settings.md": settings_page(),
            ROOT / "docs/reference/cli.md": cli_page(),
            ROOT / "docs/reference/errors.md": errors_page(),
            monitoring: with_generated(monitoring.read_text(), metrics_table()),
            ROOT / "static/src/lib/wire.d.ts": typescript.wire(),
        }


def with_generated(text: str, part: str) -> str:
    """Return ``text`` with ``part`` between its two marks. Raises `ValueError` without them."""
    before, mark, rest = text.partition(f"{_MARK}\n")
    _old, end, after = rest.partition(_END)
    if not mark or not end:
        raise ValueError("The page is missing the marks of its generated part.")
    return f"{before}{_MARK}\n\n{part}\n\n{_END}{after}"


# Settings.


def settings_page() -> str:
    """Return the page of settings. Raises `ValueError` if a setting is not in exactly one group."""
    listed = [name for _title, names in GROUPS for name in names]
    known = set(Environment.model_fields)
    if wrong := {name for name in listed if listed.count(name) > 1} | (known ^ set(listed)):
        raise ValueError(f"Put each setting into one group of `GROUPS`: {sorted(wrong)}")
    schemas = Environment.model_json_schema(by_alias=False)["properties"]
    parts = ["# Settings", _MARK, _SETTINGS_TEXT]
    for title, names in GROUPS:
        rows = [_setting_row(name, schemas[name]) for name in names]
        parts += [f"## {title}", _table(("Variable", "Default", "Values", "Meaning"), rows)]
    return _joined([*parts, "## In the browser", _BROWSER_TEXT, _browser_settings()])


def _browser_settings() -> str:
    rows = []
    for field in site_settings.declared().values():
        if not field.setting.hidden:
            values = ", ".join(f"`{value}`" for value in field.setting.choices)
            # Texts of several lines would break the table.
            default = "" if field.setting.multiline else shown_value(field.name, field.default)
            shown = f"`{default}`" if default and default != "None" else ""
            meaning = f"{field.setting.label}. {field.setting.help}"
            rows.append((f"`{field.variable}`", shown, values, meaning))
    return _table(("Variable", "Default", "Values", "Meaning"), rows)


def _setting_row(name: str, schema: dict[str, Any]) -> tuple[str, ...]:
    field = Environment.model_fields[name]
    default = shown_value(name, field.get_default(call_default_factory=True))
    shown = f"`{default}`" if default and default != "None" else ""
    return f"`{variable_of(name)}`", shown, _values(schema), field.description or ""


def _values(schema: dict[str, Any]) -> str:
    """Return the allowed values of a setting, its choices or limits, from its JSON schema."""
    alternatives = schema.get("anyOf", [schema])
    found = []
    for one in alternatives:
        if choices := one.get("enum", [one["const"]] if "const" in one else []):
            found.append(", ".join(f"`{choice}`" for choice in choices))
        elif one.get("type") in {"integer", "number"}:
            limits = {
                "≥": one.get("minimum"),
                ">": one.get("exclusiveMinimum"),
                "≤": one.get("maximum"),
            }
            words = [
                f"{sign} {_number(value)}" for sign, value in limits.items() if value is not None
            ]
            found.append(", ".join(words))
        elif one.get("type") == "boolean":
            found.append("yes or no")
    return "; ".join(filter(None, found))


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else str(value)


# Command line.


def cli_page() -> str:
    """Return the page of commands.

    Raises `ValueError` if a command of the product is missing in `_COMMANDS`.
    """
    apps = get_commands()
    own = {name for name, app in apps.items() if app in _PRODUCT}
    if own != set(_COMMANDS):
        raise ValueError(f"`_COMMANDS` differs from the commands: {own ^ set(_COMMANDS)}")
    parts = ["# Command line", _MARK, _CLI_TEXT]
    for name in _COMMANDS:
        command = load_command_class(apps[name], name)
        parser = command.create_parser("manage.py", name)
        parts += [f"## {name}", command.help, *_parser_parts(f"manage.py {name}", parser)]
    parts += ["## Commands of Django", _DJANGO_TEXT]
    return _joined(parts)


def _parser_parts(usage: str, parser: argparse.ArgumentParser) -> Iterator[str]:
    actions = [action for action in parser._actions if not _is_common(action)]
    subparsers = [action for action in actions if isinstance(action, argparse._SubParsersAction)]
    plain = [action for action in actions if action not in subparsers]
    if subparsers:
        (found,) = subparsers
        helps = {choice.dest: choice.help or "" for choice in found._choices_actions}
        rows = []
        for name, sub in found.choices.items():
            own = [action for action in sub._actions if not _is_common(action)]
            rows.append(
                (f"`{' '.join([name, *map(_spelled, own)])}`", _with_options(helps, name, own))
            )
        yield f"`{usage} ACTION`"
        yield _table(("Action", "What it does"), rows)
        return
    yield f"`{' '.join([usage, *map(_spelled, plain)])}`"
    if rows := [(f"`{_spelled(action, bare=True)}`", _help(action)) for action in plain]:
        yield _table(("Argument", "Meaning"), rows)


def _with_options(helps: dict[str, str], name: str, actions: Iterable[argparse.Action]) -> str:
    """Return what an action does, followed by its arguments that have a help text."""
    text = helps.get(name, "")
    lines = [
        f"`{_spelled(action, bare=True)}`: {_help(action)}" for action in actions if action.help
    ]
    return "<br>".join([text, *lines])


def _is_common(action: argparse.Action) -> bool:
    """Return whether the option is one that Django or argparse adds to every command."""
    return bool(_common_options() & set(action.option_strings))


@cache
def _common_options() -> frozenset[str]:
    base = BaseCommand().create_parser("manage.py", "any")
    return frozenset(option for action in base._actions for option in action.option_strings)


def _spelled(action: argparse.Action, *, bare: bool = False) -> str:
    """Return an argument in usage notation: brackets mean optional, an ellipsis repeatable."""
    value = action.metavar if isinstance(action.metavar, str) else action.dest.upper()
    if action.choices is not None:
        value = "{" + ",".join(map(str, action.choices)) + "}"
    many = " …" if action.nargs in {"+", "*"} else ""
    text = f"{value}{many}"
    if action.option_strings:
        text = action.option_strings[-1] + ("" if action.nargs == 0 else f" {value}{many}")
    optional = not action.required or action.nargs in {"?", "*"}
    return f"[{text}]" if optional and not bare else text


def _help(action: argparse.Action) -> str:
    text = str(action.help or "")
    values = {"default": action.default, "dest": action.dest}
    text = text % values if "%(" in text else text.replace("%%", "%")
    shown = action.default
    if action.nargs == 0 or not isinstance(shown, str | int | float) or not shown:
        return text
    if shown == argparse.SUPPRESS or "default" in text:
        return text
    return f"{text} (default: {shown})".strip()


# Errors.


def errors_page() -> str:
    """Return the page of errors. Raises `ValueError` if a module with errors is in no group."""
    _import_all()
    from chatsite.api.core.http import CODES

    groups: dict[str, dict[tuple[str, ...], None]] = {title: {} for _m, title in _ERROR_GROUPS}
    for kind in errors.kinds():
        if not kind.__module__.startswith(("chatsite.", "models_admin.")):
            continue  # defined by a test
        title = next((t for m, t in _ERROR_GROUPS if kind.__module__.startswith(m)), None)
        if title is None:
            raise ValueError(f"`_ERROR_GROUPS` is missing {kind.__module__}")
        groups[title][_error_row(kind)] = None
    renamed = ", ".join(f"`{code}` is `{name}`" for code, name in CODES.items())
    parts = ["# Errors", _MARK, _ERRORS_TEXT % renamed]
    header = ("Code", "Status", "Retry", "Message", "Details")
    for title, rows in groups.items():
        parts += [f"## {title}", _table(header, sorted(rows))]
    return _joined(parts)


def _error_row(kind: type[errors.ChatsiteError]) -> tuple[str, ...]:
    general = kind is not errors.ChatsiteError and kind.message is errors.ChatsiteError.message
    message = "Names the reason." if general else kind.message
    details = re.findall(r"%\((\w+)\)", str(kind.detailed))
    return (
        f"`{kind.code}`",
        str(kind.status),
        "no" if kind.permanent else "yes",
        str(message),
        ", ".join(f"`{name}`" for name in dict.fromkeys(details)),
    )


def _import_all() -> None:
    """Import every module, so that every subclass of `ChatsiteError` is defined."""
    for package in (chatsite, models_admin):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not _NOT_IMPORTED.search(module.name):
                importlib.import_module(module.name)


# Metrics.


def metrics_table() -> str:
    """Return the table of metrics of `/metrics`."""
    rows = []
    # A host with all optional parts, because labels are read from samples.
    latency = Latency()
    latency.add(Usage(0, 0, 0, 0, 0, 0), first_text_ms=0)
    model = status.ModelStatus(
        "model", "digest", "ready", stats=Stats(), latency=latency.histograms()
    )
    device = status.HostDevice("device", "", 0, 0, 0)
    host = status.HostStatus("host", "", 0, (model,), status.HostMemory(0, 0, 0, 0), (device,))
    used: dict[str, Any] = {"model": "model", "door": "chat"}
    used |= {f"sum_{name}": 0 for name in metrics.SUMMED}
    usage = metrics.UsageCollector([used], [OfModel("model")], 0)
    for family in chain(metrics.Collector([host], {"model": 0}).collect(), usage.collect()):
        name = family.name + ("_total" if family.type == "counter" else "")
        labels = dict.fromkeys(label for sample in family.samples for label in sample.labels)
        shown = ", ".join(f"`{label}`" for label in labels if label != "le")
        rows.append((f"`{name}`", family.type, shown, family.documentation))
    return _table(("Metric", "Type", "Labels", "Meaning"), rows)


# Markdown.


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    written = [f"| {' | '.join(map(_cell, line))} |" for line in (header, *rows)]
    return "\n".join([written[0], "|---" * len(header) + "|", *written[1:]])


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _joined(parts: Iterable[str]) -> str:
    return "\n\n".join(part for part in parts if part) + "\n"
