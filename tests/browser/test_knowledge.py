"""Collections: create, upload, attach with #, ask, share and revoke, in both languages."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.actions import ask, box, done
from tests.browser.axe import violations_in_both_themes as violations
from tests.support.documents import pdf
from tests.support.stack import PASSWORD, Stack

FACT = "The feed pump of the plant runs at 40 bar."


@pytest.fixture(scope="module")
def stack(scripted_stack: Stack) -> Stack:
    return scripted_stack


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with a PDF in a folder, a text, a broken PDF and a file of a system."""
    plant = tmp_path / "plant"
    (plant / "pumps").mkdir(parents=True)
    (plant / "pumps" / "manual.pdf").write_bytes(pdf(FACT, "It is checked each morning."))
    (plant / "notes.md").write_text("# Notes\n\nThe valve opens to the left.\n")
    (plant / "broken.pdf").write_bytes(b"%PDF-1.7 no objects")
    (plant / ".DS_Store").write_bytes(b"\0")
    return plant


def test_a_folder_is_uploaded_read_and_searched(page: Page, folder: Path) -> None:
    page.get_by_role("link", name="Knowledge").click()
    expect(page.get_by_role("heading", name="No collections yet")).to_be_visible()
    assert violations(page) == []
    page.get_by_role("button", name="New collection").click()
    page.get_by_role("textbox", name="Name").fill("Plant manuals")
    page.get_by_role("button", name="Create").click()
    expect(page.get_by_role("heading", name="Plant manuals")).to_be_focused()
    page.set_input_files("#add-folder", str(folder))
    expect(page.get_by_text("1 system file was left out.")).to_be_visible()
    expect(page.get_by_role("heading", name="3 files uploaded")).to_be_visible()
    # The second time, nothing is sent.
    page.set_input_files("#add-folder", str(folder))
    expect(page.get_by_role("heading", name="3 unchanged, skipped")).to_be_visible()
    page.get_by_role("button", name="Dismiss").click()
    documents = page.get_by_role("list", name="Documents")
    documents.get_by_role("link", name="plant").click()
    expect(documents.get_by_role("button", name="notes.md", exact=True)).to_be_visible()
    broken = documents.get_by_role("listitem").filter(has_text="broken.pdf")
    expect(broken).to_contain_text("Failed")
    expect(broken.get_by_role("button", name="Read again: broken.pdf")).to_be_visible()
    assert violations(page) == []
    documents.get_by_role("link", name="pumps").click()
    documents.get_by_role("button", name="manual.pdf", exact=True).click()
    expect(page.get_by_role("dialog", name="manual.pdf")).to_contain_text("Page 1 of 2")
    page.keyboard.press("Escape")
    page.get_by_role("searchbox", name="Search in this collection").fill("feed pump")
    expect(page.get_by_role("button", name="plant/pumps/manual.pdf, page 1")).to_be_visible()


def test_a_collection_is_attached_shared_and_revoked(
    page: Page, browser: Browser, stack: Stack, person: str
) -> None:
    stack.create_user("bea")
    write(stack, person)
    page.goto("/knowledge/")
    page.get_by_role("main").get_by_role("link", name="Pump manuals").click()
    page.get_by_role("button", name="Share").click()
    sharing = page.get_by_role("dialog", name="Share “Pump manuals”")
    sharing.get_by_role("combobox", name="Add users or groups").fill("bea")
    sharing.get_by_role("option", name="bea").click()
    expect(sharing.get_by_role("combobox", name="Access of bea")).to_have_value("read")
    assert violations(page) == []
    sharing.get_by_role("button", name="Done").click()

    page.get_by_role("link", name="Back to chat").click()
    box(page).press_sequentially("#pump")
    expect(page.get_by_role("option", name="Pump manuals")).to_have_attribute(
        "aria-selected", "true"
    )
    assert violations(page) == []
    box(page).press("Enter")
    chips = page.get_by_role("list", name="Collections")
    expect(chips).to_contain_text("Pump manuals")
    expect(box(page)).to_have_value("")
    ask(page, "Which pressure has the feed pump? @say It is 40 bar [1].")
    done(page)
    expect(page.get_by_role("button", name="Source 1: manual.pdf, page 1")).to_be_visible()
    page.reload()
    expect(chips).to_contain_text("Pump manuals")

    context = browser.new_context(base_url=stack.url, locale="zh-CN")
    other = context.new_page()
    other.goto("/accounts/login/")
    sign_in_chinese(other, "bea")
    other.goto("/knowledge/")
    shared = other.get_by_role("link", name="Pump manuals")
    expect(shared.first).to_be_visible()
    assert violations(other) == []
    shared.first.click()
    expect(other.get_by_role("link", name="plant", exact=True)).to_be_visible()
    assert violations(other) == []
    page.goto("/knowledge/")
    page.get_by_role("main").get_by_role("link", name="Pump manuals").click()
    page.get_by_role("button", name="Share").click()
    sharing.get_by_role("button", name="Remove access of bea").click()
    expect(sharing).to_contain_text("Nobody else has access")
    other.reload()
    expect(other.get_by_role("link", name="Pump manuals")).to_have_count(0)
    expect(other.get_by_role("heading", level=2).last).to_be_visible()
    context.close()


def write(stack: Stack, person: str) -> None:
    """Save a collection with one PDF, as an upload does."""
    code = (
        "from tests.support.collections import write\n"
        f"write({person!r}, [{FACT!r}], name='Pump manuals')"
    )
    stack.manage("shell", "--verbosity", "0", "-c", code)


def sign_in_chinese(page: Page, name: str) -> None:
    page.locator("input[name=login]").fill(name)
    page.locator("input[name=password]").fill(PASSWORD)
    page.locator("main form button[type=submit]").first.click()
    page.wait_for_url("**/")
