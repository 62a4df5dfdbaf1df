"""The pages of users, groups, invitations, sessions and keys in the administration."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from chatsite import planner_statistics
from chatsite.accounts import keys, people
from chatsite.accounts.models import ApiKey, GroupProfile, Invitation, SignUp, User
from chatsite.accounts.people import Actor
from chatsite.accounts.roles import Role
from chatsite.conversations.models import Conversation
from chatsite.retention import work
from chatsite.retention.models import Deletion, LegalHold
from models_admin.adminsite.people import listing
from tests.support.pages import data_dir, unbuilt

__all__ = ["data_dir", "unbuilt"]

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("data_dir")]

SECRET = "what-alice-wrote"
ROOT = Actor(None, via="cli")


@pytest.fixture
def root() -> User:
    return User.objects.create_superuser("root", password="x")


@pytest.fixture
def browser(root: User) -> Client:
    client = Client()
    client.force_login(root)
    return client


@pytest.fixture
def alice() -> User:
    user = User.objects.create_user("alice", "alice@example.org", first_name="Alice")
    Conversation.objects.create(owner=user, title=SECRET)
    return user


@pytest.fixture(autouse=True)
def no_celery(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work, "wake", lambda *_: None)


def address(name: str, *arguments: Any) -> str:
    return reverse(f"admin:{name}", args=arguments)


def names(response: Any) -> list[str]:
    return [user.username for user in response.context["page"]]


def said(response: Any) -> str:
    return " ".join(str(message) for message in response.context["messages"])


class TestList:
    @pytest.fixture
    def users(self, root: User, alice: User) -> None:
        staff = people.create_group(ROOT, "staff", role=Role.AUDITOR)
        bob = User.objects.create_user("bob", "bob@example.org", last_name="Smith")
        people.add_members(ROOT, staff, [bob])
        User.objects.create_user("carol", is_active=False)
        dave = User.objects.create_user("dave", is_active=False)
        SignUp.objects.create(user=dave, waiting_for="approval")
        now = timezone.now()
        User.objects.filter(username="alice").update(last_seen_at=now - timedelta(days=100))
        User.objects.filter(username="bob").update(last_seen_at=now)
        bob.identities.create(source="ldap", external_id="1")

    @pytest.mark.usefixtures("users")
    @pytest.mark.parametrize(
        ("query", "found"),
        [
            ("", ["alice", "bob", "carol", "dave", "root"]),
            ("q=EXAMPLE.org", ["alice", "bob"]),
            ("q=smith bob", ["bob"]),
            ("q=alice smith", []),
            ("role=auditor", ["bob"]),
            ("role=king", ["alice", "bob", "carol", "dave", "root"]),
            ("state=active", ["alice", "bob", "root"]),
            ("state=deactivated", ["carol"]),
            ("state=waiting", ["dave"]),
            ("state=absent", ["alice"]),
            ("source=ldap", ["bob"]),
            ("source=local&state=active", ["alice", "root"]),
            ("mfa=on", []),
            ("sort=-name", ["root", "dave", "carol", "bob", "alice"]),
            ("sort=seen", ["root", "bob", "alice", "carol", "dave"]),
            ("group=99999999999999999", []),
            ("page=77", ["alice", "bob", "carol", "dave", "root"]),
            ("q=%00&group=x&sort=x", ["alice", "bob", "carol", "dave", "root"]),
        ],
    )
    def test_search_filters_and_order(self, browser: Client, query: str, found: list[str]) -> None:
        response = browser.get(f"{address('people')}?{query}")
        assert names(response) == found
        assert ("No users match" in response.text) is (not found)

    @pytest.mark.usefixtures("users")
    def test_filters_survive_pages_and_order(
        self, browser: Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(listing.one_page, "__defaults__", (2,))
        response = browser.get(f"{address('people')}?state=active&sort=-name")
        assert names(response) == ["root", "bob"]
        assert "?state=active&amp;sort=-name&amp;page=2" in response.text
        assert 'aria-sort="descending"' in response.text
        assert "?state=active&amp;sort=seen" in response.text

    def test_ten_thousand_users_cost_a_fixed_number_of_queries(self, browser: Client) -> None:
        group = people.create_group(ROOT, "everyone")
        users = User.objects.bulk_create(
            (User(username=f"user{n:05}", email=f"user{n}@example.org") for n in range(10_000)),
            batch_size=1000,
        )
        group.user_set.through.objects.bulk_create(
            group.user_set.through(user_id=user.pk, group_id=group.pk) for user in users
        )
        planner_statistics.refresh(User, group.user_set.through)
        with CaptureQueriesContext(connection) as captured:
            response = browser.get(
                f"{address('people')}?group={group.pk}&q=user&sort=seen&page=150"
            )
        assert len(names(response)) == listing.PER_PAGE
        assert "10,000 users" in response.text
        assert len(captured) < 20

    def test_an_empty_site_has_the_administrator_only(self, browser: Client) -> None:
        assert names(browser.get(address("people"))) == ["root"]


class TestUser:
    def test_a_user_is_created_with_a_link_that_is_shown_once(self, browser: Client) -> None:
        form = {"username": "bob", "email": "bob@example.org", "role": Role.AUDITOR}
        response = browser.post(address("people_new_user"), form)
        assert "/accounts/password/new/" in response.context["link"]
        bob = User.objects.get(username="bob")
        assert bob.effective_role == Role.AUDITOR
        assert "/accounts/password/new/" not in browser.get(address("people_user", bob.pk)).text
        again = browser.post(address("people_new_user"), form)
        assert "That username is already taken." in again.text
        wrong = browser.post(address("people_new_user"), {"username": "a b", "role": "user"})
        assert {"username"} == set(wrong.context["form"].errors)
        assert 'value="a b"' in wrong.text

    def test_the_page_shows_no_content(self, browser: Client, alice: User) -> None:
        key, text = keys.create(alice, name="notebook")
        response = browser.get(address("people_user", alice.pk))
        for part in ("alice@example.org", "notebook", str(key), "No open sessions."):
            assert part in response.text
        assert SECRET not in response.text
        assert text not in response.text
        asked = browser.post(address("people_user_delete", alice.pk))
        assert SECRET not in asked.text

    def test_profile_role_and_groups_are_changed(self, browser: Client, alice: User) -> None:
        page = address("people_user", alice.pk)
        group = people.create_group(ROOT, "staff", role=Role.MODEL_MANAGER)
        profile = {"form": "profile", "username": "alicia", "email": "", "first_name": "A"}
        assert "Saved." in said(browser.post(page, profile, follow=True))
        assert "Nothing changed." in said(browser.post(page, profile, follow=True))
        access = {"form": "access", "role": Role.AUDITOR, "groups": [group.pk]}
        response = browser.post(page, access, follow=True)
        assert "comes from a group" in response.text
        alice.refresh_from_db()
        assert (alice.username, alice.role, alice.effective_role) == (
            "alicia",
            Role.AUDITOR,
            Role.MODEL_MANAGER,
        )
        taken = browser.post(page, {**profile, "username": "root"})
        assert "That username is already taken." in taken.text
        assert 'value="root"' in taken.text

    def test_memberships_of_the_directory_are_read_only(self, browser: Client, alice: User) -> None:
        group = Group.objects.create(name="engineering")
        GroupProfile.objects.filter(group=group).update(source="directory")
        alice.groups.add(group)
        page = address("people_user", alice.pk)
        text = browser.get(page).text
        assert "set in the directory" in text
        assert f'name="groups" value="{group.pk}"' not in text
        response = browser.post(page, {"form": "access", "role": "user", "groups": [group.pk]})
        assert response.context["rights"].errors
        browser.post(page, {"form": "access", "role": "user"})
        assert alice.groups.count() == 1

    @pytest.mark.usefixtures("alice")
    def test_buttons(self, browser: Client, alice: User) -> None:
        keys.create(alice)

        def press(action: str, **data: Any) -> str:
            url = address(f"people_user_{action}", alice.pk)
            return said(browser.post(url, data, follow=True))

        assert "1 user deactivated." in press("deactivate")
        assert "Activate the user first." in press("password")
        assert "1 user activated." in press("activate")
        assert "1 API key revoked." in press("keys")
        assert "Sessions of 1 user ended." in press("sessions")
        assert not ApiKey.objects.usable().exists()
        assert "1 user is being deleted." in press("delete", confirmed=1)
        alice.refresh_from_db()
        assert not alice.is_active
        assert Deletion.objects.get().owner == alice

    def test_a_deletion_is_confirmed_with_counts(self, browser: Client, alice: User) -> None:
        response = browser.post(address("people_user_delete", alice.pk))
        assert ("conversations", 1) in response.context["removed"]
        assert "Delete for good" in response.text
        assert User.objects.filter(pk=alice.pk).exists()

    def test_the_last_administrator_stays(self, browser: Client, root: User) -> None:
        for name, data in (
            ("people_user_deactivate", {}),
            ("people_user_delete", {"confirmed": 1}),
            ("people_user", {"form": "access", "role": Role.USER}),
        ):
            response = browser.post(address(name, root.pk), data, follow=True)
            assert "at least one active administrator" in said(response), name
        User.objects.create_superuser("second")
        response = browser.post(address("people_user_deactivate", root.pk), follow=True)
        assert "your own account" in said(response)
        assert User.objects.get(pk=root.pk).effective_role == Role.ADMINISTRATOR

    def test_neither_does_djangos_model_admin(self, browser: Client, root: User) -> None:
        change = {"username": "root", "role": "user", "date_joined_0": "2026-01-01"}
        change["date_joined_1"] = "00:00"
        selected = {"action": "delete_selected", "_selected_action": [root.pk], "post": "yes"}
        for name, arguments, data in (
            ("accounts_user_change", [root.pk], change),
            ("accounts_user_change", [root.pk], {**change, "role": "administrator"}),
            ("accounts_user_delete", [root.pk], {"post": "yes"}),
            ("accounts_user_changelist", [], selected),
        ):
            response = browser.post(address(name, *arguments), data, follow=True)
            assert "at least one active administrator" in said(response), name
        found = User.objects.get(pk=root.pk)
        assert (found.effective_role, found.is_active) == (Role.ADMINISTRATOR, True)


class TestBulk:
    @pytest.fixture
    def several(self) -> list[User]:
        return [User.objects.create_user(name) for name in ("one", "two", "three")]

    def press(self, browser: Client, action: str, users: list[User], **data: Any) -> Any:
        data = {"action": action, "user": [user.pk for user in users], **data}
        return browser.post(address("people_bulk"), data, follow=True)

    def test_selected_users_are_changed(self, browser: Client, several: list[User]) -> None:
        group = people.create_group(ROOT, "team")
        press = self.press
        assert "Role of 2 users changed." in said(press(browser, "role-auditor", several[:2]))
        added = press(browser, "add", several, to_group=group.pk)
        assert "3 users added." in said(added)
        assert "1 user removed." in said(press(browser, "remove", several[:1], to_group=group.pk))
        assert "Deactivate these 3 users?" in press(browser, "deactivate", several).text
        done = press(browser, "deactivate", several, confirmed=1)
        assert "3 users deactivated." in said(done)
        assert "3 users activated." in said(press(browser, "activate", several))
        assert "Delete these 2 users" in press(browser, "delete", several[:2]).text
        gone = press(browser, "delete", several[:2], confirmed=1)
        assert "2 users are being deleted." in said(gone)
        assert set(Deletion.objects.values_list("subject", flat=True)) == {"one", "two"}

    @pytest.mark.usefixtures("several")
    def test_all_that_match_are_changed(self, browser: Client) -> None:
        data = {"action": "role-auditor", "all": "1", "query": "role=user"}
        response = browser.post(address("people_bulk"), data, follow=True)
        assert "Role of 3 users changed." in said(response)
        auditors = User.objects.filter(role=Role.AUDITOR).values_list("username", flat=True)
        assert set(auditors) == {"one", "two", "three"}

    def test_mistakes_are_explained(self, browser: Client, several: list[User], root: User) -> None:
        press = self.press
        assert "Choose an action." in said(press(browser, "", several))
        assert "Choose an action." in said(press(browser, "role-king", several))
        assert "Select users first." in said(press(browser, "keys", []))
        assert "Choose a group." in said(press(browser, "add", several))
        response = press(browser, "delete", [*several, root], confirmed=1)
        assert "at least one active administrator" in said(response)
        LegalHold.objects.create(user=several[0], reason="Case 7")
        for data in ({}, {"confirmed": 1}):
            response = press(browser, "delete", several, **data)
            assert "legal hold" in said(response)
        assert User.objects.filter(is_active=True).count() == 4
        assert not Deletion.objects.exists()


class TestGroups:
    def test_a_group_is_created_changed_and_deleted(self, browser: Client, alice: User) -> None:
        assert "No groups yet" in browser.get(address("people_groups")).text
        form = {"name": "Legal", "role": Role.AUDITOR, "mfa_required": "on"}
        browser.post(address("people_new_group"), form)
        group = Group.objects.get(name="Legal")
        assert group.profile.mfa_required
        members = address("people_members", group.pk)
        User.objects.create_user("bob")
        added = browser.post(members, {"names": "alice, BOB;"}, follow=True)
        assert "2 members added." in said(added)
        unknown = browser.post(members, {"names": "alice nobody"}, follow=True)
        assert "There is no user nobody. Nobody was added." in said(unknown)
        removed = browser.post(members, {"remove": [alice.pk]}, follow=True)
        assert "1 member removed." in said(removed)
        page = address("people_group", group.pk)
        saved = browser.post(page, {"name": "Law", "role": Role.USER}, follow=True)
        assert "Saved." in said(saved)
        delete = address("people_delete_group", group.pk)
        assert "Delete the group <strong>Law</strong>?" in browser.post(delete).text
        hold = LegalHold.objects.create(group=group, reason="Case 7")
        kept = browser.post(delete, {"confirmed": 1}, follow=True)
        assert "A legal hold protects Law" in said(kept)
        hold.delete()
        gone = browser.post(delete, {"confirmed": 1}, follow=True)
        assert "Law was deleted." in said(gone)

    def test_a_group_of_the_directory_shows_why_it_is_read_only(
        self, browser: Client, alice: User
    ) -> None:
        group = Group.objects.create(name="engineering")
        GroupProfile.objects.filter(group=group).update(source="directory")
        alice.groups.add(group)
        text = browser.get(address("people_group", group.pk)).text
        assert "are set in the directory" in text
        assert 'name="remove"' not in text
        response = browser.post(
            address("people_members", group.pk), {"remove": [alice.pk]}, follow=True
        )
        assert "come from the directory" in said(response)
        data = {"name": "renamed", "role": Role.AUDITOR}
        browser.post(address("people_group", group.pk), data)
        group.refresh_from_db()
        assert (group.name, group.profile.role) == ("engineering", Role.AUDITOR)
        listed = browser.get(f"{address('people_groups')}?source=directory").text
        assert "engineering" in listed
        nothing = browser.get(f"{address('people_groups')}?source=local").text
        assert "No groups match" in nothing

    def test_the_group_of_the_last_administrator_stays(self, browser: Client, root: User) -> None:
        group = people.create_group(ROOT, "owners", role=Role.ADMINISTRATOR)
        people.add_members(ROOT, group, [root])
        people.set_role(ROOT, [root], Role.USER)
        for name, data in (
            ("people_group", {"name": "owners", "role": Role.USER}),
            ("people_delete_group", {"confirmed": 1}),
            ("people_members", {"remove": [root.pk]}),
        ):
            response = browser.post(address(name, group.pk), data, follow=True)
            assert "at least one active administrator" in said(response), name


class TestJoining:
    def test_an_invitation_is_created_and_revoked(self, browser: Client) -> None:
        form = {"email": "eve@example.org", "role": Role.USER, "days": 3}
        response = browser.post(address("people_invitations"), form)
        assert response.context["url"] in response.text
        invitation = Invitation.objects.get()
        listed = browser.get(address("people_invitations")).text
        assert "eve@example.org" in listed
        assert response.context["url"] not in listed
        url = address("people_revoke_invitation", invitation.pk)
        assert "was revoked" in said(browser.post(url, follow=True))
        assert "already used or revoked" in said(browser.post(url, follow=True))
        wrong = browser.post(address("people_invitations"), {**form, "days": 900})
        assert wrong.context["form"].errors["days"]

    def test_sign_ups_are_approved_and_refused(self, browser: Client) -> None:
        for name in ("frank", "grace"):
            user = User.objects.create_user(name, is_active=False)
            SignUp.objects.create(user=user, waiting_for="approval")
        assert "2 sign-ups wait for approval." in browser.get(address("people")).text
        frank, grace = User.objects.get(username="frank"), User.objects.get(username="grace")
        approve = browser.post(address("people_approve", frank.pk), follow=True)
        assert "frank can sign in now." in said(approve)
        refuse = browser.post(address("people_refuse", grace.pk), follow=True)
        assert "The sign-up of grace was refused." in said(refuse)
        assert User.objects.get(pk=frank.pk).is_active
        assert not User.objects.filter(pk=grace.pk).exists()
        again = browser.post(address("people_approve", frank.pk), follow=True)
        assert "no longer waits" in said(again)


class TestCredentials:
    def test_all_keys_are_listed_and_revoked(self, browser: Client, alice: User) -> None:
        assert "No API keys yet" in browser.get(address("people_keys")).text
        key, text = keys.create(alice, name="notebook")
        listed = browser.get(f"{address('people_keys')}?q=ALICE&state=usable").text
        assert str(key) in listed
        assert text not in listed
        assert "No keys match" in browser.get(f"{address('people_keys')}?state=expired").text
        url = address("people_revoke_key", key.pk)
        back = f"{address('people_keys')}?state=revoked"
        response = browser.post(url, {"next": back})
        assert (response.status_code, response["Location"]) == (302, back)
        away = browser.post(url, {"next": "https://evil.example.org/"})
        assert away["Location"] == address("people_keys")
        assert str(key) in browser.get(back).text

    def test_a_session_is_ended(self, browser: Client, alice: User) -> None:
        other = Client()
        other.force_login(alice)
        alice.browser_sessions.update(address="10.1.2.3")
        row = alice.browser_sessions.get()
        listed = browser.get(f"{address('people_sessions')}?q=10.1").text
        assert "alice" in listed
        assert str(other.session.session_key) not in listed
        response = browser.post(address("people_end_session", row.pk), follow=True)
        assert "The session of alice was ended." in said(response)
        assert other.get("/accounts/keys/").status_code == 302
        assert "No sessions match" in browser.get(f"{address('people_sessions')}?q=10.1").text


def test_an_auditor_sees_all_and_changes_nothing(root: User, alice: User) -> None:
    auditor = User.objects.create_user("auditor", role=Role.AUDITOR)
    group = people.create_group(ROOT, "team")
    people.add_members(ROOT, group, [alice])
    keys.create(alice)
    browser = Client()
    browser.force_login(auditor)
    pages = ["people", "people_groups", "people_invitations", "people_sessions", "people_keys"]
    shown = [address(name) for name in pages]
    shown += [address("people_user", alice.pk), address("people_group", group.pk)]
    for url in shown:
        response = browser.get(url)
        assert response.status_code == 200
        main = response.text.partition("<main")[2].partition("</main>")[0]
        posting = re.findall(r'<form[^>]*method="post"[^>]*>', main)
        assert all("data-selection" not in form for form in posting), url
        assert "<button" not in re.sub(r"<button[^>]*>\s*Apply\s*</button>", "", main), url
    for url in shown:
        assert browser.post(url, {"form": "profile", "name": "x"}).status_code in {302, 403, 405}
    assert User.objects.get(pk=alice.pk).first_name == "Alice"
