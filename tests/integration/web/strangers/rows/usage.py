"""Usage and feedback: the pages of administrators, one's own, and ratings of answers."""

from __future__ import annotations

from typing import Any

from chatsite.accounts.roles import Role
from chatsite.feedback import ratings
from chatsite.feedback.models import Feedback
from tests.integration.web.strangers.table import Row, World, admin, data, own, signed_in

MESSAGE = {"id": "message"}


def _feedback(world: World) -> Any:
    message = world.fact("message")
    ratings.rate(world.owner, message, ratings.Rating("down", shared=True))
    return Feedback.objects.get(message=message).pk


FACTS = {"feedback": _feedback, "by": lambda world: "model"}
RATING = "chat/messages/<uuid:id>/feedback/"

ROWS: list[Row] = [
    signed_in("usage/"),
    data(own("chat/conversations/<uuid:id>/feedback/", args={"id": "conversation"})),
    data(own(RATING, "PUT", args=MESSAGE, json={"vote": "up"})),
    data(own(RATING, "DELETE", 204, args=MESSAGE)),
    admin("usage/", "GET", Role.AUDITOR),
    admin("usage/<slug:by>/", "GET", Role.AUDITOR, args={"by": "by"}),
    admin("usage/<slug:by>.csv", "GET", Role.AUDITOR, args={"by": "by"}),
    admin("usage/feedback/", "GET", Role.AUDITOR),
    admin("usage/feedback/<int:id>/", args={"id": "feedback"}),
]
