"""Collections of documents filled by a program: single files, and in step with a folder."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.clients.conftest import new_key
from tests.support.stack import Stack, wait_until


@pytest.fixture(scope="module")
def http(api_stack: Stack, key: str) -> Iterator[httpx.Client]:
    with httpx.Client(
        base_url=f"{api_stack.url}/v1",
        headers={"Authorization": f"Bearer {key}"},
        timeout=60,
    ) as client:
        yield client


def create(http: httpx.Client, name: str) -> str:
    made = http.post("/collections", json={"name": name})
    assert made.status_code == 200, made.text
    return str(made.json()["id"])


def ready(http: httpx.Client, collection: str) -> list[dict[str, Any]]:
    def listed() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = http.get(f"/collections/{collection}/documents").json()[
            "data"
        ]
        return found

    wait_until(lambda: {one["state"] for one in listed()} <= {"ready", "failed"}, "all are read")
    return listed()


def manifest(folder: Path) -> list[dict[str, str]]:
    return [
        {
            "path": str(file.relative_to(folder)),
            "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
        }
        for file in sorted(folder.rglob("*.*"))
    ]


def test_a_file_is_stored_found_renamed_and_deleted(http: httpx.Client) -> None:
    id = create(http, "Manuals")
    assert http.post("/collections", json={"name": "manuals"}).status_code == 409
    # Larger than a piece of an upload.
    text = "The feed pump runs at 40 bar.\n\n" + "Filling words of a long manual. " * 50_000
    put = http.put(f"/collections/{id}/documents/plant/pumps.md", content=text.encode())
    assert (put.status_code, put.json()["path"]) == (200, "plant/pumps.md")
    [document] = ready(http, id)
    assert (document["state"], document["size"]) == ("ready", len(text))
    one = http.get(f"/collections/{id}/documents/plant/pumps.md").json()
    assert one["id"] == document["id"]
    found = http.post("/collections/search", json={"query": "feed pump", "collections": [id]})
    assert "40 bar" in found.json()["passages"][0]["text"]
    changed = http.patch(f"/collections/{id}", json={"name": "Plant"}).json()
    assert (changed["name"], changed["documents"]) == ("Plant", 1)
    gone = http.delete(f"/collections/{id}/documents/plant/pumps.md")
    assert gone.json() == {"id": document["id"], "deleted": True}
    assert http.delete(f"/collections/{id}").json() == {"id": id, "deleted": True}
    assert http.get(f"/collections/{id}").status_code == 404


def test_a_collection_is_kept_in_step_with_a_folder(http: httpx.Client, tmp_path: Path) -> None:
    id = create(http, "Rules")

    def step() -> tuple[dict[str, Any], int]:
        plan = http.post(f"/collections/{id}/sync", json={"manifest": manifest(tmp_path)}).json()
        for path in (*plan["added"], *plan["modified"]):
            data = (tmp_path / path).read_bytes()
            assert http.put(f"/collections/{id}/documents/{path}", content=data).status_code == 200
        done = http.post(f"/collections/sync/{plan['id']}/finish")
        assert done.status_code == 200, done.text
        return plan, done.json()["deleted"]

    (tmp_path / "hr").mkdir()
    (tmp_path / "hr" / "vacation.md").write_text("Everyone has 30 days of vacation.")
    (tmp_path / "trains.md").write_text("Tickets of first class need approval.")
    plan, deleted = step()
    assert (plan["added"], deleted) == (["hr/vacation.md", "trains.md"], 0)
    assert [one["path"] for one in ready(http, id)] == ["hr/vacation.md", "trains.md"]
    (tmp_path / "trains.md").unlink()
    (tmp_path / "hr" / "vacation.md").write_text("Everyone has 25 days of vacation.")
    plan, deleted = step()
    assert (plan["modified"], plan["deleted"], deleted) == (["hr/vacation.md"], ["trains.md"], 1)
    assert [one["path"] for one in ready(http, id)] == ["hr/vacation.md"]
    plan, deleted = step()
    assert (plan["unchanged"], plan["added"], plan["modified"], deleted) == (1, [], [], 0)


def test_a_synchronization_that_lacks_files_deletes_nothing(http: httpx.Client) -> None:
    id = create(http, "Half")
    http.put(f"/collections/{id}/documents/a.md", content=b"Text.")
    ready(http, id)
    wanted = [{"path": "b.md", "sha256": "0" * 64}]
    plan = http.post(f"/collections/{id}/sync", json={"manifest": wanted}).json()
    refused = http.post(f"/collections/sync/{plan['id']}/finish")
    assert refused.status_code in {400, 409}
    assert [one["path"] for one in ready(http, id)] == ["a.md"]


@pytest.mark.parametrize(
    ("path", "content"), [("a.md", b""), ("%2e%2e/a.md", b"x"), (f"{'x' * 600}.md", b"x")]
)
def test_what_can_not_be_stored_is_refused(http: httpx.Client, path: str, content: bytes) -> None:
    id = create(http, f"Refused {path[:20]}")
    answer = http.put(f"/collections/{id}/documents/{path}", content=content)
    assert 400 <= answer.status_code < 500
    assert answer.json()["error"]["message"]
    assert http.get(f"/collections/{id}/documents").json()["data"] == []


def test_a_key_without_the_scope_only_reads(api_stack: Stack, http: httpx.Client) -> None:
    id = create(http, "Read only")
    key = new_key(api_stack, "--name", "reader", "--scopes", "chat")
    reader = httpx.Client(base_url=http.base_url, headers={"Authorization": f"Bearer {key}"})
    with reader:
        assert reader.get(f"/collections/{id}").status_code == 200
        for method, address in (
            ("POST", "/collections"),
            ("DELETE", f"/collections/{id}"),
            ("PUT", f"/collections/{id}/documents/a.md"),
        ):
            refused = reader.request(method, address, json={"name": "x"})
            assert (refused.status_code, refused.json()["error"]["code"]) == (
                403,
                "insufficient_scope",
            )
