"""Users, what groups grant, and API keys."""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import Any, Final

from django.contrib.auth.hashers import check_password, make_password
from django.contrib.auth.models import AbstractUser, Group
from django.db import models, transaction
from django.db.models import Q
from django.db.models.functions import Lower
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from chatsite.accounts import roles
from chatsite.accounts.roles import Role

# Fields that decide what a user may do. They are saved together.
_GUARDED: Final = frozenset({"role", "effective_role", "is_staff", "is_superuser", "is_active"})


class User(AbstractUser):
    """A user. A custom class from the start, since Django can't replace its own later.

    ``role`` is the role of their own, ``effective_role`` the highest of it and their groups'; see
    `roles`. ``last_seen_at`` is minutes late at most (`sessions.seen`, `keys.caller`).
    Sessions are bound to the hash of the password, as Django does it; after an upgrade of that
    hash, or the end of all sessions, to ``session_stamp`` until the password changes.
    """

    role = models.CharField(_("role"), max_length=20, choices=Role.choices, default=Role.USER)
    effective_role = models.CharField(
        _("effective role"),
        max_length=20,
        choices=Role.choices,
        default=Role.USER,
        editable=False,
        db_index=True,
    )
    last_seen_at = models.DateTimeField(
        _("last seen"), null=True, blank=True, editable=False, db_index=True
    )
    session_stamp = models.CharField(max_length=128, blank=True, editable=False)
    # The key of the session that survives a save which ends the user's sessions.
    kept_session = ""

    class Meta(AbstractUser.Meta):
        # Sign-in ignores case and refuses a name that matches two users: neither could sign in.
        constraints = [
            models.UniqueConstraint(
                Lower("username"),
                name="username_ignoring_case",
                violation_error_message=_("That username is already taken."),
            )
        ]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.loaded = self._guarded()

    def refresh_from_db(self, *args: Any, **kwargs: Any) -> None:
        super().refresh_from_db(*args, **kwargs)
        self.loaded = self._guarded()

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Save the user with the effective role. Raises `roles.LastAdministrator`."""
        fields = kwargs.get("update_fields")
        if fields is not None and not _GUARDED.intersection(fields):
            super().save(*args, **kwargs)
            return
        if fields is not None:
            kwargs["update_fields"] = {*fields, *_GUARDED}
        with transaction.atomic():
            if roles.derive(self):
                with roles.administrator_kept():
                    super().save(*args, **kwargs)
            else:
                super().save(*args, **kwargs)
        self.loaded = self._guarded()

    def _guarded(self) -> dict[str, Any]:
        """Return the guarded fields that are loaded. Reads no deferred field."""
        return {name: self.__dict__[name] for name in _GUARDED if name in self.__dict__}

    def check_password(self, raw_password: str | None) -> bool:
        """Check the password; upgrade an outdated hash without ending the user's sessions."""

        def upgrade(raw: str) -> None:
            stamp = self.get_session_auth_hash()
            self.password = make_password(raw)
            self.bind_sessions(stamp)
            self.save(update_fields=["password", "session_stamp"])

        return check_password(raw_password, self.password, upgrade)

    def bind_sessions(self, stamp: str) -> None:
        """Bind sessions to ``stamp`` until the password changes. Does not save."""
        self.session_stamp = f"{self._password_mark()}${stamp}"

    def get_session_auth_hash(self) -> str:
        mark, _separator, stamp = self.session_stamp.partition("$")
        if stamp and mark == self._password_mark():
            return stamp
        return super().get_session_auth_hash()

    def _password_mark(self) -> str:
        return hashlib.sha256(self.password.encode()).hexdigest()[:16]


