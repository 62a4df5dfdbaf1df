"""What a deletion removed: counts only, so that the report may be kept."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, Final

import msgspec
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from chatsite.sizes import file_size

_NAMES: Final[dict[str, str]] = {
    "chat.Conversation": "conversations",
    "chat.Message": "messages",
    "chat.Folder": "folders",
    "search.Entry": "search_entries",
    "attachments.Attachment": "attachments",
    "sharing.Share": "shares",
    "exchange.Origin": "import_origins",
    "assistants.Assistant": "assistants",
    "accounts.ApiKey": "api_keys",
    "accounts.User": "accounts",
    "retention.Export": "exports",
}
# Links between two rows, which users need not know.
_UNNAMED: Final = frozenset(
    {
        "attachments.Attachment_messages",
        "attachments.Piece",
        "accounts.User_groups",
        "accounts.User_user_permissions",
    }
)

LABELS: Final[dict[str, str | Promise]] = {
    "conversations": _("Conversations"),
    "messages": _("Messages"),
    "attachments": _("Attachments"),
    "attachment_bytes": _("Size of the attached files"),
    "search_entries": _("Search index entries"),
    "shares": _("Shared links"),
    "import_origins": _("Records of imports"),
    "folders": _("Folders"),
    "assistants": _("Assistants"),
    "api_keys": _("API keys"),
    "sessions": _("Sessions"),
    "exports": _("Data exports"),
    "streams": _("Streams in Redis"),
    "kv_cache_hosts": _("Hosts that dropped the KV cache"),
    "accounts": _("Accounts"),
    "other_rows": _("Other records"),
    "kept_on_hold": _("Chats kept under a legal hold"),
    "statistics_kept": _("Usage records kept without content"),
}


class Report(msgspec.Struct):
    """Number of removed objects by kind; ``kv_cache_hosts`` were asked to drop a KV cache."""

    counts: dict[str, int] = {}

    def add(self, **counts: int) -> None:
        total = Counter(self.counts)
        total.update({name: count for name, count in counts.items() if count})
        self.counts = dict(total)

    def add_rows(self, deleted: Mapping[str, int]) -> None:
        """Add the second value of Django's ``delete()``: rows by label of the model."""
        for label, count in deleted.items():
            if label not in _UNNAMED:
                self.add(**{_NAMES.get(label, "other_rows"): count})

    def as_json(self) -> dict[str, int]:
        return {name: self.counts[name] for name in LABELS if self.counts.get(name)}

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> Report:
        return cls({name: int(count) for name, count in stored.items()})

    def lines(self) -> list[tuple[str, str]]:
        """Return label and value of each kind, for a page."""
        return [
            (str(LABELS[name]), file_size(count) if name == "attachment_bytes" else str(count))
            for name, count in self.as_json().items()
        ]
