"""Satisfaction with models, as a column and a filter of their list."""

from __future__ import annotations

from typing import Any, Final

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from chatsite.feedback import summary
from chatsite.usage import organization, suppression

# Least share of good ratings, from the best to the worst.
_LEVELS: Final[dict[str, tuple[float, str | Promise]]] = {
    "good": (0.8, _("80% and more")),
    "mixed": (0.5, _("50% to 80%")),
    "bad": (0.0, _("less than 50%")),
}
_UNRATED: Final = "unrated"


def shares() -> dict[str, float]:
    """Return the share of good ratings of each rated model, 0 to 1.

    Without models that so few users rated that reports hide them.
    """
    found = summary.by_model()
    least = organization.min_group()
    users = {one.model: one.users for one in found}
    hidden = suppression.partition(users, least) if least > 1 else set()
    return {
        one.model: one.satisfaction
        for one in found
        if one.model not in hidden and one.satisfaction is not None
    }


class SatisfactionFilter(admin.SimpleListFilter):
    title = _("satisfaction")
    parameter_name = "satisfaction"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        levels = [(name, str(label)) for name, (_least, label) in _LEVELS.items()]
        return [*levels, (_UNRATED, str(_("not rated")))]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        wanted = self.value()
        if wanted == _UNRATED:
            return queryset.exclude(name__in=shares())
        if wanted not in _LEVELS:
            return queryset
        names = [name for name, share in shares().items() if _level(share) == wanted]
        return queryset.filter(name__in=names)


def _level(share: float) -> str:
    return next(name for name, (least, _label) in _LEVELS.items() if share >= least)
