"""The chat page around the messages: files, models, menus, notices."""

from __future__ import annotations

import json
import re

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser.actions import ask, attached, box, chip, conversation, done, give
from tests.browser.axe import violations
from tests.browser.conftest import sign_in
from tests.support.stack import Stack, wait_until

# A second model with its own configuration, and an assistant, to choose from.
SECOND = "FROM smollm2:135m\nSYSTEM You are brief.\n"


@pytest.fixture(scope="module")
def stack(scripted_stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Stack:
    modelfile = tmp_path_factory.mktemp("models") / "Modelfile"
    modelfile.write_text(SECOND)
    scripted_stack.manage("models", "create", "brief", "-f", str(modelfile))
    return scripted_stack


def assert_still(page: Page) -> None:
    """Assert that the document can't scroll."""
    overhang, top = page.evaluate(
        """() => {
          const root = document.scrollingElement;
          root.scrollTop = 5000;
          document.body.scrollTop = 5000;
          for (const one of document.querySelectorAll(".sr-only")) one.scrollIntoView();
          return [root.scrollHeight - innerHeight, root.scrollTop + document.body.scrollTop];
        }"""
    )
    assert (overhang, top) == (0, 0)


@pytest.mark.parametrize("size", [(1280, 800), (1440, 900), (390, 844), (320, 640)])
def test_page_1_the_document_never_scrolls(page: Page, size: tuple[int, int]) -> None:
    page.set_viewport_size({"width": size[0], "height": size[1]})
    for part in range(8):
        ask(page, f"About the firewall, part {part}. " + "Text. " * 150)
        done(page)
    address = page.url
    page.goto("/")
    assert_still(page)
    if size[0] < 768:
        page.get_by_role("button", name="Show conversations").click()
    page.get_by_role("searchbox", name="Search your conversations").fill("firewall")
    hit = page.locator("#results a.hit").last
    expect(hit).to_be_visible()
    assert_still(page)
    hit.click()
    expect(page.get_by_role("article").last).to_be_attached()
    assert_still(page)
    page.goto(address)
    expect(page.get_by_role("article").last).to_be_visible()
    assert_still(page)
    page.get_by_role("button", name="Share", exact=True).click()
    share = page.get_by_role("dialog", name="Share this conversation")
    expect(share).to_be_visible()
    assert_still(page)
    page.keyboard.press("Escape")
    expect(share).to_be_hidden()
    page.keyboard.press("Control+k")
    expect(page.get_by_role("dialog")).to_be_visible()
    assert_still(page)


def test_page_3_a_refused_file_stays_until_it_is_removed(page: Page) -> None:
    give(page, ("big.txt", b"word " * 1_100_000))
    refused = chip(page, "big.txt")
    expect(refused).to_contain_text("more than 5,000,000 characters")
    expect(refused).to_have_class(re.compile("refused"))
    box(page).press_sequentially("hello")
    expect(refused).to_be_visible()
    box(page).press("Enter")
    question = page.get_by_role("dialog", name="Send without this file?")
    expect(question).to_contain_text("big.txt")
    question.get_by_role("button", name="Cancel").click()
    expect(box(page)).to_have_value("hello")
    expect(refused).to_be_visible()
    box(page).press("Enter")
    question.get_by_role("button", name="Send without it").click()
    expect(page.get_by_role("article")).to_have_text("hello")
    expect(refused).to_have_count(0)


def test_page_4_each_refused_file_is_named(page: Page) -> None:
    give(
        page,
        ("sheet.bin", b"PK\x03\x04" + b"\x00\xff" * 300),
        ("notes.py", b"print(1)\n"),
        ("picture.bin", b"\x89PNG\r\n\x1a\n" + b"\x00\xfe" * 300),
    )
    for name in ("sheet.bin", "picture.bin"):
        expect(chip(page, name)).to_have_class(re.compile("refused"))
    attached(page, "notes.py")
    page.get_by_role("button", name="Remove sheet.bin").click()
    expect(chip(page, "sheet.bin")).to_have_count(0)
    expect(chip(page, "picture.bin")).to_be_visible()
    assert violations(page) == []


def test_page_5_an_empty_answer_says_so(page: Page, stack: Stack, person: str) -> None:
    id = conversation(stack, person, ["A first answer.", ""])
    page.goto(f"/c/{id}/")
    notice = page.locator(".turn.answer > div.notice").last
    expect(notice).to_contain_text("The model ended without an answer.")
    notice.get_by_role("button", name="Regenerate").click()
    expect(page.get_by_role("article").last).to_have_text("Question 1")
    # Beside another answer too, with a way to regenerate, and none to continue an empty one.
    page.get_by_role("button", name="Compare the versions side by side").click()
    columns = page.locator("#comparison .column")
    expect(columns).to_have_count(2)
    expect(columns.first).to_contain_text("The model ended without an answer.")
    expect(columns.first.get_by_role("button", name="Continue with this answer")).to_be_hidden()
    columns.first.get_by_role("button", name="Regenerate").click()
    expect(columns.first.get_by_role("article")).to_have_text("Question 1")


def test_page_5_only_reasoning_is_no_answer(page: Page, stack: Stack, person: str) -> None:
    id = conversation(stack, person, ["<think>Let me see.</think>"])
    page.goto(f"/c/{id}/")
    notice = page.locator(".turn.answer > div.notice")
    expect(notice).to_contain_text("ended without an answer")


def compare(page: Page, text: str) -> Locator:
    page.get_by_role("button", name="Compare with other models").click()
    page.get_by_role("checkbox", name="brief").check()
    page.keyboard.press("Escape")
    box(page).fill(text)
    box(page).press("Enter")
    dialog = page.get_by_role("dialog", name="Answers side by side")
    expect(dialog).to_be_visible()
    return dialog


def test_page_6_without_a_choice_the_chat_keeps_its_own_models_answer(page: Page) -> None:
    page.get_by_role("combobox", name="Model").select_option("smollm2:135m")
    dialog = compare(page, "which one is it")
    expect(dialog.get_by_role("button", name="Continue with this answer")).to_have_count(2)
    for button in dialog.get_by_role("button", name="Continue with this answer").all():
        expect(button).to_be_visible()
    dialog.get_by_role("button", name="Close").click()
    expect(page.locator("#toast")).to_have_text("Continuing with the answer of SmolLM2 135M")
    expect(page.locator(".turn.answer .figures")).to_contain_text("SmolLM2 135M")
    # On the server too: only this page knew of the choice.
    page.reload()
    expect(page.locator(".turn.answer .figures")).to_contain_text("SmolLM2 135M")
    expect(page.locator(".branches").last).to_contain_text("1/2")


def test_page_10_signed_out_is_shown_once(page: Page, stack: Stack, person: str) -> None:
    ask(page, "before")
    done(page)
    box(page).fill("not lost")
    stack.end_sessions(person)
    box(page).press("Enter")
    expect(page.get_by_role("link", name="Sign in")).to_be_visible()
    expect(page.get_by_text("You are signed out.")).to_have_count(1)
    expect(page.locator("#send-problem")).to_be_hidden()
    page.get_by_role("button", name="New chat").click()
    page.get_by_role("link", name="before").first.click()
    page.get_by_role("link", name="before").first.hover()
    expect(page.get_by_text("You are signed out.")).to_have_count(1)
    expect(page.get_by_role("button", name="Start another conversation")).to_have_count(0)
    page.get_by_role("link", name="Sign in").click()
    sign_in(page, person)


@pytest.fixture(scope="module")
def collector(stack: Stack) -> str:
    stack.create_user("many")
    return "many"


@pytest.fixture
def many(page: Page, stack: Stack, collector: str) -> Page:
    """Yield the page of a user with more conversations than fit one page of the list."""
    # As after an import: many in one millisecond, which is all that `Date` of a page can tell.
    code = (
        "from datetime import timedelta\n"
        "from django.utils import timezone\n"
        "from chatsite.accounts.models import User\n"
        "from chatsite.conversations.models import Conversation\n"
        "owner = User.objects.get(username='many')\n"
        "now = timezone.now().replace(microsecond=0)\n"
        "Conversation.objects.filter(owner=owner).delete()\n"
        "Conversation.objects.bulk_create(\n"
        "    Conversation(owner=owner, title=f'Chat {n}',\n"
        "                 updated_at=now + timedelta(microseconds=n)) for n in range(120))"
    )
    stack.manage("shell", "--verbosity", "0", "-c", code)
    page.context.clear_cookies()
    sign_in(page, collector)
    return page


def test_page_11_select_all_means_all(many: Page) -> None:
    page = many
    page.locator("#conversations li[data-id]").first.hover()
    page.locator("#conversations .options").first.click()
    page.get_by_role("menuitem", name="Select…").click()
    bar = page.get_by_role("toolbar", name="Selected conversations")
    bar.get_by_role("button", name="Select all", exact=True).click()
    bar.get_by_role("button", name="Select all 120").click()
    expect(bar).to_contain_text("120 selected")
    bar.get_by_role("button", name="Delete").click()
    question = page.get_by_role("dialog")
    expect(question).to_contain_text("120 conversations")
    question.get_by_role("button", name="Delete").click()
    expect(page.locator("#conversations")).to_contain_text("Your conversations appear here.")
    page.locator("#toast").get_by_role("button", name="Undo").click()
    expect(page.locator("#conversations li[data-id]").first).to_be_visible()
    page.reload()
    counted = page.evaluate(
        "fetch('/chat/conversations/count/?view=main').then(answer => answer.json())"
    )
    assert counted == {"count": 120}


def test_page_68_the_list_is_one_tab_stop(many: Page) -> None:
    page = many
    stops = page.locator("#conversations li :is(a, button)")
    assert stops.count() >= 100
    assert stops.evaluate_all("all => all.filter(one => one.tabIndex === 0).length") == 1
    links = page.locator("#conversations li > a")
    links.first.focus()
    page.keyboard.press("ArrowDown")
    expect(links.nth(1)).to_be_focused()
    page.keyboard.press("ArrowRight")
    expect(page.locator("#conversations .options").nth(1)).to_be_focused()
    page.keyboard.press("ArrowUp")
    expect(links.first).to_be_focused()
    # Near the end of the list more is loaded, until all is there.
    page.wait_for_function(
        "() => { document.querySelector('#conversations .sentinel').scrollIntoView();"
        " return document.querySelectorAll('#conversations li > a').length === 120; }",
        timeout=60_000,
    )
    expect(links).to_have_text([f"Chat {n}" for n in reversed(range(120))])
    links.first.focus()
    page.keyboard.press("End")
    expect(links.last).to_be_focused()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.closest('#conversations li')") is None


def test_page_22_the_title_is_a_menu(page: Page) -> None:
    ask(page, "menu of the title")
    done(page)
    title = page.locator("#title").get_by_role("button", name="menu of the title")
    title.click()
    items = page.get_by_role("menuitem")
    expect(items).to_have_text(
        ["Pin", "Rename", "Move to folder…", "Archive", "Share…", "Export…", "Delete"]
    )
    page.get_by_role("menuitem", name="Rename").click()
    page.get_by_role("textbox", name="Title").fill("Renamed at the top")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("heading", name="Renamed at the top")).to_be_visible()
    page.get_by_role("button", name="Share", exact=True).click()
    expect(page.get_by_role("dialog", name="Share this conversation")).to_be_visible()
    assert violations(page) == []


