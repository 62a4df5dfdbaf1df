"""Declarations of all settings: types, defaults, limits, labels.

To add a setting, add a field to `SiteSettings`. The settings page, its validation, the environment
variable and the reference are generated from the declaration.
"""

from __future__ import annotations

import enum
import re
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, Final, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec
from django.core.exceptions import ValidationError
from django.db import models
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from chatsite.env import Environment, is_one_line

Text = str | Promise


class Group(models.TextChoices):
    """Groups of the settings page, in order."""

    GENERAL = "general", _("General")
    CHAT = "chat", _("Chat")
    SIGN_IN = "sign-in", _("Sign-in")
    PRIVACY = "privacy", _("Privacy")
    ANNOUNCEMENT = "announcement", _("Announcement")
    TERMS = "terms", _("Terms of use")
    MAINTENANCE = "maintenance", _("Maintenance")


@dataclass(frozen=True)
class Setting:
    """Metadata of a field of `SiteSettings`.

    ``choices`` are labels of the values of a `Literal`. ``multiline`` texts may have line breaks.
    ``environment`` is the field of `Environment` that sets it; without one the variable is
    `CHATSITE_<NAME>`. ``model`` marks the name of an installed model with that ability
    (`models_admin.facts.Ability`). ``validators`` raise
    `ValidationError` for a value of the field's type. ``hidden`` fields are not on the page, and
    the environment can't set them.
    """

    label: Text
    group: Group
    help: Text = ""
    choices: Mapping[str, Text] = field(default_factory=dict)
    multiline: bool = False
    environment: str = ""
    model: Literal["", "completion", "embedding", "rerank"] = ""
    hidden: bool = False
    validators: tuple[Callable[[Any], None], ...] = ()


_DOMAIN: Final = re.compile(
    r"(?=.{1,253}$)([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z][a-z0-9-]{0,61}[a-z0-9]"
)


def domains(values: tuple[str, ...]) -> None:
    for value in values:
        if not _DOMAIN.fullmatch(value.lower()):
            message = _("%(value)s is not a domain such as example.org.")
            raise ValidationError(message, "domain", {"value": value})


def on_one_line(value: str) -> None:
    if not is_one_line(value):
        raise ValidationError(_("Enter text on one line, without control characters."))


def known_time_zone(value: str) -> None:
    try:
        ZoneInfo(value)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        message = _("There is no time zone %(value)s. Use a name such as Europe/Berlin.")
        raise ValidationError(message, "time_zone", {"value": value}) from None


def _default_of(name: str) -> Any:
    return Environment.model_fields[name].default


Limited = msgspec.Meta


class SiteSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Values of all settings; see `chatsite.site_settings.current`."""

    site_name: Annotated[
        str,
        Limited(min_length=1, max_length=40),
        Setting(
            _("Site name"),
            Group.GENERAL,
            _("Shown on all pages, in their titles and in the installed web app."),
            environment="name",
            validators=(on_one_line,),
        ),
    ] = _default_of("name")
    logo: Annotated[
        str,
        Limited(max_length=64),
        Setting(_("Logo"), Group.GENERAL, _("Digest of the uploaded logo."), hidden=True),
    ] = ""
    greeting: Annotated[
        str,
        Limited(max_length=120),
        Setting(
            _("Greeting"),
            Group.GENERAL,
            _("Heading of an empty chat. Empty shows “What can I help with?”."),
            validators=(on_one_line,),
        ),
    ] = ""
    time_zone: Annotated[
        str,
        Limited(min_length=1, max_length=64),
        Setting(
            _("Time zone"),
            Group.GENERAL,
            _(
                "Days of usage reports and windows of quotas begin in it. For example "
                "Europe/Berlin or Asia/Shanghai."
            ),
            validators=(known_time_zone,),
        ),
    ] = "UTC"
    default_model: Annotated[
        str,
        Limited(max_length=200),
        Setting(
            _("Default model"),
            Group.CHAT,
            _("Preselected in new chats. A model that is not available is skipped."),
            model="completion",
        ),
    ] = ""
    system_prompt: Annotated[
        str,
        Limited(max_length=20_000),
        Setting(
            _("System prompt"),
            Group.CHAT,
            _(
                "Instructions at the start of every chat. Empty uses the model's own. Assistants "
                "and custom models with instructions replace it."
            ),
            multiline=True,
            environment="system_prompt",
        ),
    ] = _default_of("system_prompt")
    long_context: Annotated[
        int,
        Limited(ge=64, le=10_000_000),
        Setting(
            _("Long context"),
            Group.CHAT,
            _(
                "Tokens of prompt and answer together beyond which a context counts as long. Rules "
                "can deny long contexts to users."
            ),
        ),
    ] = 8192
    quota_titles: Annotated[
        bool,
        Setting(
            _("Count titles against quotas"),
            Group.CHAT,
            _("The tokens of generated conversation titles count as used by their user."),
        ),
    ] = False
    titles: Annotated[
        bool,
        Setting(
            _("Generate titles"),
            Group.CHAT,
            _(
                "The model generates the titles of conversations while it is idle. Models under "
                "0.4 billion parameters are not used for it."
            ),
            environment="titles",
        ),
    ] = _default_of("titles")
    knowledge_embedding_model: Annotated[
        str,
        Limited(max_length=200),
        Setting(
            _("Embedding model"),
            Group.CHAT,
            _(
                "Computes the vectors by which documents are found. Empty uses the embedding model "
                "that was installed first. After a change all documents get new vectors."
            ),
            model="embedding",
        ),
    ] = ""
    knowledge_reranker: Annotated[
        str,
        Limited(max_length=200),
        Setting(
            _("Reranker"),
            Group.CHAT,
            _(
                "Sorts the passages that were found by their relevance. Empty uses the installed "
                "reranker if there is only one."
            ),
            model="rerank",
        ),
    ] = ""
    temporary_chats: Annotated[
        Literal["allowed", "forced", "forbidden"],
        Setting(
            _("Temporary chats"),
            Group.PRIVACY,
            _("Temporary chats are not stored."),
            choices={
                "allowed": _("Users may start temporary chats"),
                "forced": _("All chats are temporary"),
                "forbidden": _("All chats are stored"),
            },
        ),
    ] = "allowed"
    signup_mode: Annotated[
        Literal["closed", "approval", "domain"],
        Setting(
            _("Sign-up"),
            Group.SIGN_IN,
            _("Whether people can create their own accounts."),
            choices={
                "closed": _("Closed: by invitation or directory only"),
                "approval": _("Open: an administrator approves each account"),
                "domain": _("Open to e-mail addresses of the domains below"),
            },
        ),
    ] = "closed"
    signup_domains: Annotated[
        tuple[str, ...],
        Limited(max_length=100),
        Setting(
            _("E-mail domains for sign-up"),
            Group.SIGN_IN,
            _("One domain per line, such as example.org. Subdomains need their own line."),
            validators=(domains,),
        ),
    ] = ()
    local_passwords: Annotated[
        Literal["allowed", "administrators_only"],
        Setting(
            _("Passwords of this site"),
            Group.SIGN_IN,
            _("Restrict them when users sign in through your directory."),
            choices={
                "allowed": _("All users may sign in with a password"),
                "administrators_only": _("Administrators only"),
            },
        ),
    ] = "allowed"
    mfa_required: Annotated[
        Literal["nobody", "administrators", "everyone"],
        Setting(
            _("Require a second factor"),
            Group.SIGN_IN,
            _("Groups can require it in addition."),
            choices={
                "nobody": _("Optional"),
                "administrators": _("For administrators"),
                "everyone": _("For all users"),
            },
        ),
    ] = "nobody"
    retention_days: Annotated[
        int,
        Limited(ge=0, le=36_500),
        Setting(
            _("Delete conversations after (days)"),
            Group.PRIVACY,
            _("Days since the last message. 0 keeps them until their owner deletes them."),
        ),
    ] = 0
    retention_keeps_pinned: Annotated[
        bool,
        Setting(
            _("Keep pinned conversations"),
            Group.PRIVACY,
            _("Pinned conversations are kept beyond the retention period."),
        ),
    ] = False
    account_deletion: Annotated[
        Literal["forbidden", "allowed"],
        Setting(
            _("Users deleting their own account"),
            Group.PRIVACY,
            _("Administrators can always delete accounts."),
            choices={"forbidden": _("Not allowed"), "allowed": _("Allowed")},
        ),
    ] = "forbidden"
    admin_reads: Annotated[
        Literal["forbidden", "with_reason"],
        Setting(
            _("Administrators reading conversations"),
            Group.PRIVACY,
            _("Each access is audited, and the owner is notified."),
            choices={
                "forbidden": _("Not allowed"),
                "with_reason": _("Allowed with a written reason"),
            },
        ),
    ] = "forbidden"
    usage_min_group: Annotated[
        int,
        Limited(ge=1, le=1000),
        Setting(
            _("Smallest group in usage reports"),
            Group.PRIVACY,
            _(
                "Figures of fewer users are hidden, and so is the usage of single users. 1 shows "
                "all figures."
            ),
        ),
    ] = 1
    usage_per_user: Annotated[
        bool,
        Setting(
            _("Report the usage of single users"),
            Group.PRIVACY,
            _("Users always see their own usage."),
        ),
    ] = True
    banner_text: Annotated[
        str,
        Limited(max_length=500),
        Setting(
            _("Text"),
            Group.ANNOUNCEMENT,
            _("Shown above the chat and the administration. Empty shows nothing."),
            multiline=True,
        ),
    ] = ""
    banner_from: Annotated[
        datetime | None,
        Setting(_("Show from"), Group.ANNOUNCEMENT, _("Empty: at once. Time zone: UTC.")),
    ] = None
    banner_until: Annotated[
        datetime | None,
        Setting(_("Show until"), Group.ANNOUNCEMENT, _("Empty: until you remove the text.")),
    ] = None
    terms_text: Annotated[
        str,
        Limited(max_length=100_000),
        Setting(
            _("Text"),
            Group.TERMS,
            _(
                "Users must accept it after signing in, and their API keys work only after that. "
                "Empty asks for nothing."
            ),
            multiline=True,
        ),
    ] = ""
    terms_version: Annotated[
        str,
        Limited(max_length=40),
        Setting(
            _("Version"),
            Group.TERMS,
            _("A new version, such as 2026-12, asks all users again."),
            validators=(on_one_line,),
        ),
    ] = ""
    maintenance: Annotated[
        bool,
        Setting(
            _("Maintenance mode"),
            Group.MAINTENANCE,
            _(
                "New requests are refused on the page and in the APIs; running answers finish. "
                "Administrators can still use the site."
            ),
        ),
    ] = False
    maintenance_text: Annotated[
        str,
        Limited(max_length=300),
        Setting(
            _("Message to users"),
            Group.MAINTENANCE,
            _("For example when the site will be back. Empty shows a general message."),
        ),
    ] = ""


class Kind(enum.Enum):
    """How a field is edited."""

    TEXT = "text"
    LONG_TEXT = "long_text"
    NUMBER = "number"
    SWITCH = "switch"
    CHOICE = "choice"
    LIST = "list"
    MOMENT = "moment"
    MODEL = "model"


@dataclass(frozen=True)
class Declared:
    """A field with its metadata. ``least`` and ``most`` limit a number, or the length of a text."""

    name: str
    type: Any
    kind: Kind
    setting: Setting
    default: Any
    least: int | None
    most: int | None

    @property
    def variable(self) -> str:
        """The environment variable that sets it."""
        return f"CHATSITE_{(self.setting.environment or self.name).upper()}"


@cache
def declared() -> dict[str, Declared]:
    """Return all fields by name, in order."""
    hints = typing.get_type_hints(SiteSettings, include_extras=True)
    defaults = {one.name: one.default for one in msgspec.structs.fields(SiteSettings)}
    found = {}
    for name in SiteSettings.__struct_fields__:
        inner, *extras = typing.get_args(hints[name])
        setting = next(one for one in extras if isinstance(one, Setting))
        limit = next((one for one in extras if isinstance(one, msgspec.Meta)), msgspec.Meta())
        number = inner is int
        found[name] = Declared(
            name,
            hints[name],
            _kind(inner, setting),
            setting,
            defaults[name],
            *((limit.ge, limit.le) if number else (limit.min_length, limit.max_length)),  # type: ignore[arg-type]
        )
    return found


def _kind(inner: Any, setting: Setting) -> Kind:
    if setting.model:
        return Kind.MODEL
    if setting.choices:
        return Kind.CHOICE
    if inner is bool:
        return Kind.SWITCH
    if inner is int:
        return Kind.NUMBER
    if inner is str:
        return Kind.LONG_TEXT if setting.multiline else Kind.TEXT
    origin = typing.get_origin(inner)
    if origin is tuple:
        return Kind.LIST
    if origin in {UnionType, typing.Union} and set(typing.get_args(inner)) == {datetime, NoneType}:
        return Kind.MOMENT
    raise TypeError(f"settings of type {inner} are not supported")
