"""The pages of groups: list, a new group, one group with its members."""

from __future__ import annotations

from typing import Any, Final

from django.contrib import messages
from django.contrib.auth.models import Group
from django.core.exceptions import PermissionDenied
from django.db.models import Count, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from chatsite.accounts import lookup, people
from chatsite.accounts.models import GroupProfile, User
from chatsite.accounts.roles import Role
from models_admin.adminsite.people import access, listing
from models_admin.adminsite.people.access import attempted, shown
from models_admin.adminsite.people.forms import GroupForm

_NAMES_MOST: Final = 200


@require_GET
@access.page(access.SEE)
def index(request: HttpRequest) -> HttpResponse:
    q = listing.searched(request)
    source = request.GET.get("source", "")
    found: QuerySet[Any] = Group.objects.select_related("profile").order_by("name")
    found = found.annotate(members=Count("user"))
    if q:
        found = found.filter(name__icontains=q)
    if source in GroupProfile.Source.values:
        found = found.filter(profile__source=source)
    return shown(
        request,
        "groups.html",
        _("Groups"),
        page=listing.one_page(request, found),
        page_query=listing.query_string(q=q, source=source),
        q=q,
        source=source,
        sources=GroupProfile.Source.choices,
    )


@require_http_methods(["GET", "POST"])
@access.page(access.MANAGE)
def new(request: HttpRequest) -> HttpResponse:
    form = GroupForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        values = form.cleaned_data
        actor = access.actor(request)

        def make() -> Group:
            made = people.create_group(actor, values["name"], role=values["role"])
            people.change_group(actor, made, mfa_required=values["mfa_required"])
            return made

        made = attempted(request, lambda: people.together(make))
        if made is not None:
            messages.success(request, _("%s was created. Add its members.") % made.name)
            return redirect("admin:people_group", made.pk)
    return shown(request, "new_group.html", _("New group"), form=form)


@require_http_methods(["GET", "POST"])
@access.page(access.SEE)
def group(request: HttpRequest, id: int) -> HttpResponse:
    """Show a group with its members, or change its name, role and sign-in."""
    found = get_object_or_404(Group, pk=id)
    profile = people.profile_of(found)
    form = GroupForm.of(found, profile, request.POST if request.method == "POST" else None)
    if request.method == "POST":
        if not access.may_manage(request):
            raise PermissionDenied
        if form.is_valid():
            values = form.cleaned_data
            changed = attempted(
                request, lambda: people.change_group(access.actor(request), found, **values)
            )
            if changed is not None:
                text = _("Saved.") if changed else _("Nothing changed.")
                messages.success(request, text)
            return redirect("admin:people_group", id)
    q = listing.searched(request)
    members = listing.Filters(q=q, group=str(id)).users()
    return shown(
        request,
        "group.html",
        found.name,
        group=found,
        profile=profile,
        form=form,
        page=listing.one_page(request, listing.decorated(members)),
        page_query=listing.query_string(q=q),
        member_count=found.user_set.count(),
        q=q,
        from_directory=profile.source == GroupProfile.Source.DIRECTORY,
        is_user_role=profile.role == Role.USER,
    )


@require_POST
@access.page(access.MANAGE)
def members(request: HttpRequest, id: int) -> HttpResponse:
    """Add the users that are named in the form, or remove the selected ones."""
    found = get_object_or_404(Group, pk=id)
    actor = access.actor(request)
    if request.POST.get("remove"):
        ids = [int(one) for one in request.POST.getlist("remove") if one.isdecimal()]
        chosen = list(User.objects.filter(pk__in=ids))
        count = attempted(request, lambda: people.remove_members(actor, found, chosen))
        if count:
            text = ngettext("%s member removed.", "%s members removed.", count)
            messages.success(request, text % count)
        return redirect("admin:people_group", id)
    names = request.POST.get("names", "").replace(",", " ").replace(";", " ").split()
    users, unknown = [], []
    for name in names[:_NAMES_MOST]:
        one = lookup.find(name)
        users += [one] if one else []
        unknown += [] if one else [name]
    if unknown:
        messages.error(request, _("There is no user %s. Nobody was added.") % ", ".join(unknown))
    elif not users:
        messages.error(request, _("Enter usernames or email addresses."))
    else:
        count = attempted(request, lambda: people.add_members(actor, found, users))
        if count is not None:
            text = ngettext("%s member added.", "%s members added.", count)
            messages.success(request, text % count)
    return redirect("admin:people_group", id)


@require_POST
@access.page(access.MANAGE)
def delete(request: HttpRequest, id: int) -> HttpResponse:
    found = get_object_or_404(Group, pk=id)
    if not request.POST.get("confirmed"):
        return shown(
            request,
            "confirm_group.html",
            _("Delete group"),
            group=found,
            profile=people.profile_of(found),
            members=found.user_set.count(),
            back=reverse("admin:people_group", args=[id]),
        )
    name = found.name

    def remove() -> bool:
        people.delete_group(access.actor(request), found)
        return True

    if attempted(request, remove):
        messages.success(request, _("%s was deleted.") % name)
        return redirect("admin:people_groups")
    return redirect("admin:people_group", id)
