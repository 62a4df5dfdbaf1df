"""Collections of documents."""

from __future__ import annotations

from typing import Any

from chatsite.documents.chunks import split
from chatsite.knowledge import index
from chatsite.knowledge.models import (
    Collection,
    Document,
    DocumentState,
    DocumentText,
    FolderSync,
    Passage,
)
from tests.integration.web.strangers.table import World, data, own, signed_in

_TEXT = "Tickets of first class need approval."


def _collection(world: World) -> Any:
    return Collection.objects.create(owner=world.owner, name="Rules").pk


def _document(world: World) -> Any:
    made = Document.objects.create(
        collection_id=world.fact("collection"),
        path="trains.md",
        size=len(_TEXT),
        sha256="0" * 64,
        state=DocumentState.READY,
        characters=len(_TEXT),
    )
    DocumentText.objects.create(document=made, text=_TEXT)
    index.put(made, split(_TEXT))
    return made.pk


def _sync(world: World) -> Any:
    into = Collection.objects.get(pk=world.fact("collection"))
    return FolderSync.objects.create(collection=into, user=world.owner, paths={}).pk


FACTS = {
    "collection": _collection,
    "document": _document,
    "passage": lambda world: Passage.objects.get(document=world.fact("document")).pk,
    "sync": _sync,
    "next_version": lambda _: 2,
    "first_piece": lambda _: 0,
}
COLLECTION = {"id": "collection"}
DOCUMENT = {"id": "document"}

ROWS = [
    signed_in("knowledge/", feature="knowledge"),
    own("knowledge/<uuid:id>/", args=COLLECTION, feature="knowledge"),
    data(signed_in("knowledge/collections/")),
    data(
        signed_in("knowledge/collections/", "POST", 201, json={"name": "New"}, feature="knowledge")
    ),
    data(own("knowledge/collections/<uuid:id>/", args=COLLECTION)),
    data(own("knowledge/collections/<uuid:id>/", "PATCH", args=COLLECTION, json={"name": "x"})),
    data(own("knowledge/collections/<uuid:id>/", "DELETE", 204, args=COLLECTION)),
    data(own("knowledge/collections/<uuid:id>/documents/", args=COLLECTION)),
    data(
        own(
            "knowledge/collections/<uuid:id>/documents/",
            "POST",
            201,
            args=COLLECTION,
            json={"path": "x.md", "size": 1},
            feature="knowledge",
        )
    ),
    data(
        own(
            "knowledge/collections/<uuid:id>/documents/",
            "PATCH",
            args=COLLECTION,
            query="?folder=old",
            json={"path": "new"},
        )
    ),
    data(own("knowledge/collections/<uuid:id>/shares/", args=COLLECTION)),
    data(
        own("knowledge/collections/<uuid:id>/shares/", "PUT", args=COLLECTION, json={"shares": []})
    ),
    data(
        own(
            "knowledge/collections/<uuid:id>/sync/",
            "POST",
            201,
            args=COLLECTION,
            json={"manifest": []},
        )
    ),
    data(own("knowledge/sync/<uuid:id>/finish/", "POST", args={"id": "sync"}, json={})),
    data(signed_in("knowledge/people/", query="?q=x", feature="knowledge")),
    data(signed_in("knowledge/search/", "POST", json={"query": "trains"}, feature="knowledge")),
    data(own("knowledge/documents/<uuid:id>/", args=DOCUMENT)),
    data(own("knowledge/documents/<uuid:id>/", "DELETE", 204, args=DOCUMENT)),
    data(own("knowledge/documents/<uuid:id>/file/", args=DOCUMENT)),
    data(own("knowledge/documents/<uuid:id>/text/", args=DOCUMENT)),
    data(
        own(
            "knowledge/documents/<uuid:id>/pieces/<int:version>/<int:number>/",
            "PUT",
            204,
            args={"id": "document", "version": "next_version", "number": "first_piece"},
            json=1,
        )
    ),
    data(own("knowledge/documents/<uuid:id>/finish/", "POST", args=DOCUMENT, json={"version": 1})),
    data(own("knowledge/documents/<uuid:id>/move/", "POST", args=DOCUMENT, json={"path": "y"})),
    data(own("knowledge/documents/<uuid:id>/retry/", "POST", args=DOCUMENT, json={})),
    data(own("knowledge/passages/<int:id>/", args={"id": "passage"})),
]
