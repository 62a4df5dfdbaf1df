"""Lists and forms of rules, limits and quotas. Every change is recorded with old and new values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from django.contrib import messages
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from chatsite.accounts.models import User
from chatsite.audit.record import record
from chatsite.conversations.assistants.models import Assistant
from chatsite.policy import decide, snapshot, words
from chatsite.policy import hints as rule_hints
from chatsite.policy.models import Default, Limit, Quota, Rule
from chatsite.policy.quotas import states_of
from models_admin.adminsite.live import access
from models_admin.adminsite.policy.forms import AudienceForm, LimitForm, QuotaForm, RuleForm
from models_admin.models import ModelName

_SHOWN_USERS = 10
CHANGE: Final = "policy.change_rule"


@dataclass(frozen=True)
class Kind:
    """What is listed and edited: its model, form, and the URL of its list."""

    name: str
    model: type[Rule] | type[Limit] | type[Quota]
    form: type[AudienceForm]
    home: str
    add: str | Promise
    edit: str | Promise


KINDS: Final = {
    "rule": Kind(
        *("rule", Rule, RuleForm, "admin:policy"),
        *(gettext_lazy("Add rule"), gettext_lazy("Edit rule")),
    ),
    "limit": Kind(
        *("limit", Limit, LimitForm, "admin:policy_limits"),
        *(gettext_lazy("Add limits"), gettext_lazy("Edit limits")),
    ),
    "quota": Kind(
        *("quota", Quota, QuotaForm, "admin:policy_quotas"),
        *(gettext_lazy("Add quota"), gettext_lazy("Edit quota")),
    ),
}


def organization_assistants() -> dict[str, str]:
    found = Assistant.objects.of_organization()
    return {str(id): name for id, name in found.values_list("pk", "name")}


@dataclass(frozen=True)
class Affected:
    """How many active users an audience has, and the names of the first."""

    count: int
    names: list[str]

    @property
    def text(self) -> str:
        return ngettext("%(count)s user", "%(count)s users", self.count) % {"count": self.count}

    @property
    def more(self) -> int:
        return self.count - len(self.names)


def affected(audience: decide.Audience) -> Affected:
    found = User.objects.filter(is_active=True)
    if audience.user is not None:
        found = found.filter(pk=audience.user)
    elif audience.group is not None:
        found = found.filter(groups=audience.group)
    names = found.order_by("username").values_list("username", flat=True)
    return Affected(found.count(), list(names[:_SHOWN_USERS]))


class _Counts:
    """The number of affected users of each audience, each counted once."""

    def __init__(self) -> None:
        self._known: dict[decide.Audience, Affected] = {}

    def __call__(self, audience: decide.Audience) -> Affected:
        if audience not in self._known:
            self._known[audience] = affected(audience)
        return self._known[audience]


@access.page("policy.view_rule")
@require_GET
def rules(request: HttpRequest) -> HttpResponse:
    policy = snapshot.load()
    names, counts, assistants = words.Names(policy), _Counts(), organization_assistants()
    rows = []
    for kind, label in Rule.Kind.choices:
        for row in Rule.objects.filter(kind=kind).order_by("target", "effect", "pk"):
            data = row.as_data()
            rows.append(
                {
                    "row": row,
                    "kind": label,
                    "target": words.target(row.kind, row.target, assistants),
                    "audience": _capital(names.audience(data.audience)),
                    "affected": counts(data.audience),
                    "hint": _hint(data, policy, names, assistants),
                }
            )
    shown = [
        {"kind": kind, "label": label, "allowed": policy.defaults.get(kind, True)}  # type: ignore[call-overload]
        for kind, label in (
            ("model", _("Models")),
            ("assistant", _("Assistants")),
            ("feature", _("Features")),
        )
    ]
    return rendered(request, "rules.html", _("Rules"), rows=rows, defaults=shown)


@access.page("policy.view_rule")
@require_GET
def limits(request: HttpRequest) -> HttpResponse:
    policy = snapshot.load()
    names, counts = words.Names(policy), _Counts()
    rows = []
    for row in Limit.objects.select_related("user", "group"):
        data = row.as_data()
        values = {name: getattr(data.values, name) for name in decide.LIMIT_FIELDS}
        rows.append(
            {
                "row": row,
                "audience": _capital(names.audience(data.audience)),
                "affected": counts(data.audience),
                "values": [
                    (words.LIMIT_LABELS[name], words.limit_value(name, value))
                    for name, value in values.items()
                    if value is not None
                ],
            }
        )
    return rendered(request, "limits.html", _("Limits"), rows=rows)


@access.page("policy.view_rule")
@require_GET
def quotas(request: HttpRequest) -> HttpResponse:
    policy = snapshot.load()
    names, counts = words.Names(policy), _Counts()
    pots = {state.quota.id: state for state in _shared_states(policy)}
    rows = []
    for row in Quota.objects.select_related("user", "group"):
        data = row.as_data()
        rows.append(
            {
                "row": row,
                "audience": _capital(names.audience(data.audience)),
                "affected": counts(data.audience),
                "text": words.quota(data),
                "state": pots.get(data.id),
            }
        )
    return rendered(request, "quotas.html", _("Quotas"), rows=rows)


def _shared_states(policy: decide.Policy) -> list[Any]:
    """Return the states of all pots that are shared."""
    every = decide.Subject(None, policy.groups)
    return states_of(policy, every)


@access.page(CHANGE)
@require_POST
def defaults(request: HttpRequest) -> HttpResponse:
    """Change what is decided for kinds of targets where no rule applies."""
    before = dict.fromkeys(Rule.Kind.values, True)
    before |= dict(Default.objects.values_list("kind", "allowed"))
    with transaction.atomic():
        for kind, allowed in before.items():
            wanted = request.POST.get(kind)
            if wanted not in {"allow", "deny"} or (wanted == "allow") == allowed:
                continue
            Default.objects.update_or_create(kind=kind, defaults={"allowed": wanted == "allow"})
            record(
                "policy.changed",
                request=request,
                target=("default", kind, kind),
                action="changed",
                old="allow" if allowed else "deny",
                new=wanted,
            )
    messages.success(request, _("The defaults were saved."))
    return redirect("admin:policy")


@access.page(CHANGE)
@require_http_methods(["GET", "HEAD", "POST"])
def edit(request: HttpRequest, kind: str, id: int | None = None) -> HttpResponse:
    """Add a row, or change the one with ``id``."""
    known = KINDS[kind]
    row: Any = get_object_or_404(known.model, pk=id) if id else known.model()
    before = described(row) if id else ""
    form = known.form(request.POST or None, instance=row)
    if request.method == "POST" and form.is_valid():
        with transaction.atomic():
            saved = form.save()
        _record(request, kind, saved, "changed" if id else "added", old=before)
        messages.success(request, _("The change was saved. It applies within two seconds."))
        _warn(request, saved)
        return redirect(known.home)
    context = {
        "form": form,
        "kind": known,
        "row": row if id else None,
        "affected": affected(known.model.objects.get(pk=id).audience) if id else None,
    }
    return rendered(request, "form.html", known.edit if id else known.add, **context)


@access.page(CHANGE)
@require_POST
def delete(request: HttpRequest, kind: str, id: int) -> HttpResponse:
    known = KINDS[kind]
    row: Any = get_object_or_404(known.model, pk=id)
    _record(request, kind, row, "removed", old=described(row), new="")
    row.delete()
    messages.success(request, _("It was removed. The change applies within two seconds."))
    return redirect(known.home)


def described(row: Rule | Limit | Quota) -> str:
    """Return a row in English, for the audit."""
    audience = f"user {row.user}" if row.user else f"group {row.group}" if row.group else "everyone"
    if isinstance(row, Rule):
        return f"{row.effect} {row.kind} {row.target} to {audience}"
    if isinstance(row, Quota):
        each = "together" if row.shared else "each"
        return f"{row} for {audience}, {each}"
    values = {name: getattr(row, name) for name in decide.LIMIT_FIELDS}
    said = ", ".join(f"{name}={value:g}" for name, value in values.items() if value is not None)
    return f"{said} for {audience}"


def _record(
    request: HttpRequest, kind: str, row: Any, action: str, *, old: str, new: str | None = None
) -> None:
    now = described(row) if new is None else new
    record(
        "policy.changed",
        request=request,
        target=(kind, str(row.pk), now or old),
        action=action,
        old=old,
        new=now,
    )


def _warn(request: HttpRequest, saved: Any) -> None:
    """Tell what the saved rule will not do."""
    if not isinstance(saved, Rule):
        return
    policy = snapshot.load()
    text = _hint(saved.as_data(), policy, words.Names(policy), organization_assistants())
    if text:
        messages.warning(request, text)
    if saved.kind == "model" and not _matches_a_model(saved.target):
        messages.warning(
            request,
            _("No installed model matches “%(target)s” at present.") % {"target": saved.target},
        )


def _matches_a_model(target: str) -> bool:
    names = ModelName.objects.values_list("name", flat=True)
    return any(decide.matches("model", target, name) for name in names)


def _hint(
    rule: decide.Rule, policy: decide.Policy, names: words.Names, assistants: dict[str, str]
) -> str:
    found = rule_hints.hint(rule, policy)
    if found is None:
        return ""
    if found.other is None:
        if rule.effect == "allow":
            return _("No effect: the default allows this already.")
        return _("No effect: nothing allows this.")
    said = words.rule(found.other, names, assistants)
    if found.what == "overridden":
        return _("No effect: %(rule)s, and a deny rule wins.") % {"rule": said}
    return _("No effect: %(rule)s already.") % {"rule": said}


def _capital(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}"


def rendered(
    request: HttpRequest, template: str, title: str | Promise, **context: Any
) -> HttpResponse:
    context["may_change"] = request.user.has_perm(CHANGE)
    values = access.context(request, title, **context)
    return render(request, f"admin/policy/{template}", values)
