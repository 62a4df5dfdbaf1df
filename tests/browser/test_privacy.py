"""Temporary chats, exports of own data, deletion reports, notices of administrators' reads."""

from __future__ import annotations

import contextlib
import uuid
import zipfile
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.actions import ask, box, done
from tests.browser.axe import violations
from tests.browser.conftest import sign_in
from tests.support.stack import PASSWORD, Stack, wait_until

MARKER = "quetzalcoatl"
# The scripted engine writes 300 words, one per 30 ms.
QUESTION = f"@tokens 300 @delay-ms 30 {MARKER}"
END_MS = 60_000


@pytest.fixture(scope="module")
def stack(scripted_stack: Stack) -> Stack:
    """Return a stack with an administrator, whose settings allow reads."""
    code = (
        "from chatsite.accounts.models import User\n"
        "from chatsite.site_settings.models import StoredSetting\n"
        f"User.objects.create_superuser('root', password={PASSWORD!r})\n"
        "StoredSetting.objects.create(name='admin_reads', value='with_reason')"
    )
    scripted_stack.manage("shell", "--verbosity", "0", "-c", code)
    return scripted_stack


def words(count: int) -> str:
    return " ".join(f"w{number}" for number in range(1, count + 1))


def stored(stack: Stack) -> list[str]:
    """Return the content of all messages, titles and terms in the database."""
    found = stack.query(
        "SELECT content FROM chat_message UNION SELECT title FROM chat_conversation "
        "UNION SELECT terms FROM search_entry"
    )
    return [str(row[0]) for row in found]


def test_a_temporary_chat_survives_a_reload_and_is_stored_nowhere(
    stack: Stack, page: Page, browser: Browser, person: str
) -> None:
    box(page).fill("Typed before")
    page.get_by_role("button", name="Temporary chat").click()
    expect(box(page)).to_have_value("Typed before")
    note = page.locator("#temporary-note")
    expect(note).to_contain_text("This chat is not saved. It stays in this tab only.")
    expect(note).to_contain_text("within 40 minutes")
    answer = ask(page, QUESTION)
    expect(answer).to_contain_text("w15 ", timeout=END_MS)
    page.reload()
    answer = page.get_by_role("article").last
    expect(page.get_by_role("button", name="Stop")).to_be_visible()
    expect(page.locator("#temporary-badge")).to_be_visible()
    expect(page.locator(".turn.user .bubble")).to_have_text(QUESTION)
    stack.kill("daphne")
    expect(answer.locator(".answer-body")).to_contain_text("w300", timeout=END_MS)
    assert answer.locator(".answer-body").inner_text().split() == words(300).split()
    done(page)
    # A second question gets the branch as context; alternatives and edits stay in the tab.
    ask(page, "@say Second")
    expect(page.get_by_role("article").last).to_contain_text("Second")
    done(page)
    page.get_by_role("button", name="Regenerate").last.click()
    expect(page.get_by_text("2/2")).to_be_visible()
    done(page)
    page.reload()
    expect(page.get_by_text("2/2")).to_be_visible()
    expect(page.get_by_role("article")).to_have_count(2)
    expect(
        page.get_by_role("navigation", name="Your conversations").get_by_role("link")
    ).to_have_count(0)
    assert [text for text in stored(stack) if MARKER in text or "w15" in text] == []
    kept = stack.query(
        "SELECT count(*), sum(completion_tokens > 0) FROM chat_generation WHERE via = 'temp'"
    )
    assert kept[0] == (3, 3), "usage is counted"
    # Another browser has nothing of it, nor has this tab after "New chat".
    other = browser.new_context(base_url=stack.url)
    second = other.new_page()
    sign_in(second, person)
    second.goto("/?temporary")
    expect(second.locator("#temporary-note")).to_be_visible()
    expect(second.get_by_role("article")).to_have_count(0)
    other.close()
    page.get_by_role("button", name="New chat").first.click()
    expect(page.locator("#temporary-note")).to_be_hidden()
    page.go_back()
    expect(page.get_by_role("article")).to_have_count(0)
    in_tab = page.evaluate("JSON.stringify([{...sessionStorage}, {...localStorage}])")
    assert MARKER not in in_tab


