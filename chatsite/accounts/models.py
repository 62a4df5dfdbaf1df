"""People."""

from django.contrib.auth.models import AbstractUser
from django.db import models
from django.db.models.functions import Lower
from django.utils.translation import gettext_lazy as _


class User(AbstractUser):
    """A person. Our own class from the start, since Django can't swap it in later."""

    class Meta(AbstractUser.Meta):
        # Sign-in ignores case and refuses a name that fits two people: neither could get in.
        constraints = [
            models.UniqueConstraint(
                Lower("username"),
                name="username_ignoring_case",
                violation_error_message=_("There is a person of this name already."),
            )
        ]
