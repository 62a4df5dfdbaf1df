"""A model by name, from its source into the store."""

from __future__ import annotations

import asyncio

from django.utils.translation import gettext_lazy as _

from models_admin import sources, store, transfer
from models_admin.models import ModelName
from models_admin.sources.base import SourceRefused

# What a source may add to the weights and is not kept: the GGUF has a template of its own.
_LEFT_OUT = frozenset({"template", "system", "params", "license", "messages"})


def pull(name: str, progress: store.Progress) -> ModelName:
    """Downloads in this process, going on where an earlier one ended. Raises what
    `sources.resolve`, `transfer.fill` and `store.import_file` raise."""
    found = asyncio.run(sources.resolve(name))
    (weights,) = (blob for blob in found.blobs if blob.role == "model")
    if others := {blob.role for blob in found.blobs} - _LEFT_OUT - {"model"}:
        raise SourceRefused(
            str(_("The model needs parts that can't be run here: %s.")) % ", ".join(sorted(others))
        )
    with transfer.partial(weights) as (file, path):
        asyncio.run(transfer.fill(file, weights, progress))
        return store.import_file(path, found.name, move=True)
