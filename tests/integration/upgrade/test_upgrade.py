"""A data directory and a database of release 3d4959b are complete and usable after the upgrade."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
from html import unescape
from typing import Any

import httpx
import pytest

from chatsite.bench.chat_client import ChatClient
from chatsite.engine.tuning import store
from tests.integration.upgrade.conftest import SLOW, Upgraded
from tests.support.chatting import ended
from tests.support.stack import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

LINK = re.compile(r'href="(/admin/[^"#?]*)')
KEY = "conversations"
ANSWERS_OF_BRANCHES = {"Rabbits are **mammals**. 兔子。", "Hares too.", "Moles dig."}
JOBS = {
    ("download", "nowhere:1b", "failed"),
    ("quantize", "small:1b", "failed"),
    ("download", "cancelled:1b", "cancelled"),
    ("download", "paused:1b", "paused"),
    ("download", "tiny:1b", "done"),
    ("export", "tiny:1b", "done"),
}


@pytest.fixture(scope="module")
def alice(upgraded: Upgraded):
    with upgraded.page("alice") as page:
        yield page


@pytest.fixture(scope="module")
def root(upgraded: Upgraded):
    with upgraded.page("root") as page:
        yield page


def read(page: httpx.Client, address: str, **params: str) -> Any:
    response = page.get(address, params=params)
    assert response.status_code == 200, (address, response.status_code, response.text[:500])
    return response.json() if "json" in response.headers["Content-Type"] else response.text


def send(page: httpx.Client, method: str, address: str, **body: Any) -> httpx.Response:
    """Send a changing request, with the CSRF token and origin that a page sends."""
    token = re.search(r"chatsite_csrf_\d+=([^;]+)", page.headers["Cookie"])
    assert token
    headers = {"X-CSRFToken": token[1], "Referer": f"{page.base_url}/", "Origin": origin(page)}
    return page.request(method, address, headers=headers, **body)


def origin(page: httpx.Client) -> str:
    return str(page.base_url).rstrip("/")


def messages(page: httpx.Client, upgraded: Upgraded, name: str) -> list[dict[str, Any]]:
    id = upgraded.release.facts["conversations"][name]
    found: list[dict[str, Any]] = read(page, f"/chat/conversations/{id}/")["messages"]
    return found


def answer(page: httpx.Client, upgraded: Upgraded, name: str) -> dict[str, Any]:
    """Return the last message of a conversation, which is an answer."""
    last = messages(page, upgraded, name)[-1]
    assert last["role"] == "assistant"
    return last


def jobs(upgraded: Upgraded) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(
        upgraded.stack.manage("models", "jobs", "--json").stdout
    )
    return found


def state_of(upgraded: Upgraded, target: str) -> str:
    return next(str(job["state"]) for job in jobs(upgraded) if job["target"] == target)


# The database.


def test_it_is_migrated_once_and_nothing_is_left_to_do(upgraded: Upgraded) -> None:
    first, second = upgraded.migrations
    assert first.returncode == 0, first.stderr
    assert "Applying models_admin.0006" in first.stdout
    assert "No migrations to apply" in second.stdout
    check = upgraded.stack.manage("makemigrations", "--check", "--dry-run", check=False)
    assert check.returncode == 0, check.stdout


# Users.


def test_users_sign_in_with_their_passwords(upgraded: Upgraded) -> None:
    for name, shown in (("alice", "Alice Liddell"), ("陈伟", "陈伟"), ("BOB", "bob")):
        with upgraded.page(name) as page:
            assert shown in unescape(read(page, "/"))
    with upgraded.page("carol") as page:  # deactivated
        assert page.get("/").headers["Location"].startswith("/accounts/login/")


def test_a_session_is_still_open(upgraded: Upgraded) -> None:
    cookie = f"chatsite_session_{upgraded.stack.port}={upgraded.release.facts['session']}"
    with httpx.Client(base_url=upgraded.stack.url, headers={"Cookie": cookie}) as page:
        assert "Alice Liddell" in read(page, "/")


@pytest.mark.parametrize(
    ("key", "models", "chat"),
    [
        ("all", 200, 200),
        ("admin", 200, 200),
        ("models only", 200, 403),
        ("revoked", 401, 401),
        ("expired", 401, 401),
        ("inactive", 401, 401),
    ],
)
def test_keys_keep_their_scopes(upgraded: Upgraded, key: str, models: int, chat: int) -> None:
    asked = {"model": "tiny:1b", "messages": [{"role": "user", "content": "Hello again"}]}
    with upgraded.api(key) as api:
        assert api.get("/v1/models").status_code == models
        response = api.post("/v1/chat/completions", json=asked)
    assert response.status_code == chat, response.text
    if chat == 200:
        assert response.json()["choices"][0]["message"]["content"] == "Hello again"


def test_a_key_of_an_administrator_needs_the_new_scope_to_change_models(
    upgraded: Upgraded,
) -> None:
    with upgraded.api("admin") as api:
        response = api.post("/api/pull", json={"model": "slow:1b"})
    assert response.status_code == 403
    assert "manage" in response.text


# Conversations.


def test_the_list_has_all_with_folder_pin_and_archive(
    upgraded: Upgraded, alice: httpx.Client
) -> None:
    conversations = upgraded.release.facts["conversations"]
    data = read(alice, "/chat/conversations/")
    folders = {folder["name"]: folder["id"] for folder in data["folders"]}
    assert set(folders) == {"Work", "Empty folder"}

    def view(name: str) -> list[str]:
        return [item["id"] for item in read(alice, "/chat/conversations/", view=name)[KEY]]

    assert view(folders["Work"]) == [conversations["branches"]]
    assert view("archive") == [conversations["stopped"]]
    assert [item["id"] for item in data["pinned"]] == [conversations["reasoning"]]
    titles = {item["id"]: item["title"] for item in data[KEY]}
    assert titles[conversations["attachment"]] == "Renamed: 笔记"
    assert "Imported from ChatGPT" in titles.values()
    others = {"cut", "refused", "crashed", "interrupted", "assistant", "running"}
    assert {conversations[name] for name in others} <= set(titles)


def test_every_branch_is_there(upgraded: Upgraded, alice: httpx.Client) -> None:
    facts = upgraded.release.facts
    id = facts["conversations"]["branches"]
    shown = [message["content"] for message in messages(alice, upgraded, "branches")]
    assert shown[1::2] == ["Rabbits are **mammals**. 兔子。", "Moles dig."]
    export = read(alice, f"/chat/export/{id}/", form="json")
    exported = {message["id"]: message for message in export["messages"]}
    stored = {message["id"]: message for message in facts["export"]["messages"]}
    assert exported.keys() == stored.keys()
    for key, message in stored.items():
        assert message.items() <= exported[key].items()
    answers = {m["content"] for m in exported.values() if m["role"] == "assistant"}
    assert answers == ANSWERS_OF_BRANCHES
    assert export["folder"] == "Work"


@pytest.mark.parametrize(
    ("name", "state", "reason", "code"),
    [
        ("reasoning", "done", "stop", ""),
        ("stopped", "cancelled", "cancelled", ""),
        ("cut", "done", "length", ""),
        ("refused", "failed", "", "context_length_exceeded"),
        ("crashed", "failed", "", "model_"),
        ("interrupted", "interrupted", "", "interrupted"),
    ],
)
def test_answers_keep_how_they_ended(
    upgraded: Upgraded, alice: httpx.Client, name: str, state: str, reason: str, code: str
) -> None:
    generation = answer(alice, upgraded, name)["generation"]
    assert (generation["state"], generation["finish_reason"]) == (state, reason)
    error = generation["error"]
    assert (error is None) == (code == "")
    if error is not None:
        assert error["code"].startswith(code)
        assert error["message"]


def test_reasoning_is_kept_apart_from_the_answer(upgraded: Upgraded, alice: httpx.Client) -> None:
    message = answer(alice, upgraded, "reasoning")
    assert message["content"] == "<think>Two and two\nare four.</think>The answer is 4."
    assert message["generation"]["syntax"]["think_close"] == "</think>"
    id = upgraded.release.facts["conversations"]["reasoning"]
    assert "The answer is 4." in read(alice, f"/chat/export/{id}/", form="markdown")


def test_a_deleted_conversation_stays_deleted(upgraded: Upgraded, alice: httpx.Client) -> None:
    id = upgraded.release.facts["conversations"]["deleted"]
    assert alice.get(f"/chat/conversations/{id}/").status_code == 404


def test_documents_are_there_and_an_upload_resumes(upgraded: Upgraded, alice: httpx.Client) -> None:
    facts = upgraded.release.facts
    [question, _answer] = messages(alice, upgraded, "attachment")
    [attachment] = question["attachments"]
    assert (attachment["id"], attachment["name"]) == (facts["attachment"], "notes.txt")
    assert "line two: 你好" in read(alice, f"/chat/attachments/{attachment['id']}/")
    begun, rest = facts["begun_attachment"], b"x" * 90
    put = send(alice, "PUT", f"/chat/attachments/{begun}/pieces/1/", content=rest)
    assert put.status_code == 204, put.text
    done = send(alice, "POST", f"/chat/attachments/{begun}/read/", json={"model": "tiny:1b"})
    assert done.json()["attachment"]["characters"] == 100


def test_all_is_found_and_exported(upgraded: Upgraded, alice: httpx.Client) -> None:
    for words in ("mammals", "兔子", "Renamed"):
        assert read(alice, "/chat/search/", q=words)["results"], words
    assert alice.get("/chat/export/").content.startswith(b"PK")


def test_a_shared_copy_is_readable_by_other_users(upgraded: Upgraded, alice: httpx.Client) -> None:
    with upgraded.page("bob") as bob:
        text = unescape(read(bob, upgraded.release.facts["share"]))
    assert "The answer is 4." in text
    assert "Alice Liddell" in text
    assert upgraded.release.facts["share"] in read(alice, "/share/")


def test_an_import_is_recognised(upgraded: Upgraded, alice: httpx.Client) -> None:
    facts = upgraded.release.facts
    assert not send(alice, "POST", "/chat/import/", json=[facts["import"]]).json()["taken"]
    with upgraded.page("bob") as bob:
        assert not send(bob, "POST", "/chat/import/", json=[facts["export"]]).json()["taken"]


def test_assistants_are_offered_and_used(upgraded: Upgraded, alice: httpx.Client) -> None:
    page = read(alice, "/accounts/assistants/")
    assert "Pirate" in page
    form = read(alice, f"/accounts/assistants/{upgraded.release.facts['assistant']}/")
    assert "Talk like a pirate." in form
    assert "Where is the treasure?" in form
    offered = {one["name"] for one in read(alice, "/chat/models/")["assistants"]}
    assert offered == {"Pirate", "Everyone's helper", "Editors' helper"}
    with upgraded.page("bob") as bob:
        offered = {one["name"] for one in read(bob, "/chat/models/")["assistants"]}
    assert offered == {"Everyone's helper"}
    used = answer(alice, upgraded, "assistant")["generation"]["assistant"]
    assert (used["name"], used["icon"]) == ("Pirate", "🏴")


async def test_conversations_can_be_continued(upgraded: Upgraded, alice: httpx.Client) -> None:
    """A follow-up to an old answer, and the continuation of one cut at ten tokens."""
    facts = upgraded.release.facts
    before, cut = answer(alice, upgraded, "branches"), answer(alice, upgraded, "cut")
    async with ChatClient(upgraded.stack.url, alice.headers["Cookie"]) as client:
        command = {
            "type": "send",
            "content": "And voles? @say Voles run.",
            "model": "tiny:1b",
            "conversation": facts["conversations"]["branches"],
            "parent": before["id"],
        }
        asked = await client.command(command)
        assert (await ended(asked, 60)).state == "done"
        assert asked.text == "Voles run."
        rest = await client.command({"type": "continue", "message": cut["id"]})
        assert (await ended(rest, 60)).state == "done"
    assert rest.text.startswith(cut["content"])
    assert rest.text.endswith("w20")


# Models.


def test_models_keep_their_settings(upgraded: Upgraded) -> None:
    stack = upgraded.stack
    rows = {row["name"]: row for row in json.loads(stack.manage("models", "list", "--json").stdout)}
    stored = {"tiny:1b", "custom:latest", "copy:1b", "crashy:1b", "bad:1b", "hidden:1b"}
    assert stored <= rows.keys()
    assert all(rows[name]["present"] for name in stored)
    assert not rows["hidden:1b"]["enabled"]
    assert {name for name in stored if rows[name]["quarantined"]} == {"crashy:1b", "bad:1b"}
    assert rows["bad:1b"]["quarantined"] == "It ended its process 3 times: killed by SIGSEGV"
    modelfile = stack.manage("models", "show", "custom", "--modelfile").stdout
    for line in ("PARAMETER temperature 0.1", "PARAMETER num_ctx 512", "You are custom."):
        assert line in modelfile
    assert stack.manage("models", "show", "tiny:1b", "--system").stdout.strip() == (
        "Be brief and kind."
    )


def test_a_model_goes_back_to_its_version_before_the_upgrade(upgraded: Upgraded) -> None:
    manage = upgraded.stack.manage
    manage("models", "back", "tiny:1b")
    assert manage("models", "show", "tiny:1b", "--system").stdout.strip() == "Be brief."
    assert "temperature" in manage("models", "show", "tiny:1b", "--parameters").stdout
    manage("models", "back", "tiny:1b")


def test_a_bundle_is_imported(upgraded: Upgraded, root: httpx.Client) -> None:
    folder = upgraded.release.data_dir
    [bundle] = (folder / "export").glob("*.tar")
    (folder / "import").mkdir(exist_ok=True)
    shutil.copy(bundle, folder / "import")
    asked = send(root, "POST", "/admin/exchange/import/", data={"file": bundle.name})
    assert asked.headers["Location"] == "/admin/jobs/"

    def state() -> str:
        return next(str(job["state"]) for job in jobs(upgraded) if job["kind"] == "import")

    wait_until(lambda: state() not in {"queued", "running"}, "the import has ended", 60)
    assert state() == "done"


def test_saved_tunings_are_read(upgraded: Upgraded) -> None:
    folder = upgraded.release.data_dir
    [key] = json.loads((folder / "tuning.json").read_text())
    digest = key.partition(":")[0]
    assert (folder / "models" / f"sha256-{digest}").exists()
    [entry] = store.history(folder / "tuning.json", digest)
    assert entry.tuning is not None
    assert entry.tuning.threads == 4
    assert [tried.problem for tried in entry.tried] == ["", "killed by SIGSEGV"]


def test_every_page_of_the_administration_opens(upgraded: Upgraded, root: httpx.Client) -> None:
    """All that links reach: models, versions, jobs with their logs, users, keys."""
    seen, ahead = set(), ["/admin/"]
    while ahead:
        address = ahead.pop()
        if address in seen or address.endswith("/logout/"):
            continue
        seen.add(address)
        response = root.get(address, follow_redirects=True)
        assert response.status_code == 200, (address, response.text[:1000])
        if "html" in response.headers["Content-Type"]:
            ahead += [unescape(link) for link in LINK.findall(response.text)]
    kinds = {address.split("/")[3] for address in seen if address.endswith("/change/")}
    assert {"modelname", "modelversion", "user", "group", "assistant", "apikey"} <= kinds
    page = root.get("/admin/jobs/").text
    assert all(target in page for _kind, target, _state in JOBS)


# Unfinished work of the earlier release.


def test_jobs_keep_their_states(upgraded: Upgraded) -> None:
    assert {(job["kind"], job["target"], job["state"]) for job in jobs(upgraded)} >= JOBS


def test_a_download_resumes_after_the_bytes_that_had_arrived(upgraded: Upgraded) -> None:
    wait_until(lambda: state_of(upgraded, "slow:1b") == "done", "slow:1b is installed", 90)
    asked = 0
    for wanted in upgraded.hub.parts_asked():
        first, last = re.findall(r"\d+", str(wanted))
        asked += int(last) - int(first) + 1
    assert asked <= len(SLOW) - (4 << 20)


def test_a_queued_and_a_paused_job_are_done(upgraded: Upgraded) -> None:
    wait_until(lambda: state_of(upgraded, "next:1b") == "done", "next:1b is installed", 90)
    [paused] = [job["id"] for job in jobs(upgraded) if job["target"] == "paused:1b"]
    upgraded.stack.manage("models", "resume", paused)
    wait_until(lambda: state_of(upgraded, "paused:1b") == "done", "paused:1b is installed", 90)


async def test_running_answers_are_completed(upgraded: Upgraded, alice: httpx.Client) -> None:
    """A running answer continues after its text; a queued one gets its turn."""

    async def completed(page: httpx.Client, name: str) -> dict[str, Any]:
        while answer(page, upgraded, name)["generation"]["state"] in {"queued", "running"}:
            await asyncio.sleep(0.5)
        return answer(page, upgraded, name)

    async with asyncio.timeout(90):
        running = await completed(alice, "running")
        with upgraded.page("bob") as bob:
            queued = await completed(bob, "queued")
    assert running["generation"]["state"] == queued["generation"]["state"] == "done"
    assert running["content"] == " ".join(f"w{number}" for number in range(1, 61))
    assert queued["content"] == "Answered after the upgrade."
