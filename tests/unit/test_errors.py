"""Every kind of `ChatsiteError`: its texts and flags are consistent."""

from __future__ import annotations

import importlib
import pkgutil
import re

import pytest

import chatsite
import models_admin
from chatsite import errors
from chatsite.errors import (
    ChatsiteError,
    ConversationNotFound,
    FolderNotFound,
    MessageNotFound,
    NotFound,
    kinds,
)
from chatsite.inference.remote import refusals
from models_admin.jobs.incoming import ImportFileMissing, UploadMissing

# Words that suggest repeating the same request, now or later.
RETRY = re.compile(
    r"\b(try again|send it again|ask again|wait for|later|in a (moment|minute))\b", re.IGNORECASE
)


def every_kind() -> list[type[ChatsiteError]]:
    for package in (chatsite, models_admin):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if ".migrations" not in module.name and not module.name.endswith("__main__"):
                importlib.import_module(module.name)
    return list(dict.fromkeys(kinds()))


def texts(kind: type[ChatsiteError]) -> list[str]:
    return [str(text) for text in (kind.message, kind.detailed) if text]


def test_b4_a_text_says_try_again_exactly_where_trying_again_can_help() -> None:
    kinds = every_kind()
    assert len(kinds) > 50
    wrong = {}
    for kind in kinds:
        hinted = any(RETRY.search(text) for text in texts(kind))
        if hinted == kind.permanent:
            wrong[kind.__name__] = (kind.permanent, texts(kind))
    assert wrong == {}, list(wrong.items())


@pytest.mark.parametrize(
    ("kind", "word"),
    [
        (ConversationNotFound, "conversation"),
        (MessageNotFound, "message"),
        (FolderNotFound, "folder"),
        (ImportFileMissing, "file"),
        (UploadMissing, "upload"),
    ],
)
def test_b3_missing_objects_are_named_and_keep_their_code(kind: type[NotFound], word: str) -> None:
    assert word in str(kind())
    assert (kind.code, kind.status) == ("not_found", 404)
    assert "conversation" not in str(NotFound())


def test_the_reason_of_an_engine_is_translated_for_its_reader(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stored = errors.RequestRefused(reason=refusals.NO_EMBEDDINGS).as_dict()
    monkeypatch.setattr("django.utils.translation.gettext", str.upper)
    shown = errors.localise(stored)
    assert shown is not None
    assert refusals.NO_EMBEDDINGS.upper() in shown["message"]
    assert shown["reason"] == refusals.NO_EMBEDDINGS