def read_as_administrator(page: Page, name: str, reason: str) -> None:
    page.goto(f"/admin/privacy/reads/?user={name}")
    page.get_by_role("link", name="Read…").first.click()
    page.get_by_label("Reason").fill(reason)
    page.get_by_role("button", name="Read and notify the owner").click()
    expect(page.get_by_text("read-only: 2 messages")).to_be_visible()


def test_own_data_is_exported_read_and_deleted_to_the_last_byte(
    stack: Stack, page: Page, browser: Browser, person: str
) -> None:
    page.goto("/")
    ask(page, f"@say An answer about {MARKER}")
    done(page)
    conversation = page.url
    staff = browser.new_context(base_url=stack.url, locale="en-US").new_page()
    sign_in(staff, "root")
    read_as_administrator(staff, person, "Complaint 42")
    expect(staff.get_by_text(f"An answer about {MARKER}").last).to_be_visible()

    page.goto("/")
    notice = page.locator("#read-notices .notice")
    expect(notice).to_contain_text("Reason: Complaint 42")
    assert violations(page) == []
    notice.get_by_role("button", name="OK").click()
    expect(notice).to_have_count(0)
    page.reload()
    expect(notice).to_have_count(0)

    page.goto("/accounts/data/")
    expect(page.get_by_text("Reason: Complaint 42")).to_be_visible()
    page.get_by_role("button", name="Prepare export").click()
    link = page.get_by_role("link", name="Download export")
    expect(link).to_be_visible(timeout=END_MS)
    with page.expect_download() as download:
        link.click()
    with zipfile.ZipFile(download.value.path()) as archive:
        assert MARKER in archive.read("conversations.json").decode()
        assert "Complaint 42" in archive.read("administrators-reads.json").decode()

    assert MARKER in everything_in(stack.data_dir)
    page.get_by_text("Delete all chats").first.click()
    page.get_by_label("Your username").first.fill(person)
    page.get_by_role("button", name="Delete all chats").click()
    expect(page.get_by_text("Search index entries")).to_be_visible(timeout=END_MS)
    page.goto(conversation)
    expect(page.get_by_text("does not exist, or it is not yours")).to_be_visible()
    (stack.data_dir / "exports" / f"{export_of(stack)}.zip").unlink()

    def erased() -> bool:
        # The write-ahead log is emptied once no other process reads from it.
        stack.manage("retention", "run")
        return MARKER not in everything_in(stack.data_dir)

    wait_until(erased, "no byte of the text is left", 60)


def export_of(stack: Stack) -> uuid.UUID:
    return uuid.UUID(str(stack.query("SELECT id FROM retention_export")[0][0]))


def everything_in(folder: Path) -> str:
    """Return the bytes of all files of the site but models: database, Redis, exports, audit."""
    parts = []
    for path in folder.rglob("*"):
        if path.is_file() and "models" not in path.parts:
            with contextlib.suppress(FileNotFoundError):
                parts.append(path.read_bytes().decode("latin1"))
    return "\n".join(parts)


PAGES = (
    "/?temporary",
    "/accounts/data/",
    "/admin/privacy/retention/",
    "/admin/privacy/holds/",
    "/admin/privacy/deletions/",
    "/admin/privacy/reads/?user=ann",
)


def test_axe_finds_nothing_on_the_pages_of_privacy(stack: Stack, browser: Browser) -> None:
    for theme, language in (("light", "en-US"), ("dark", "zh-CN")):
        scheme: Any = theme
        context = browser.new_context(
            base_url=stack.url, color_scheme=scheme, reduced_motion="reduce", locale=language
        )
        page = context.new_page()
        page.goto("/accounts/login/")
        page.locator("input[name=login]").fill("root")
        page.locator("input[name=password]").fill(PASSWORD)
        page.keyboard.press("Enter")
        page.wait_for_url(f"{stack.url}/")
        page.wait_for_load_state()
        for address in PAGES:
            page.goto(address)
            assert violations(page) == [], (address, theme)
        context.close()
