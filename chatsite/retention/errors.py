"""Refusals of deletions and reads, in texts that say what to do."""

from __future__ import annotations

from django.utils.translation import gettext_lazy as _

from chatsite.errors import ChatsiteError


class OnHold(ChatsiteError):
    """The data of this user must be kept. ``reason`` is the hold's."""

    code = "legal_hold"
    status = 409
    message = _("This account is under a legal hold and can't be deleted.")
    detailed = _(
        "This account is under a legal hold and can't be deleted: %(reason)s. Lift the hold first."
    )


class ReasonMissing(ChatsiteError):
    code = "reason_missing"
    status = 400
    message = _("Enter a reason.")


class ReadsForbidden(ChatsiteError):
    code = "reads_forbidden"
    status = 403
    message = _("This site does not let administrators read conversations.")


class ExportOpen(ChatsiteError):
    code = "export_open"
    status = 409
    permanent = False
    message = _("An export is already being prepared. Wait for it to finish.")


class AccountDeletionForbidden(ChatsiteError):
    code = "account_deletion_forbidden"
    status = 403
    message = _("Users can't delete their account on this site. Ask an administrator.")
