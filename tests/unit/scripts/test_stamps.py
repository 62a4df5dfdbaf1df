from __future__ import annotations

from pathlib import Path

import pytest

from scripts.setup.stamps import Stamps, digest


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "src"
    (root / "sub").mkdir(parents=True)
    (root / "one").write_text("1")
    (root / "sub" / "two").write_text("2")
    return root


def test_a_digest_follows_names_contents_and_order(tree: Path) -> None:
    first = digest([tree, "text"])
    assert digest([tree, "text"]) == first
    assert digest(["text", tree]) != first
    (tree / "sub" / "two").write_text("3")
    changed = digest([tree, "text"])
    assert changed != first
    (tree / "one").rename(tree / "uno")
    assert digest([tree, "text"]) not in {first, changed}


def test_files_left_by_tools_do_not_count(tree: Path) -> None:
    first = digest([tree])
    for folder in ("__pycache__", "node_modules"):
        (tree / folder).mkdir()
        (tree / folder / "file").write_text("x")
    assert digest([tree]) == first


def test_where_the_clone_is_does_not_count(tree: Path, tmp_path: Path) -> None:
    first = digest([tree])
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    tree.rename(moved / "src")
    assert digest([moved / "src"]) == first


def test_stamps_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "build" / "stamps.json"
    Stamps(path).set("page", "a")
    Stamps(path).set("static", "b")
    assert Stamps(path).holds("page", "a")
    assert not Stamps(path).holds("page", "b")
    assert Stamps(path).get("static") == "b"


@pytest.mark.parametrize("text", ["", "[]", "{"])
def test_a_broken_file_counts_as_missing(tmp_path: Path, text: str) -> None:
    (tmp_path / "stamps.json").write_text(text)
    stamps = Stamps(tmp_path / "stamps.json")
    assert not stamps.holds("page", "a")
    stamps.set("page", "a")
    assert stamps.holds("page", "a")
