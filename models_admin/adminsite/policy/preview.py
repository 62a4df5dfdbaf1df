"""Preview: every decision for a user or a group, with the rule that made it."""

from __future__ import annotations

from itertools import groupby

from django.contrib.auth.models import Group
from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET

from chatsite.accounts.models import User
from chatsite.policy import decide, snapshot, words
from models_admin.adminsite.live import access
from models_admin.adminsite.policy.views import organization_assistants, rendered
from models_admin.models import ModelName


@access.page("policy.view_rule")
@require_GET
def page(request: HttpRequest) -> HttpResponse:
    username = request.GET.get("user", "").strip()
    group_id = request.GET.get("group", "")
    subject, name, problem = None, "", ""
    policy = snapshot.load()
    if username:
        user = User.objects.filter(username__iexact=username).first()
        if user is None:
            problem = _("There is no user with this name.")
        else:
            name = user.username
            groups = user.groups.filter(pk__in=policy.groups).values_list("pk", flat=True)
            subject = decide.Subject(user.pk, frozenset(groups))
    elif group_id:
        group = Group.objects.filter(pk=group_id).first() if group_id.isdecimal() else None
        if group is None:
            problem = _("There is no such group.")
        else:
            name = group.name
            subject = decide.Subject(None, frozenset({group.pk}))
    found = None
    if subject is not None:
        models = ModelName.objects.filter(enabled=True).order_by("name")
        found = words.explain(
            policy,
            subject,
            models=models.values_list("name", flat=True),
            assistants=organization_assistants(),
        )
    titles = {"feature": _("Features"), "model": _("Models"), "assistant": _("Assistants")}
    parts = groupby(found.decisions if found else [], key=lambda line: line.kind)
    return rendered(
        request,
        "preview.html",
        _("Preview"),
        username=username,
        group_id=group_id,
        groups=Group.objects.order_by("name"),
        problem=problem,
        name=name,
        of_group=bool(subject and subject.user is None),
        found=found,
        parts=[(titles[kind], list(lines)) for kind, lines in parts],
    )
