"""kill -9 in the middle of a synchronization and of indexing: it ends complete, nothing twice."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.stack import ROOT, Stack, wait_until

DOCUMENTS = 60
PASSAGES = 3
# A worker that died holds its documents for 90 s; then each is read again.
INDEXED_SECONDS = 400

FOUND = """
import json
from chatsite.accounts.models import User
from chatsite.knowledge import collections
from chatsite.knowledge.index import words
from chatsite.knowledge.index.words import Ids
from chatsite.knowledge.models import Passage
rules = collections.by_name(User.objects.get(username="ann"), "Rules")
found = {}
for marker in json.loads(input()):
    hits = [hit.passage for hit in words.find(marker, Ids(collections=(rules.pk,)), 50)]
    rows = Passage.objects.filter(pk__in=hits)
    found[marker] = list(rows.values_list("document__path", flat=True))
print(json.dumps(found))
"""
WITH_VECTORS = """
    SELECT count(*) FROM knowledge_document AS document
    JOIN knowledge_passagevectors AS vectors ON vectors.document_id = document.id
    JOIN knowledge_vectorcodes AS codes ON codes.vectors_id = vectors.id
    WHERE document.state = 'ready' AND vectors.rows =
        (SELECT count(*) FROM knowledge_passage WHERE document_id = document.id)
"""


@pytest.fixture(scope="module")
def shelf(stack: Stack, embedding_model: Path) -> Stack:
    stack.manage("models", "import", str(embedding_model), "--name", "all-minilm:22m")
    stack.create_user("ann")
    stack.manage("knowledge", "create", "Rules", "--user", "ann")
    return stack


def write(folder: Path, number: int, edition: str) -> None:
    """Write a document whose first passage has a word that no other has."""
    parts = [f"# Rule {number}\n\n{marker(number, edition)} applies to travel by train."]
    parts += [f"## Part {part}\n\n" + "Each journey needs an approval. " * 30 for part in (2, 3)]
    (folder / f"rule{number}.md").write_text("\n\n".join(parts))


def marker(number: int, edition: str) -> str:
    letters = "".join(chr(ord("a") + int(digit)) for digit in f"{number:03}")
    return f"zq{edition}{letters}"


def number_of(stack: Stack, sql: str) -> int:
    return int(str(stack.query(sql)[0][0]))


def documents(stack: Stack) -> int:
    return number_of(stack, "SELECT count(*) FROM knowledge_document")


def sync(stack: Stack, folder: Path) -> dict[str, list[str]]:
    made = stack.manage("knowledge", "sync", "Rules", str(folder), "--json")
    found: dict[str, list[str]] = json.loads(made.stdout)
    return found


def complete(stack: Stack, expected: dict[str, str]) -> None:
    """Wait until all is indexed; check that each document is there once, with one vector each."""
    count = len(expected)
    wait_until(
        lambda: number_of(stack, WITH_VECTORS) == count == documents(stack),
        "all documents have vectors",
        INDEXED_SECONDS,
    )
    assert number_of(stack, "SELECT count(*) FROM knowledge_passagevectors") == count
    assert number_of(stack, "SELECT count(*) FROM knowledge_documenttext") == count
    twice = "SELECT count(*) FROM (SELECT 1 FROM knowledge_passage GROUP BY document_id, start)"
    passages = number_of(stack, "SELECT count(*) FROM knowledge_passage")
    assert number_of(stack, twice) == passages
    assert number_of(stack, "SELECT count(*) FROM knowledge_passageterms") == passages
    ran = stack.manage(
        "shell", "--verbosity", "0", "-c", FOUND, stdin=json.dumps([*expected.values()])
    )
    assert json.loads(ran.stdout) == {word: [path] for path, word in expected.items()}


def test_indexing_survives_kill_9_of_every_process(shelf: Stack, tmp_path: Path) -> None:
    for number in range(DOCUMENTS):
        write(tmp_path, number, "a")
    command = ["knowledge", "sync", "Rules", str(tmp_path)]
    begun = subprocess.Popen(
        [sys.executable, "manage.py", *command], cwd=ROOT, env=shelf.env, stdout=subprocess.DEVNULL
    )
    wait_until(lambda: documents(shelf) >= DOCUMENTS // 4, "some documents are stored")
    begun.kill()
    begun.wait()
    stored = documents(shelf)
    assert stored < DOCUMENTS
    again = sync(shelf, tmp_path)
    assert len(again["added"]) + len(again["modified"]) >= DOCUMENTS - stored
    assert again["deleted"] == []
    assert documents(shelf) == DOCUMENTS
    wait_until(lambda: number_of(shelf, WITH_VECTORS) > 0, "some documents have vectors", 200)
    for role in ("celery", "inference", "daphne", "engine"):
        if shelf.find(role):
            shelf.kill(role)
    complete(shelf, {f"rule{n}.md": marker(n, "a") for n in range(DOCUMENTS)})


def test_a_second_synchronization_survives_kill_9(shelf: Stack, tmp_path: Path) -> None:
    """Files that changed, went and came, while the queue and the host are killed."""
    for number in range(DOCUMENTS):
        write(tmp_path, number, "a")
    sync(shelf, tmp_path)
    complete(shelf, {f"rule{n}.md": marker(n, "a") for n in range(DOCUMENTS)})
    for number in range(10):
        write(tmp_path, number, "b")
        (tmp_path / f"rule{10 + number}.md").unlink()
        write(tmp_path, DOCUMENTS + number, "b")
    changed = sync(shelf, tmp_path)
    figures = (len(changed["added"]), len(changed["modified"]), len(changed["deleted"]))
    assert figures == (10, 10, 10)
    shelf.kill("redis")
    shelf.kill("inference")
    expected = {f"rule{n}.md": marker(n, "a") for n in range(20, DOCUMENTS)}
    expected |= {f"rule{n}.md": marker(n, "b") for n in (*range(10), *range(60, 70))}
    complete(shelf, expected)
