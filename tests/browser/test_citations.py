"""Documents that don't fit, and citations that open at their page."""

from __future__ import annotations

import json
import re

import pytest
from playwright.sync_api import Page, expect

from tests.browser.actions import ask, attached, chip, done, give
from tests.browser.axe import violations_in_both_themes as violations
from tests.support.documents import pdf
from tests.support.stack import Stack

FACT = "The feed pump of the plant runs at 40 bar."


@pytest.fixture(scope="module")
def stack(scripted_stack: Stack) -> Stack:
    return scripted_stack


def manual(pages: int) -> list[str]:
    """Return the texts of pages that are a passage each."""
    texts = [f"Chapter {page}. " + f"filler{page} " * 110 for page in range(1, pages + 1)]
    texts[11] = f"Chapter 12. {FACT} " + "It is checked each morning. " * 34
    return texts


def shelf(stack: Stack, person: str, pages: list[str]) -> str:
    """Save a collection with one PDF, as an upload does; return its ID."""
    code = (
        "import json, sys\n"
        "from tests.support.collections import write\n"
        f"print(write({person!r}, json.load(sys.stdin)))"
    )
    made = stack.manage("shell", "--verbosity", "0", "-c", code, stdin=json.dumps(pages))
    return made.stdout.strip()


def test_a_large_document_is_searched_and_its_citation_opens_at_its_page(page: Page) -> None:
    give(page, ("manual.pdf", pdf(*manual(60))))
    attached(page, "manual.pdf")
    choice = page.get_by_role("combobox", name="What is sent of manual.pdf")
    expect(choice).to_have_value("matches")
    expect(chip(page, "manual.pdf")).to_contain_text("60 pages · only what matches the question")
    ask(page, "Which pressure has the feed pump? @say It is 40 bar [1], not 7 [99]. `a[99]`")
    done(page)
    answer = page.get_by_role("article")
    expect(answer).to_contain_text("not 7. a[99]")
    expect(page.locator(".answer-sources")).to_contain_text(
        re.compile(r"manual\.pdf: \d+ of 60 pages (is|are) sent")
    )
    expect(page.locator(".answer-sources")).to_contain_text("1 citation without a passage")
    mark = answer.get_by_role("button", name="Source 1: manual.pdf, page 12")
    mark.focus()
    expect(page.locator(".cite-tip")).to_have_text("Source 1: manual.pdf, page 12")
    assert violations(page) == []
    page.keyboard.press("Enter")
    panel = page.get_by_role("dialog", name="manual.pdf")
    expect(panel).to_contain_text("Page 12 of 60")
    expect(panel.locator("mark")).to_contain_text(FACT)
    assert violations(page) == []
    panel.get_by_role("button", name="Next page").click()
    expect(panel).to_contain_text("Chapter 13")
    page.keyboard.press("Escape")
    expect(panel).to_be_hidden()
    expect(mark).to_be_focused()
    # Chosen pages are sent with the message.
    page.reload()
    page.get_by_role("button", name="Edit").click()
    editor = page.locator("form.edit")
    editor.get_by_role("combobox").select_option("pages")
    editor.get_by_role("textbox", name="Pages of manual.pdf").fill("3-4, 61")
    editor.get_by_role("textbox", name="Edited text").fill("@say Fine.")
    editor.get_by_role("button", name="Ask again").click()
    expect(page.get_by_role("alert")).to_contain_text("pages between 1 and 60")
    editor.get_by_role("textbox", name="Pages of manual.pdf").fill("3-4")
    editor.get_by_role("button", name="Ask again").click()
    expect(answer).to_have_text("Fine.")
    expect(page.locator(".turn.user")).to_contain_text("only pages 3-4")


def test_a_collection_is_searched_and_the_pdf_shows_the_passage(
    page: Page, stack: Stack, person: str
) -> None:
    pages = manual(20)
    books = shelf(stack, person, pages)
    ask(page, "@say hello")
    done(page)
    status = page.evaluate(
        """async (books) => {
          const csrf = JSON.parse(document.getElementById("boot").textContent).csrf;
          const id = location.pathname.split("/").at(-2);
          const answer = await fetch(`/chat/conversations/${id}/`, {
            method: "PATCH",
            headers: { "X-CSRFToken": csrf, "Content-Type": "application/json" },
            body: JSON.stringify({ collections: [books] }),
          });
          return [answer.status, await answer.text()];
        }""",
        books,
    )
    assert status[0] == 200, status
    ask(page, "Which pressure has the feed pump? @say It is 40 bar [1].")
    done(page)
    sources = page.locator(".answer-sources").last
    expect(sources).to_contain_text("Searched by keywords only: no embedding model")
    sources.get_by_text("of 1 document used").click()
    row = sources.get_by_role("button", name="manual.pdf, page 12")
    row.click()
    panel = page.get_by_role("dialog", name="manual.pdf")
    expect(panel).to_contain_text("Page 12 of 20")
    expect(panel.get_by_role("img", name="manual.pdf, page 12")).to_be_visible()
    expect(panel.locator(".pdf-text .marked").first).to_contain_text("The feed pump")
    assert violations(page) == []
    page.keyboard.press("Escape")
    ask(page, "Please explain quantum chromodynamics to children. @say Nothing [1].")
    done(page)
    expect(page.locator(".answer-sources").last).to_contain_text(
        "Nothing matched; answered without documents"
    )
    expect(page.get_by_role("article").last).to_have_text("Nothing.")