@pytest.mark.parametrize("width", [1280, 320])
def test_page_23_models_are_chosen_in_a_list_with_their_details(page: Page, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 700})
    choice = page.get_by_role("combobox", name="Model")
    choice.select_option("smollm2:135m")
    expect(choice).to_have_value("smollm2:135m")
    choice.press("Enter")
    panel = page.get_by_role("dialog", name="Choose a model")
    options = panel.get_by_role("option")
    expect(options).to_have_count(2)
    smol = panel.get_by_role("option", name="SmolLM2 135M")
    expect(smol).to_be_focused()
    expect(smol).to_have_attribute("aria-selected", "true")
    expect(smol).to_contain_text("Small enough for any machine")
    expect(smol).to_contain_text("tokens of context")
    expect(smol).to_contain_text("MB")
    room = panel.bounding_box()
    assert room
    assert room["x"] >= 0
    assert room["x"] + room["width"] <= width
    assert violations(page) == []
    page.keyboard.press("End")
    page.keyboard.press("Enter")
    expect(panel).to_be_hidden()
    expect(choice).to_have_value("brief:latest")
    expect(box(page)).to_be_focused()
    choice.click()
    expect(panel).to_be_visible()
    page.keyboard.press("Escape")
    expect(panel).to_be_hidden()
    expect(choice).to_be_focused()


