"""Forms of the pages of users, groups and invitations."""

from __future__ import annotations

from typing import Any, Final, Self

from django import forms
from django.contrib.auth.models import Group
from django.utils.translation import gettext_lazy as _

from chatsite.accounts import invitations, people
from chatsite.accounts.models import GroupProfile, User
from chatsite.accounts.roles import Role

ROLE_HELP: Final = {
    Role.ADMINISTRATOR: _("Everything: users, policy, settings, models, audit log."),
    Role.MODEL_MANAGER: _("Models, downloads, hosts and shared assistants."),
    Role.AUDITOR: _("Reads users, policy, usage and the audit log."),
    Role.USER: _("Chats and the API. No administration."),
}


class _Roles(forms.RadioSelect):
    """Radio buttons; each label explains what the role may do."""

    template_name = "admin/people/roles.html"

    def get_context(self, name: str, value: Any, attrs: Any) -> dict[str, Any]:
        context: dict[str, Any] = super().get_context(name, value, attrs)
        for _group, options, _index in context["widget"]["optgroups"]:
            for option in options:
                option["help"] = ROLE_HELP[Role(str(option["value"]))]
        return context


class ProfileForm(forms.Form):
    """Name and address of a user."""

    username = forms.CharField(
        label=_("Username"),
        max_length=150,
        widget=forms.TextInput(attrs={"autocomplete": "off", "spellcheck": "false"}),
    )
    email = forms.EmailField(
        label=_("Email address"),
        required=False,
        max_length=254,
        widget=forms.EmailInput(attrs={"autocomplete": "off"}),
    )
    first_name = forms.CharField(label=_("First name"), required=False, max_length=150)
    last_name = forms.CharField(label=_("Last name"), required=False, max_length=150)

    @classmethod
    def of(cls, user: User, data: Any = None) -> Self:
        names = ("username", "email", "first_name", "last_name")
        return cls(data, initial={name: getattr(user, name) for name in names})


class AccessForm(forms.Form):
    """Role and local groups of a user."""

    role = forms.ChoiceField(label=_("Role"), choices=Role.choices, widget=_Roles)
    groups = forms.ModelMultipleChoiceField(
        label=_("Groups"),
        queryset=Group.objects.none(),
        required=False,
        widget=forms.CheckboxSelectMultiple,
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["groups"].queryset = people.local_groups().order_by("name")  # type: ignore[attr-defined]

    @classmethod
    def of(cls, user: User, data: Any = None) -> Self:
        own = people.local_groups().filter(user=user)
        return cls(data, initial={"role": user.role, "groups": list(own)})


class UserForm(ProfileForm, AccessForm):
    """A new user."""

    role = forms.ChoiceField(
        label=_("Role"), choices=Role.choices, initial=Role.USER, widget=_Roles
    )
    field_order = ("username", "email", "first_name", "last_name", "role", "groups")


class GroupForm(forms.Form):
    name = forms.CharField(label=_("Name"), max_length=150)
    role = forms.ChoiceField(
        label=_("Role of its members"),
        choices=Role.choices,
        initial=Role.USER,
        widget=_Roles,
        help_text=_("Members have this role, unless their own is higher."),
    )
    mfa_required = forms.BooleanField(
        label=_("Members must use two-factor sign-in"),
        required=False,
    )

    @classmethod
    def of(cls, group: Group, profile: GroupProfile, data: Any = None) -> GroupForm:
        form = cls(
            data,
            initial={
                "name": group.name,
                "role": profile.role,
                "mfa_required": profile.mfa_required,
            },
        )
        if profile.source == GroupProfile.Source.DIRECTORY:
            form.fields["name"].disabled = True
            form.fields["name"].help_text = _("The name comes from the directory.")
        return form


class InvitationForm(AccessForm):
    """Who is invited; all but the expiry may stay empty."""

    email = forms.EmailField(label=_("Email address"), required=False, max_length=254)
    username = forms.CharField(label=_("Username"), required=False, max_length=150)
    first_name = forms.CharField(label=_("First name"), required=False, max_length=150)
    last_name = forms.CharField(label=_("Last name"), required=False, max_length=150)
    role = forms.ChoiceField(
        label=_("Role"), choices=Role.choices, initial=Role.USER, widget=_Roles
    )
    days = forms.IntegerField(
        label=_("Valid for (days)"),
        initial=invitations.DAYS,
        min_value=1,
        max_value=invitations.DAYS_MAX,
    )
    field_order = ("email", "username", "first_name", "last_name", "role", "groups", "days")
