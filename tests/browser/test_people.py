"""The pages of users and groups in the administration, as an administrator uses them."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.axe import violations
from tests.support.stack import Stack

# As administrators of a site of two dozen users see it.
PEOPLE = """
from chatsite.accounts import keys, people
from chatsite.accounts.models import GroupProfile, User
from chatsite.accounts.people import Actor
from django.contrib.auth.models import Group
cli = Actor(via="cli")
for name in ("ada", "grace", "alan"):
    people.create(cli, username=name, email=f"{name}@example.org", first_name=name.title())
legal = people.create_group(cli, "Legal", role="auditor")
people.add_members(cli, legal, User.objects.filter(username="alan"))
staff = Group.objects.create(name="Staff")
GroupProfile.objects.filter(group=staff).update(source="directory")
staff.user_set.add(User.objects.get(username="ada"))
keys.create(User.objects.get(username="ada"), name="laptop")
print(User.objects.get(username="ada").pk, legal.pk, staff.pk)
"""


@pytest.fixture(scope="module")
def stack(scripted_stack: Stack) -> Stack:
    return scripted_stack


@pytest.fixture(scope="module")
def ids(stack: Stack) -> list[str]:
    """Create the users; return the IDs of ada, of the local and of the directory group."""
    stack.create_user("chief", admin=True)
    return stack.manage("shell", "-v", "0", "-c", PEOPLE).stdout.split()[-3:]


def opened(browser: Browser, stack: Stack, **options: Any) -> Page:
    context = browser.new_context(base_url=stack.url, reduced_motion="reduce", **options)
    pairs = (pair.split("=", 1) for pair in stack.sign_in("chief").split("; "))
    context.add_cookies([{"name": n, "value": v, "url": stack.url} for n, v in pairs])
    return context.new_page()


@pytest.mark.parametrize(
    ("theme", "language", "width"), [("light", "en-US", 1280), ("dark", "zh-CN", 390)]
)
def test_axe_finds_nothing_and_nothing_overflows(
    browser: Browser, stack: Stack, ids: list[str], theme: Any, language: str, width: int
) -> None:
    viewport: Any = {"width": width, "height": 844}
    page = opened(browser, stack, color_scheme=theme, locale=language, viewport=viewport)
    ada, legal, staff = ids
    for address in (
        *("", "?q=nobody", "users/new/", f"users/{ada}/", "groups/", f"groups/{legal}/"),
        *(f"groups/{staff}/", "groups/new/", "invitations/", "sessions/", "keys/"),
    ):
        page.goto(f"/admin/people/{address}")
        assert violations(page) == [], address
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), address
    page.context.close()


def test_an_administrator_manages_users(browser: Browser, stack: Stack, ids: list[str]) -> None:
    page = opened(browser, stack, locale="en-US", viewport={"width": 1280, "height": 844})
    page.goto("/admin/people/")
    # Several at once.
    page.get_by_role("checkbox", name="Select grace").check()
    page.get_by_role("checkbox", name="Select alan").check()
    expect(page.get_by_text("2 selected")).to_be_visible()
    group = page.get_by_role("combobox", name="Group for the action")
    expect(group).to_be_hidden()
    page.get_by_role("combobox", name="Action for the selected users").select_option("Add to group")
    group.select_option("Legal")
    page.get_by_role("button", name="Apply to selected").click()
    expect(page.get_by_text("1 user added.")).to_be_visible()
    expect(page.get_by_role("row", name="grace").get_by_text("Auditor")).to_be_visible()
    # One user, whose link for a password is shown once.
    page.get_by_role("link", name="New user").click()
    page.get_by_label("Username").fill("GRACE")
    page.get_by_role("button", name="Create user").click()
    expect(page.get_by_text("That username is already taken.")).to_be_visible()
    page.get_by_label("Username").fill("barbara")
    page.get_by_role("radio", name="Model manager").check()
    page.get_by_role("button", name="Create user").click()
    link = page.get_by_role("textbox", name="Link").input_value()
    assert "/accounts/password/new/" in link
    page.get_by_role("button", name="Deactivate").click()
    expect(page.get_by_text("1 user deactivated.")).to_be_visible()
    expect(page.get_by_role("button", name="Activate")).to_be_visible()
    # The directory decides about its own members, and the page says so.
    page.goto(f"/admin/people/groups/{ids[2]}/")
    expect(page.get_by_text("are set in the directory")).to_be_visible()
    expect(page.get_by_role("button", name="Remove")).to_have_count(0)
    page.context.close()