def test_page_36_an_administrator_is_informed_about_the_starter_model(
    page: Page, stack: Stack
) -> None:
    card = page.get_by_role("complementary", name="Starter model")
    expect(box(page)).to_be_visible()
    expect(card).to_have_count(0)
    stack.create_user("boss")
    code = (
        "from chatsite.accounts.models import User\n"
        "User.objects.filter(username='boss').update(is_staff=True, is_superuser=True)"
    )
    stack.manage("shell", "--verbosity", "0", "-c", code)
    page.context.clear_cookies()
    sign_in(page, "boss")
    expect(card).to_contain_text("only for trying out")
    assert violations(page) == []
    address = card.get_by_role("link", name="Choose a model").get_attribute("href")
    assert address
    assert page.request.get(address).ok
    card.get_by_role("button", name="Dismiss").click()
    page.reload()
    expect(page.get_by_role("button", name="New chat").first).to_be_visible()
    page.wait_for_load_state("networkidle")
    expect(card).to_have_count(0)


def test_page_7_deleting_an_assistant_asks_and_can_be_undone(page: Page) -> None:
    page.goto("/accounts/assistants/")
    page.get_by_label("Name").fill("Pirate")
    page.get_by_role("button", name="Save").click()
    page.get_by_role("button", name="Delete Pirate").click()
    question = page.get_by_role("dialog", name="Delete Pirate?")
    assert violations(page) == []
    question.get_by_role("button", name="Cancel").click()
    expect(page.get_by_role("link", name="Pirate")).to_be_visible()
    page.get_by_role("button", name="Delete Pirate").click()
    question.get_by_role("button", name="Delete").click()
    expect(page.get_by_role("link", name="Pirate")).to_have_count(0)
    expect(page.get_by_text("Pirate was deleted.")).to_be_visible()
    page.get_by_role("button", name="Undo").click()
    expect(page.get_by_role("link", name="Pirate")).to_be_visible()
    page.get_by_role("button", name="Delete Pirate").click()
    question.get_by_role("button", name="Delete").click()


