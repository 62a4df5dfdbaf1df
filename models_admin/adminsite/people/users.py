"""The pages of users: list, a new user, one user, and changes of several at once."""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import partial
from typing import Any, Final
from urllib.parse import urlencode

from django.contrib import messages
from django.contrib.auth.models import Group
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse, QueryDict
from django.shortcuts import get_object_or_404, redirect
from django.urls import NoReverseMatch, reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from chatsite.accounts import links, people, second_factor, sessions
from chatsite.accounts.models import ApiKey, GroupProfile, User
from chatsite.accounts.people import Actor
from chatsite.accounts.roles import Role, administrator_kept
from chatsite.retention import deletions
from models_admin.adminsite.people import access, listing
from models_admin.adminsite.people.access import attempted, shown
from models_admin.adminsite.people.forms import AccessForm, ProfileForm, UserForm
from models_admin.adminsite.people.listing import Filters

# Users that one change of several may affect.
_BULK_MOST: Final = 10_000
# Keys and sessions that the page of a user lists.
_LISTED: Final = 20


@require_GET
@access.page(access.SEE)
def index(request: HttpRequest) -> HttpResponse:
    filters = Filters.of(request.GET)
    page = listing.one_page(request, listing.decorated(filters.users()))
    return shown(
        request,
        "users.html",
        _("Users"),
        filters=filters,
        columns=listing.columns(filters),
        page=page,
        page_query=filters.query(),
        waiting=listing.waiting(),
        bulk=_BULK_LABELS,
        **listing.choices(),
    )


@require_http_methods(["GET", "POST"])
@access.page(access.MANAGE)
def new(request: HttpRequest) -> HttpResponse:
    """Create a user; their page then offers a link for the password."""
    form = UserForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            user = people.create(access.actor(request), **form.cleaned_data)
        except ValidationError as error:
            _add_errors(form, error)
        else:
            messages.success(request, _("%s was created.") % user.username)
            return _user_page(request, user, link=links.password_link(user, by=_by(request)))
    return shown(request, "new_user.html", _("New user"), form=form)


@require_http_methods(["GET", "POST"])
@access.page(access.SEE)
def user(request: HttpRequest, id: int) -> HttpResponse:
    """Show a user, or change the profile or the access by the form ``form``."""
    found = _user(id)
    if request.method == "GET":
        return _user_page(request, found)
    if not access.may_manage(request):
        raise PermissionDenied
    actor = access.actor(request)
    if request.POST.get("form") == "profile":
        profile = ProfileForm.of(found, request.POST)
        if not profile.is_valid():
            return _user_page(request, found, profile=profile)
        try:
            changed = people.rename(actor, found, **profile.cleaned_data)
        except ValidationError as error:
            _add_errors(profile, error)
            return _user_page(request, _user(id), profile=profile)
        _report(request, changed=changed)
        return redirect("admin:people_user", id)
    rights = AccessForm.of(found, request.POST)
    if not rights.is_valid():
        return _user_page(request, found, rights=rights)

    def change() -> bool:
        raised = bool(people.set_role(actor, [found], rights.cleaned_data["role"]))
        return people.set_local_groups(actor, found, rights.cleaned_data["groups"]) or raised

    if (changed := attempted(request, lambda: people.together(change))) is not None:
        _report(request, changed=changed)
    return redirect("admin:people_user", id)


def _report(request: HttpRequest, *, changed: bool) -> None:
    if changed:
        messages.success(request, _("Saved."))
    else:
        messages.info(request, _("Nothing changed."))


