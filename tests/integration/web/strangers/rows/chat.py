"""The chat page, its JSON endpoints, import, export, search and shares."""

from __future__ import annotations

from typing import Any

from chatsite.conversations.assistants.models import Assistant
from chatsite.conversations.attachments import storage
from chatsite.conversations.models import Folder, Generation, Message
from chatsite.knowledge.models import Citation, Collection, Document, Passage, Retrieval
from chatsite.sharing import work
from tests.integration.web.strangers.table import Row, World, data, own, signed_in
from tests.support import conversations

CONVERSATION = {"id": "conversation"}


def _conversation(world: World) -> str:
    return conversations.write("owner", ["An answer"], cut="length")


def _message(world: World) -> Any:
    messages = Message.objects.filter(conversation=world.fact("conversation"), role="assistant")
    return messages.get().pk


def _question(world: World) -> Any:
    return Message.objects.get(conversation=world.fact("conversation"), role="user").pk


def _cut(world: World) -> Any:
    id = conversations.write("owner", ["An answer"], cut="length")
    return Message.objects.get(conversation__pk=id, role="assistant").pk


def _attachment(world: World) -> Any:
    return storage.start_upload(world.owner, "notes.txt", 4).pk


def _share(world: World) -> Any:
    work.publish(world.owner, world.fact("conversation"))
    return world.owner.shares.get().token


def _assistant(world: World) -> Any:
    return Assistant.objects.create(owner=world.owner, name="Translator", model="smollm2:135m").pk


def _books(world: World) -> Any:
    return Collection.objects.create(owner=world.owner, name="Manuals").pk


def _citation(world: World) -> int:
    """Return the number of a citation of the fact ``message``."""
    books = Collection.objects.get(pk=world.fact("books"))
    document = Document.objects.create(collection=books, path="a.txt", size=1, state="ready")
    passage = Passage.objects.create(document=document, number=0, text="A", start=0, end=1)
    retrieval = Retrieval.objects.create(message_id=world.fact("message"), mode="words")
    Citation.objects.create(
        retrieval=retrieval, number=1, passage=passage, document=document, start=0, end=1
    )
    return 1


FACTS = {
    "books": _books,
    "citation": _citation,
    "conversation": _conversation,
    "cut": _cut,
    "generation": lambda world: Generation.objects.get(message=world.fact("message")).pk,
    "message": _message,
    "question": _question,
    "attachment": _attachment,
    "folder": lambda world: Folder.objects.create(owner=world.owner, name="Work").pk,
    "share": _share,
    "assistant": _assistant,
    "piece": lambda world: 0,
}
PIECE = {"id": "attachment", "number": "piece"}

ROWS: list[Row] = [
    signed_in(""),
    own("c/<uuid:id>/", args=CONVERSATION),
    data(signed_in("chat/conversations/")),
    data(signed_in("chat/conversations/count/")),
    data(own("chat/conversations/<uuid:id>/", args=CONVERSATION)),
    data(own("chat/conversations/<uuid:id>/", "PATCH", args=CONVERSATION, json={"title": "x"})),
    data(own("chat/conversations/<uuid:id>/", "DELETE", 204, args=CONVERSATION)),
    data(
        signed_in(
            "chat/attachments/",
            "POST",
            201,
            json={"name": "x.txt", "size": 1},
            feature="attachments",
        )
    ),
    data(own("chat/attachments/<uuid:id>/", args={"id": "attachment"})),
    data(
        Row(
            "chat/attachments/<uuid:id>/",
            "DELETE",
            {"id": "attachment"},
            owner=204,
            other=204,  # idempotent: it answers alike whether there was something to delete
        )
    ),
    data(own("chat/attachments/<uuid:id>/pieces/<int:number>/", "PUT", 204, args=PIECE, json=1)),
    data(own("chat/attachments/<uuid:id>/read/", "POST", 400, args=PIECE, json={})),
    data(own("chat/attachments/<uuid:id>/text/", args={"id": "attachment"})),
    data(
        own(
            "chat/messages/<uuid:message>/citations/<int:number>/",
            args={"message": "message", "number": "citation"},
        )
    ),
    data(
        own(
            "chat/conversations/<uuid:id>/",
            "PATCH",
            args=CONVERSATION,
            json={"collections": ["$books"]},
        )
    ),
    data(own("chat/organise/", "POST", json={"action": "archive", "ids": ["$conversation"]})),
    data(signed_in("chat/folders/", "POST", 201, json={"name": "New"})),
    data(own("chat/folders/<uuid:id>/", "PATCH", args={"id": "folder"}, json={"name": "x"})),
    data(own("chat/folders/<uuid:id>/", "DELETE", 204, args={"id": "folder"})),
    data(
        own(
            "chat/conversations/<uuid:id>/messages/",
            args=CONVERSATION,
            query="?until=$message",
        )
    ),
    signed_in("accounts/assistants/", feature="assistants"),
    own("accounts/assistants/<uuid:id>/", args={"id": "assistant"}, feature="assistants"),
    own("accounts/assistants/<uuid:id>/", "POST", args={"id": "assistant"}, form={"name": ""}),
    own("accounts/assistants/<uuid:id>/delete/", "POST", 302, args={"id": "assistant"}),
    own("accounts/assistants/<uuid:id>/restore/", "POST", 404, args={"id": "assistant"}),
    data(signed_in("chat/models/")),
    data(signed_in("chat/models/details/")),
    data(signed_in("chat/search/", query="?q=answer")),
    data(signed_in("chat/export/", feature="export")),
    data(own("chat/export/<uuid:id>/", args=CONVERSATION, feature="export")),
    data(signed_in("chat/import/", "POST", json=[], feature="import")),
    signed_in("share/"),
    # Any signed-in user who has the link may read a share.
    signed_in("share/<str:token>/", args={"token": "share"}),
    own("share/<str:token>/revoke/", "POST", 302, args={"token": "share"}),
    data(own("chat/conversations/<uuid:id>/share/", args=CONVERSATION)),
    data(own("chat/conversations/<uuid:id>/share/", "POST", args=CONVERSATION, feature="sharing")),
    data(own("chat/conversations/<uuid:id>/share/", "DELETE", 204, args=CONVERSATION)),
]
