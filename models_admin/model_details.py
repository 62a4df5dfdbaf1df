"""What users see about a model when they choose one."""

from __future__ import annotations

from typing import TypedDict

from django.conf import settings

from models_admin import catalogue_data, facts
from models_admin.gguf import memory
from models_admin.models import ModelName


class ModelDetails(TypedDict):
    """Details of a model.

    ``context`` is the tokens of an answer and everything before it, ``parameters`` a text such as
    `135M`; they are 0 and empty if the file can't be read. A ``remote`` model runs on another
    server; with a ``shared_cache`` its engine does not keep the prompt caches of users apart.
    """

    description: str
    parameters: str
    context: int
    tools: bool
    reasoning: bool
    remote: bool
    shared_cache: bool


def details() -> dict[str, ModelDetails]:
    """Return the details of the models that users can choose, by name.

    Reads the headers of files that this process has not read yet.
    """
    found = ModelName.objects.filter(enabled=True, version__quarantined="").served()
    return {name.name: _details(name) for name in found.select_related("version")}


def _details(name: ModelName) -> ModelDetails:
    remote = name.version.remote_facts
    known = facts.of(name.version)
    abilities = facts.nature(name.version).abilities
    trained = memory.shape_of(known.header).context if known else 0
    wanted = name.context or settings.ENV.context
    entry = None if name.configuration else catalogue_data.entry(name.name)
    return {
        "description": entry.about if entry else "",
        "parameters": known.parameter_size.replace(".0", "") if known else "",
        "context": (remote.context or 0) if remote else min(wanted, trained) if trained else 0,
        "tools": "tools" in abilities,
        "reasoning": "thinking" in abilities,
        "remote": remote is not None,
        "shared_cache": remote is not None and not remote.isolated,
    }
