"""Sections of the administration, their pages, and who sees them.

A section is shown to users who may open at least one of its pages; its link opens the first of
them. To add a page, add a `Page` to its section; the page's template extends `admin/shell.html`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from django.http import HttpRequest
from django.urls import NoReverseMatch, reverse
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _


@dataclass(frozen=True)
class Page:
    """A page of a section.

    ``url`` is the name of its URL. Users need one of ``permissions``; with none of them named it
    is for superusers. The page is current on its own address and below it.
    """

    label: str | Promise
    url: str
    permissions: tuple[str, ...] = ()


@dataclass(frozen=True)
class Section:
    """``icon`` is the name of a symbol of `admin/icons.html`; ``quiet`` sets it apart."""

    label: str | Promise
    icon: str
    pages: tuple[Page, ...]
    quiet: bool = False


SECTIONS: Final = (
    Section(
        _("Overview"),
        "overview",
        (Page(_("Overview"), "admin:index", ("models_admin.view_job",)),),
    ),
    Section(
        _("Models"),
        "models",
        (
            Page(
                _("Installed"),
                "admin:models_admin_modelname_changelist",
                ("models_admin.view_modelname", "models_admin.change_modelname"),
            ),
            Page(_("Catalogue"), "admin:catalogue", ("models_admin.view_job",)),
            Page(_("Jobs"), "admin:jobs", ("models_admin.view_job",)),
            Page(_("Hosts"), "admin:hosts", ("models_admin.view_job",)),
            Page(_("Engines"), "admin:engines", ("engines.view_engine",)),
            Page(_("Import and export"), "admin:exchange", ("models_admin.add_job",)),
            Page(_("Custom model"), "admin:modelfile", ("models_admin.add_modelname",)),
        ),
    ),
    Section(
        _("People"),
        "people",
        (
            Page(_("Users"), "admin:people", ("accounts.view_user",)),
            Page(_("Groups"), "admin:people_groups", ("accounts.view_user",)),
            Page(_("Invitations"), "admin:people_invitations", ("accounts.view_user",)),
            Page(_("Sessions"), "admin:people_sessions", ("accounts.view_user",)),
            Page(_("API keys"), "admin:people_keys", ("accounts.view_user",)),
            Page(_("Legal holds"), "admin:holds", ("retention.hold",)),
            Page(_("Deletions"), "admin:deletions", ("retention.view_deletion",)),
            Page(_("Reads of conversations"), "admin:reads", ("retention.read_conversation",)),
        ),
    ),
    Section(
        _("Policy"),
        "policy",
        (
            Page(_("Rules"), "admin:policy", ("policy.view_rule",)),
            Page(_("Limits"), "admin:policy_limits", ("policy.view_rule",)),
            Page(_("Quotas"), "admin:policy_quotas", ("policy.view_rule",)),
            Page(_("Preview"), "admin:policy_preview", ("policy.view_rule",)),
        ),
    ),
    Section(
        _("Knowledge"),
        "knowledge",
        (Page(_("Knowledge"), "admin:knowledge", ("knowledge.view_collection",)),),
    ),
    Section(
        _("Usage"),
        "usage",
        (
            Page(_("Requests and tokens"), "admin:usage", ("usage.view_report",)),
            Page(_("Feedback"), "admin:usage_feedback", ("usage.view_report",)),
        ),
    ),
    Section(_("Audit"), "audit", (Page(_("Audit log"), "admin:audit", ("audit.view_event",)),)),
    Section(
        _("Settings"),
        "settings",
        (
            Page(_("Settings"), "admin:settings"),
            Page(_("Retention"), "admin:retention", ("retention.view_groupretention",)),
        ),
    ),
    Section(_("Advanced"), "advanced", (Page(_("Advanced"), "admin:advanced"),), quiet=True),
)


@dataclass(frozen=True)
class Link:
    """A page as one user sees it. ``current`` is "page" on that page, "true" below it, else ""."""

    label: str | Promise
    address: str
    current: str


@dataclass(frozen=True)
class Entry:
    """A section as one user sees it; ``links`` is empty unless it has several pages."""

    label: str | Promise
    icon: str
    address: str
    current: str
    links: tuple[Link, ...]
    open: bool
    quiet: bool


def entries(request: HttpRequest) -> list[Entry]:
    """Return the sections that the user may see, with the current one open."""
    permitted = [(section, _pages_for(request, section)) for section in SECTIONS]
    addresses = [address for _section, pages in permitted for _page, address in pages]
    current = _current(request.path, addresses)
    found = []
    for section, pages in permitted:
        if not pages:
            continue
        links = tuple(
            Link(page.label, address, _mark(request.path, address, current))
            for page, address in pages
        )
        alone = len(links) == 1
        found.append(
            Entry(
                section.label,
                section.icon,
                links[0].address,
                links[0].current if alone else "",
                () if alone else links,
                any(link.current for link in links),
                section.quiet,
            )
        )
    return found


def first_address(request: HttpRequest) -> str | None:
    """Return the address of the first page that the user may open."""
    return next((entry.address for entry in entries(request)), None)


def _pages_for(request: HttpRequest, section: Section) -> list[tuple[Page, str]]:
    user = request.user
    found = []
    for page in section.pages:
        named = any(user.has_perm(permission) for permission in page.permissions)
        if not named and not (user.is_active and user.is_superuser):
            continue
        try:
            found.append((page, reverse(page.url)))
        except NoReverseMatch:
            continue
    return found


def _current(path: str, addresses: list[str]) -> str:
    """Return the longest address that ``path`` is at or below, "" if there is none.

    The overview's address is the beginning of all others, so only the page itself counts there.
    """
    overview = reverse("admin:index")
    found = [
        address
        for address in addresses
        if path == address or (address != overview and path.startswith(address))
    ]
    return max(found, key=len, default="")


def _mark(path: str, address: str, current: str) -> str:
    if address != current:
        return ""
    return "page" if path == address else "true"