@require_POST
@access.page(access.MANAGE)
def act(request: HttpRequest, id: int, action: str) -> HttpResponse:
    """Change one user by a button of their page."""
    found = _user(id)
    by = _by(request)
    if action == "password":
        if not found.is_active:
            messages.error(request, _("Activate the user first."))
            return redirect("admin:people_user", id)
        return _user_page(request, found, link=links.password_link(found, by=by))
    if action == "mfa":
        second_factor.reset(found, by=by)
        messages.success(request, _("The second factors were removed."))
        return redirect("admin:people_user", id)
    if action == "delete" and not request.POST.get("confirmed"):
        return _confirm(
            request, action, [found], request.path, reverse("admin:people_user", args=[id])
        )
    done = attempted(request, lambda: _CHANGES[action](access.actor(request), [found]))
    if done is None:
        return redirect("admin:people_user", id)
    _announce(request, action, done)
    return redirect("admin:people") if action == "delete" else redirect("admin:people_user", id)


@require_POST
@access.page(access.MANAGE)
def bulk(request: HttpRequest) -> HttpResponse:
    """Change the users that are selected, or all that match the filters."""
    back = f"{reverse('admin:people')}?{request.POST.get('query', '')}"
    action = request.POST.get("action", "")
    if action not in _BULK_LABELS:
        messages.error(request, _("Choose an action."))
        return redirect(back)
    selected = _selected(request.POST)
    if not selected:
        messages.error(request, _("Select users first."))
        return redirect(back)
    if len(selected) > _BULK_MOST:
        messages.error(
            request, _("Select at most %s users; narrow the filters.") % f"{_BULK_MOST:,}"
        )
        return redirect(back)
    change = _change(action, request.POST)
    if change is None:
        messages.error(request, _("Choose a group."))
        return redirect(back)
    if action in {"delete", "deactivate"} and not request.POST.get("confirmed"):
        return _confirm(request, action, selected, reverse("admin:people_bulk"), back)
    done = attempted(request, lambda: change(access.actor(request), selected))
    if done is not None:
        _announce(request, action, done)
    return redirect(back)


def _delete(actor: Actor, users: Collection[User]) -> int:
    """Have users deleted with all their data, in the background. Return how many."""
    by = actor.user.get_username() if actor.user else ""
    with transaction.atomic():
        with administrator_kept():
            for user in users:
                deletions.request_account(user, by=by, request=actor.request)
        people.refuse_own(actor, users)
    return len(users)


Change = Callable[[Actor, Collection[User]], Any]

_CHANGES: Final[dict[str, Change]] = {
    "activate": people.activate,
    "deactivate": people.deactivate,
    "sessions": people.end_sessions,
    "keys": people.revoke_keys,
    "delete": _delete,
}
_BULK_LABELS: Final = {
    "activate": gettext_lazy("Activate"),
    "deactivate": gettext_lazy("Deactivate"),
    **{f"role-{role}": label for role, label in Role.choices},
    "add": gettext_lazy("Add to group"),
    "remove": gettext_lazy("Remove from group"),
    "sessions": gettext_lazy("End sessions"),
    "keys": gettext_lazy("Revoke API keys"),
    "delete": gettext_lazy("Delete"),
}


def _change(action: str, data: QueryDict) -> Change | None:
    """Return the change of an action; None if it needs a group and there is none."""
    if action.startswith("role-"):
        role = action.removeprefix("role-")
        return lambda actor, users: people.set_role(actor, users, role)
    if action in {"add", "remove"}:
        given = data.get("to_group", "")
        group = Group.objects.filter(pk=int(given)).first() if given.isdecimal() else None
        if group is None:
            return None
        return partial(
            _members, people.add_members if action == "add" else people.remove_members, group
        )
    return _CHANGES[action]


def _members(change: Callable[..., int], group: Group, actor: Actor, users: Any) -> int:
    return change(actor, group, users)


def _selected(data: QueryDict) -> list[User]:
    if data.get("all"):
        return list(Filters.of(QueryDict(data.get("query", ""))).users()[: _BULK_MOST + 1])
    ids = [int(id) for id in data.getlist("user") if id.isdecimal() and len(id) < 18]
    return list(User.objects.filter(pk__in=ids[: _BULK_MOST + 1]).order_by("username"))


