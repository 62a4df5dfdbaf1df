"""Forms of sign-in, sign-up and one's own account."""

from __future__ import annotations

from typing import Any

from allauth.account import forms as allauth_forms
from allauth.core import context
from allauth.mfa.base.forms import AuthenticateForm, ReauthenticateForm
from django import forms
from django.contrib.auth.forms import SetPasswordForm
from django.core.exceptions import ValidationError
from django.utils.translation import gettext_lazy as _

from chatsite.accounts import lookup
from chatsite.accounts.adapter import AccountAdapter
from chatsite.accounts.models import Invitation, User
from chatsite.accounts.setup import SetupForm
from chatsite.site_settings import current

_TAKEN = _("That username is already taken.")
_EMAIL_TAKEN = _("Another account has this email address.")
_EMAIL_CHARS = 254


class LoginForm(allauth_forms.LoginForm):  # type: ignore[misc]  # untyped library
    """allauth's, which takes a username or an email address; the adapter resolves it."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        field = forms.CharField(
            label=_("Username or email"),
            max_length=_EMAIL_CHARS,
            widget=forms.TextInput(
                attrs={"autocomplete": "username webauthn", "autocapitalize": "none"}
            ),
        )
        self.fields["login"] = field
        self.order_fields(["login", "password"])


class _CountedCode(forms.Form):
    """A mixin of allauth's forms for codes: attempts are limited by `throttle.code_limits`."""

    user: User

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["code"].widget.attrs |= {"inputmode": "numeric", "autocapitalize": "none"}

    def clean_code(self) -> str:
        undo = AccountAdapter().count_code(context.request, self.user)
        code: str = super().clean_code()  # type: ignore[misc]  # of allauth's form
        undo()
        return code


class CodeForm(_CountedCode, AuthenticateForm):  # type: ignore[misc]  # untyped library
    """A code of an authenticator app, or a recovery code, at sign-in."""


class ReauthenticateByCodeForm(_CountedCode, ReauthenticateForm):  # type: ignore[misc]
    """The same, to confirm that it is the user."""


class _PersonMixin(forms.ModelForm):  # type: ignore[type-arg]
    """Checks of a username and an email address, by which users sign in."""

    instance: User

    def clean_username(self) -> str:
        name: str = self.cleaned_data["username"]
        if lookup.is_taken(name, besides=self.instance):
            raise ValidationError(_TAKEN, "unique")
        return name

    def clean_email(self) -> str:
        email: str = self.cleaned_data["email"].strip()
        if email and lookup.is_taken(email, besides=self.instance):
            raise ValidationError(_EMAIL_TAKEN, "unique")
        return email


class NewAccountForm(_PersonMixin, SetupForm):
    """An account that a person creates for themselves, by an invitation."""

    class Meta(SetupForm.Meta):
        fields = ("username", "first_name", "last_name", "email")

    field_order = ("username", "email", "first_name", "last_name", "password1", "password2")

    def __init__(self, *args: Any, invitation: Invitation | None = None, **kwargs: Any) -> None:
        if invitation is not None:
            kwargs["initial"] = {
                name: getattr(invitation, name)
                for name in ("username", "first_name", "last_name", "email")
            }
        super().__init__(*args, **kwargs)
        self.fields["email"].required = False
        if invitation is not None and invitation.email:
            self.fields["email"].disabled = True


class SignUpForm(NewAccountForm):
    """Sign-up without an invitation. ``email_taken`` tells that another account has the address.

    Where mail is sent, that is no error: strangers must not learn who has an account, so its owner
    is informed by mail instead.
    """

    email_taken = False

    def __init__(self, *args: Any, by_mail: bool, domains: tuple[str, ...], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.by_mail, self.domains = by_mail, {domain.lower() for domain in domains}
        self.fields["email"].required = by_mail
        if domains:
            self.fields["email"].help_text = _("An address of: %(domains)s") % {
                "domains": ", ".join(domains)
            }

    def clean_email(self) -> str:
        email: str = self.cleaned_data["email"].strip()
        if self.domains and email.rpartition("@")[2].lower() not in self.domains:
            raise ValidationError(
                _("Sign-up needs an address of: %(domains)s"),
                "domain",
                {"domains": ", ".join(sorted(self.domains))},
            )
        if email and lookup.is_taken(email):
            if not self.by_mail:
                raise ValidationError(_EMAIL_TAKEN, "unique")
            self.email_taken = True
        return email


class ProfileForm(_PersonMixin):
    class Meta:
        model = User
        fields = ("first_name", "last_name", "email")


class AskForLinkForm(forms.Form):
    email = forms.EmailField(
        label=_("Email address"),
        max_length=_EMAIL_CHARS,
        widget=forms.EmailInput(attrs={"autocomplete": "email"}),
    )


class NewPasswordForm(SetPasswordForm):  # type: ignore[type-arg]
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["new_password1"].help_text = _("At least 8 characters, not a common password.")
        self.fields["new_password2"].label = _("Repeat the password")
        self.fields["new_password2"].help_text = ""


def sign_up_form(*args: Any, by_mail: bool, **kwargs: Any) -> SignUpForm:
    """Return the form for the present mode of sign-up."""
    found = current()
    domains = found.signup_domains if found.signup_mode == "domain" else ()
    return SignUpForm(*args, by_mail=by_mail, domains=domains, **kwargs)
