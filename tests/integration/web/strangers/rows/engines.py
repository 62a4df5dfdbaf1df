"""Remote engines: the model manager sees them, only administrators change them."""

from __future__ import annotations

from typing import Any

from chatsite.accounts.roles import Role
from models_admin.engines.models import Engine, EngineModel
from tests.integration.web.strangers.table import Row, World, admin


def _engine(world: World) -> Any:
    return Engine.objects.create(name="gpu1", kind="vllm", url="http://gpu1:8000").pk


def _model(world: World) -> Any:
    engine = Engine.objects.create(name="gpu2", kind="vllm", url="http://gpu2:8000")
    return EngineModel.objects.create(engine=engine, name="tiny").pk


FACTS = {"engine": _engine, "engine_model": _model}
_OF = {"id": "engine"}

ROWS: list[Row] = [
    admin("engines/", "GET", Role.MODEL_MANAGER),
    admin("engines/add/", "GET"),
    admin("engines/add/", "POST", status=422, form={"name": "x"}),
    admin("engines/<int:id>/", "GET", args=_OF),
    admin("engines/<int:id>/", "POST", args=_OF, status=422, form={"name": "x"}),
    admin("engines/<int:id>/check/", "POST", args=_OF, status=302),
    admin("engines/<int:id>/remove/", "GET", args=_OF),
    admin("engines/<int:id>/remove/", "POST", args=_OF, status=302),
    admin(
        "engines/<int:id>/models/<int:model>/offer/",
        "POST",
        args={"id": "engine", "model": "engine_model"},
        status=404,
    ),
]