class GroupProfile(models.Model):
    """What a group grants, and where its members come from.

    ``external_id`` identifies a group of the directory. Members of directory groups are set by the
    directory only.
    """

    class Source(models.TextChoices):
        LOCAL = "local", _("Local")
        DIRECTORY = "directory", _("Directory")

    group = models.OneToOneField(
        Group, on_delete=models.CASCADE, related_name="profile", verbose_name=_("group")
    )
    role = models.CharField(_("role"), max_length=20, choices=Role.choices, default=Role.USER)
    source = models.CharField(
        _("source"), max_length=20, choices=Source.choices, default=Source.LOCAL
    )
    external_id = models.CharField(_("external ID"), max_length=255, blank=True, db_index=True)
    mfa_required = models.BooleanField(_("two-factor sign-in required"), default=False)

    class Meta:
        verbose_name = _("group profile")
        verbose_name_plural = _("group profiles")

    def __str__(self) -> str:
        return str(self.group)

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Save the profile and refresh its members. Raises `roles.LastAdministrator`."""
        with transaction.atomic():
            super().save(*args, **kwargs)
            roles.refresh(list(self.group.user_set.values_list("pk", flat=True)))


class Scope(models.TextChoices):
    CHAT = "chat", _("chat and completions")
    EMBED = "embed", _("embeddings")
    MODELS = "models", _("list of models")
    KNOWLEDGE = "knowledge", _("change collections of documents")
    MANAGE = "manage", _("change models (administrators)")
    SCIM = "scim", _("provision users and groups (administrators)")


class ApiKeyQuerySet(models.QuerySet["ApiKey"]):
    def of(self, user: User) -> ApiKeyQuerySet:
        return self.filter(owner=user)

    def usable(self) -> ApiKeyQuerySet:
        """Return keys that are neither revoked nor expired, of active users."""
        now = timezone.now()
        return self.filter(
            Q(expires_at=None) | Q(expires_at__gt=now), revoked_at=None, owner__is_active=True
        )


class ApiKey(models.Model):
    """A user's API key. The key itself is not stored.

    ``digest`` is its SHA-256, which suffices for 256 random bits, and ``prefix`` its beginning, by
    which users recognize it. ``scopes`` are values of `Scope`, separated by spaces.
    """

    owner = models.ForeignKey(
        User, on_delete=models.CASCADE, related_name="api_keys", verbose_name=_("user")
    )
    name = models.CharField(_("name"), max_length=100, blank=True)
    prefix = models.CharField(_("prefix"), max_length=16)
    digest = models.CharField(max_length=64, unique=True)
    scopes = models.CharField(_("scopes"), max_length=100)
    created_at = models.DateTimeField(_("created at"), default=timezone.now)
    expires_at = models.DateTimeField(_("expires"), null=True, blank=True)
    last_used_at = models.DateTimeField(_("last used"), null=True, blank=True)
    revoked_at = models.DateTimeField(_("revoked"), null=True, blank=True)

    objects = ApiKeyQuerySet.as_manager()

    class Meta:
        verbose_name = _("API key")
        verbose_name_plural = _("API keys")
        ordering = ["-created_at", "-pk"]

    def __str__(self) -> str:
        return f"{self.prefix}…"

    @property
    def scope_names(self) -> list[str]:
        return [str(Scope(scope).label) for scope in self.scopes.split()]

    @property
    def usable(self) -> bool:
        return self.revoked_at is None and (
            self.expires_at is None or self.expires_at > timezone.now()
        )


class UserSession(models.Model):
    """A browser session of a user, for the page of sessions. The session itself is Django's.

    ``last_seen_at`` is at most `sessions.SEEN_SECONDS` late.
    """

    user = models.ForeignKey(
        User, on_delete=models.CASCADE, related_name="browser_sessions", verbose_name=_("user")
    )
    session_key = models.CharField(max_length=40, unique=True)
    address = models.CharField(_("address"), max_length=45, blank=True)
    agent = models.CharField(_("browser"), max_length=300, blank=True)
    created_at = models.DateTimeField(_("signed in"), default=timezone.now)
    last_seen_at = models.DateTimeField(_("last seen"), default=timezone.now)

    class Meta:
        verbose_name = _("session")
        verbose_name_plural = _("sessions")
        ordering = ["-last_seen_at", "-pk"]

    def __str__(self) -> str:
        return f"{self.user} ({self.address})"


class OneTimeLinkQuerySet(models.QuerySet[Any]):
    def usable(self, now: datetime | None = None) -> OneTimeLinkQuerySet:
        now = now or timezone.now()
        return self.filter(used_at=None, revoked_at=None, expires_at__gt=now)


class OneTimeLink(models.Model):
    """A secret link that works once and expires. Only the SHA-256 of its token is stored."""

    digest = models.CharField(max_length=64, unique=True)
    created_at = models.DateTimeField(_("created at"), default=timezone.now)
    created_by = models.ForeignKey(
        User,
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        related_name="+",
        verbose_name=_("created by"),
    )
    expires_at = models.DateTimeField(_("expires"))
    used_at = models.DateTimeField(_("used"), null=True, blank=True)
    revoked_at = models.DateTimeField(_("revoked"), null=True, blank=True)

    objects = OneTimeLinkQuerySet.as_manager()

    class Meta:
        abstract = True

    @property
    def usable(self) -> bool:
        return self.used_at is None and self.revoked_at is None and self.expires_at > timezone.now()


class Invitation(OneTimeLink):
    """A link by which a person creates their account, with what the inviter decided."""

    email = models.EmailField(_("email address"), blank=True)
    username = models.CharField(_("username"), max_length=150, blank=True)
    first_name = models.CharField(_("first name"), max_length=150, blank=True)
    last_name = models.CharField(_("last name"), max_length=150, blank=True)
    role = models.CharField(_("role"), max_length=20, choices=Role.choices, default=Role.USER)
    groups = models.ManyToManyField(Group, blank=True, verbose_name=_("groups"))
    accepted_by = models.ForeignKey(
        User,
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        related_name="+",
        verbose_name=_("user"),
    )

    class Meta:
        verbose_name = _("invitation")
        verbose_name_plural = _("invitations")
        ordering = ["-created_at", "-pk"]

    def __str__(self) -> str:
        return self.email or self.username or f"{self.first_name} {self.last_name}".strip() or "…"


class AccountLink(OneTimeLink):
    """A link for an existing user: a new password, or the confirmation of ``email``."""

    class Purpose(models.TextChoices):
        PASSWORD = "password", _("new password")
        EMAIL = "email", _("confirmation of an email address")

    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="links")
    purpose = models.CharField(max_length=10, choices=Purpose.choices)
    email = models.EmailField(blank=True)

    class Meta:
        ordering = ["-created_at", "-pk"]

    def __str__(self) -> str:
        return f"{self.user}: {self.get_purpose_display()}"


class SignUp(models.Model):
    """A sign-up that is not complete: the user is inactive until it is approved or confirmed."""

    class Waiting(models.TextChoices):
        APPROVAL = "approval", _("waiting for approval")
        CONFIRMATION = "confirmation", _("waiting for confirmation of the email address")

    user = models.OneToOneField(
        User, on_delete=models.CASCADE, related_name="sign_up", verbose_name=_("user")
    )
    waiting_for = models.CharField(_("status"), max_length=12, choices=Waiting.choices)
    address = models.CharField(_("address"), max_length=45, blank=True)
    created_at = models.DateTimeField(_("created at"), default=timezone.now)

    class Meta:
        verbose_name = _("sign-up")
        verbose_name_plural = _("sign-ups")
        ordering = ["created_at", "pk"]

    def __str__(self) -> str:
        return str(self.user)


class DirectoryIdentity(models.Model):
    """A user as a directory knows them: how sign-in, the periodic check and SCIM find the account.

    ``external_id`` is the directory's own identifier, which survives renames, and ``name`` its name
    of the user. ``seen_at`` is the last sign-in, or the last time that the directory listed the
    user. ``disabled_at`` is set while the user is disabled because the directory said so: only
    then may the directory enable them again.
    """

    class Source(models.TextChoices):
        OIDC = "oidc", _("OpenID Connect")
        LDAP = "ldap", _("LDAP")
        SCIM = "scim", _("SCIM")

    user = models.ForeignKey(
        User, on_delete=models.CASCADE, related_name="identities", verbose_name=_("user")
    )
    source = models.CharField(_("source"), max_length=10, choices=Source.choices)
    external_id = models.CharField(_("external ID"), max_length=255)
    name = models.CharField(_("name in the directory"), max_length=255, blank=True)
    seen_at = models.DateTimeField(_("last seen"), default=timezone.now)
    disabled_at = models.DateTimeField(_("disabled by the directory"), null=True, blank=True)

    class Meta:
        verbose_name = _("directory identity")
        verbose_name_plural = _("directory identities")
        constraints = [
            models.UniqueConstraint(fields=["source", "external_id"], name="identity_of_directory"),
            models.UniqueConstraint(fields=["user", "source"], name="identity_per_directory"),
        ]

    def __str__(self) -> str:
        return f"{self.source}: {self.name or self.external_id}"