def _announce(request: HttpRequest, action: str, count: int) -> None:
    texts: dict[str, Callable[[], str]] = {
        "activate": lambda: ngettext("%s user activated.", "%s users activated.", count),
        "deactivate": lambda: ngettext("%s user deactivated.", "%s users deactivated.", count),
        "sessions": lambda: ngettext(
            "Sessions of %s user ended.", "Sessions of %s users ended.", count
        ),
        "keys": lambda: ngettext("%s API key revoked.", "%s API keys revoked.", count),
        "delete": lambda: ngettext(
            "%s user is being deleted. The report is in Deletions.",
            "%s users are being deleted. The reports are in Deletions.",
            count,
        ),
        "add": lambda: ngettext("%s user added.", "%s users added.", count),
        "remove": lambda: ngettext("%s user removed.", "%s users removed.", count),
    }
    text = texts.get(
        action, lambda: ngettext("Role of %s user changed.", "Role of %s users changed.", count)
    )
    messages.success(request, text() % count)


def _confirm(
    request: HttpRequest, action: str, users: Collection[User], address: str, back: str
) -> HttpResponse:
    """Ask before users are deactivated or deleted, with what a deletion removes."""
    deleting = action == "delete"
    removed = attempted(request, lambda: people.will_delete(users)) if deleting else []
    if removed is None:
        return redirect(back)
    names = [user.username for user in users]
    return shown(
        request,
        "confirm.html",
        _("Delete users") if deleting else _("Deactivate users"),
        action=action,
        address=address,
        back=back,
        names=names[:_LISTED],
        more=max(0, len(names) - _LISTED),
        count=len(names),
        removed=removed,
        deleting=deleting,
        ids=[] if request.POST.get("all") else [user.pk for user in users],
        all=request.POST.get("all", ""),
        query=request.POST.get("query", ""),
    )


def _user_page(request: HttpRequest, found: User, link: str = "", **forms: Any) -> HttpResponse:
    directory = GroupProfile.objects.filter(
        group__user=found, source=GroupProfile.Source.DIRECTORY
    ).select_related("group")
    lending = (
        GroupProfile.objects.filter(group__user=found, role=found.effective_role)
        .exclude(role=found.role)
        .select_related("group")
    )
    rows = sessions.active(found)
    own_keys = ApiKey.objects.of(found)
    return shown(
        request,
        "user.html",
        found.username,
        person=found,
        profile=forms.get("profile") or ProfileForm.of(found),
        rights=forms.get("rights") or AccessForm.of(found),
        directory_groups=directory,
        lending=lending,
        identities=found.identities.all(),
        has_mfa=second_factor.exists(found),
        mfa_required=second_factor.required(found),
        sessions=[(row, sessions.described(row.agent).words) for row in rows[:_LISTED]],
        session_count=rows.count(),
        keys=own_keys[:_LISTED],
        key_count=own_keys.count(),
        usable_keys=own_keys.filter(revoked_at=None).count(),
        link=link,
        usage=_elsewhere(request, "usage.view_report", "usage", user=str(found.pk)),
        audit=_elsewhere(request, "audit.view_event", "audit", q=found.username),
        oneself=found.pk == request.user.pk,
    )


def _elsewhere(request: HttpRequest, permission: str, name: str, **query: str) -> str:
    """Return the address of a page of another section, "" if the user may not open it."""
    if not request.user.has_perm(permission):
        return ""
    try:
        return f"{reverse(f'admin:{name}')}?{urlencode(query)}"
    except NoReverseMatch:
        return ""


def _user(id: int) -> User:
    try:
        return get_object_or_404(User, pk=id)
    except OverflowError:
        raise Http404 from None


def _by(request: HttpRequest) -> User | None:
    return access.actor(request).user


def _add_errors(form: Any, error: ValidationError) -> None:
    """Add the errors of a user to its form; those of fields it lacks count for the whole form."""
    for field, errors in error.error_dict.items():
        form.add_error(field if field in form.fields else None, errors)