def test_page_56_the_gauge_appears_when_the_context_fills(page: Page) -> None:
    ask(page, "hello")
    done(page)
    gauge = page.get_by_role("button", name="Context:")
    box(page).fill("short")
    expect(gauge).to_have_accessible_name(re.compile("Context: [1-9]"))
    page.mouse.move(0, 0)
    expect(gauge).to_have_css("opacity", "0")
    box(page).fill("word " * 2500)
    expect(gauge).to_have_css("opacity", "1")
    box(page).fill("")
    expect(gauge).to_have_css("opacity", "0")
    # It can be used by keyboard although it is invisible.
    gauge.focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog", name="Context used (tokens)")).to_be_visible()


def test_page_62_the_toast_covers_no_control(page: Page) -> None:
    ask(page, "to be archived")
    done(page)
    page.locator("#title").get_by_role("button").click()
    page.get_by_role("menuitem", name="Archive").click()
    toast = page.locator("#toast")
    expect(toast).to_contain_text("Archived")
    covered = page.evaluate(
        """() => {
          const toast = document.getElementById("toast").getBoundingClientRect();
          const dock = document.getElementById("composer").getBoundingClientRect();
          return toast.bottom > dock.top && toast.top < dock.bottom;
        }"""
    )
    assert not covered


def test_page_63_folders_fold_and_the_archive_is_last(page: Page) -> None:
    ask(page, "for a folder")
    done(page)
    page.locator("#title").get_by_role("button").click()
    page.get_by_role("menuitem", name="Move to folder…").click()
    page.get_by_role("menuitem", name="New folder…").click()
    page.get_by_role("textbox", name="Name").fill("Work")
    page.get_by_role("button", name="Save").click()
    work = page.locator(".places").get_by_role("button", name="Work")
    expect(work).to_contain_text("1")
    page.get_by_role("button", name="Folders").click()
    expect(work).to_be_hidden()
    page.reload()
    expect(page.get_by_role("button", name="Folders")).to_be_visible()
    expect(work).to_be_hidden()
    page.get_by_role("button", name="Folders").click()
    expect(work).to_be_visible()
    last = page.locator("#conversations > :last-child")
    expect(last).to_contain_text("Archive")


def test_a_long_draft_is_kept_and_a_long_paste_may_become_a_file(page: Page) -> None:
    # Writes to storage are counted: it must not be written at every keystroke.
    page.evaluate(
        """() => {
          window.stored = 0;
          const original = Storage.prototype.setItem;
          Storage.prototype.setItem = function (...args) {
            if (args[0].includes("draft")) window.stored += 1;
            return original.apply(this, args);
          };
        }"""
    )
    box(page).evaluate(
        """(box, text) => {
          for (const letter of text) {
            box.value += letter;
            box.dispatchEvent(new InputEvent("input", { bubbles: true }));
          }
        }""",
        "a draft of twenty-six char",
    )
    expect(box(page)).to_have_value("a draft of twenty-six char")
    assert page.evaluate("window.stored") < 10
    page.reload()
    expect(box(page)).to_have_value("a draft of twenty-six char")
    page.evaluate("text => navigator.clipboard.writeText(text)", "line of text\n" * 1000)
    box(page).press("Control+v")
    page.get_by_role("button", name="Attach as file").click()
    expect(box(page)).to_have_value("a draft of twenty-six char")
    attached(page, "Pasted text.txt")
    box(page).press("Enter")
    expect(page.get_by_role("article").last).to_be_visible()


def test_a_long_conversation_is_laid_out_where_it_is_read(
    page: Page, stack: Stack, person: str
) -> None:
    id = conversation(stack, person, ["An answer. " + "More of it. " * 150] * 120)
    page.goto(f"/c/{id}/")
    expect(page.get_by_role("article").last).to_be_visible()
    scroller = page.locator("#scroll")

    def scrolled_far() -> bool:
        scroller.evaluate("one => { one.scrollTop -= 1500; }")
        page.evaluate("() => new Promise(requestAnimationFrame)")
        return page.locator(".turn").count() > 150

    wait_until(scrolled_far, "more than 150 turns are drawn")
    near = page.locator(".turn:not(.far)")
    wait_until(lambda: near.count() < 40, "turns far from the text being read are not laid out")
    heights = json.loads(
        page.evaluate(
            """() => JSON.stringify([...document.querySelectorAll(".turn.far.answer")]
              .map((one) => one.getBoundingClientRect().height))"""
        )
    )
    # They keep their height, so the text being read does not move.
    assert min(heights) > 200
