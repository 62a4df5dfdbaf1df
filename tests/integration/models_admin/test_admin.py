"""The administration: who gets in, what it shows, and what it must never show."""

import re

import pytest
from django.contrib.auth.models import Group, Permission
from django.http import HttpRequest
from django.urls import reverse

from chatsite.accounts.models import User
from chatsite.chat.models import Conversation, Generation, Message
from chatsite.inference import status
from models_admin import catalogue, dashboard, store
from models_admin.models import ModelName, ModelVersion
from models_admin.site import site
from tests.support.gguf import write

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("data_dir", "no_hosts")]

SECRET = "what-alice-wrote"


@pytest.fixture
def no_hosts(monkeypatch):
    monkeypatch.setattr(dashboard, "hosts", list)


@pytest.fixture
def alice():
    return User.objects.create_user("alice")


@pytest.fixture
def root(client):
    user = User.objects.create_superuser("root")
    client.force_login(user)
    return user


@pytest.fixture
def staff(client):
    """Staff who may do everything that a right can be given for, but are no superuser."""
    user = User.objects.create_user("staff", is_staff=True)
    user.user_permissions.set(Permission.objects.all())
    client.force_login(user)
    return user


@pytest.fixture
def tiny(tmp_path):
    return store.import_file(write(tmp_path / "tiny.gguf"), "tiny")


@pytest.fixture
def generation(alice):
    conversation = Conversation.objects.create(owner=alice, title=SECRET)
    message = Message.objects.create(conversation=conversation, role="assistant", content=SECRET)
    return Generation.objects.create(
        owner=alice, message=message, model="tiny:latest", timings={"ttft": 321.4}
    )


def pages(*objects) -> list[str]:
    """Every page of the administration that these objects and their kinds have."""
    found = [reverse("admin:index"), reverse("admin:app_list", args=["models_admin"])]
    for model in site._registry:
        name = f"admin:{model._meta.app_label}_{model._meta.model_name}"
        found += [reverse(f"{name}_changelist"), reverse(f"{name}_add")]
    for item in objects:
        name = f"admin:{item._meta.app_label}_{item._meta.model_name}"
        found += [
            reverse(f"{name}_{view}", args=[item.pk]) for view in ("change", "delete", "history")
        ]
        if isinstance(item, User):
            found.append(reverse("admin:auth_user_password_change", args=[item.pk]))
    return found


def test_strangers_are_sent_to_the_one_sign_in(client, alice, tiny, generation):
    for page in pages(alice, tiny, tiny.version, generation):
        response = client.get(page)
        assert response.status_code == 302, page
        after = client.get(response.url)
        assert after.url.startswith("/accounts/login/?next=/admin/"), page


def test_people_who_are_not_staff_are_refused(client, alice, tiny, generation):
    client.force_login(alice)
    for page in pages(alice, tiny, tiny.version, generation):
        for answer in (client.get(page, follow=True), client.post(page, {}, follow=True)):
            assert answer.status_code == 403, page


@pytest.mark.usefixtures("root")
def test_an_inactive_superuser_is_out(client):
    User.objects.update(is_active=False)
    assert client.get("/admin/").status_code == 302


@pytest.mark.usefixtures("root")
def test_the_sign_in_page_sends_those_who_are_in_to_the_overview(client):
    assert client.get("/admin/login/").url == "/admin/"
    assert client.get("/admin/password_change/").url == "/accounts/password/change/"


@pytest.mark.usefixtures("root")
def test_no_page_shows_what_people_wrote_or_breaks_the_content_policy(
    client, alice, tiny, generation
):
    forbidden = re.compile(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son[a-z]+=|javascript:")
    for page in pages(alice, tiny, tiny.version, generation):
        response = client.get(page)
        assert response.status_code in {200, 403}, page
        assert SECRET not in response.text, page
        assert not forbidden.search(response.text), page
        policy = response["Content-Security-Policy"]
        assert "script-src 'self'" in policy
        assert "unsafe" not in policy


def test_conversations_and_messages_have_no_pages():
    assert not {Conversation, Message} & set(site._registry)
    shown = set(site._registry[Generation].get_fields(HttpRequest()))
    assert not {"message", "params"} & shown


@pytest.mark.usefixtures("root")
def test_generations_are_read_only(client, generation):
    page = reverse("admin:chat_generation_change", args=[generation.pk])
    assert "321" in client.get(reverse("admin:chat_generation_changelist")).text
    assert client.post(page, {"state": "done"}).status_code == 403
    assert client.post(page.replace("change", "delete"), {"post": "yes"}).status_code == 403
    assert client.get(reverse("admin:chat_generation_add")).status_code == 403


class TestOverview:
    @pytest.mark.usefixtures("root", "generation")
    def test_it_counts(self, client, tiny):
        catalogue.quarantine(tiny.version.digest, "signal 11")
        response = client.get("/admin/")
        figures = response.context["dashboard"]
        assert (figures.people, figures.administrators) == (2, 1)
        assert (figures.waiting, figures.running) == (1, 0)
        assert figures.stored == tiny.version.size
        assert "signal 11" in response.text
        assert "No host is running" in response.text

    @pytest.mark.usefixtures("root")
    def test_it_shows_hosts(self, client, monkeypatch):
        model = status.ModelStatus("tiny:latest", "a", "ready", slots=8, busy=3, rss_bytes=1 << 20)
        found = [status.HostStatus("h", "box-1", 1, (model,)), status.HostStatus("i", "box-2", 1)]
        monkeypatch.setattr(dashboard, "hosts", lambda: found)
        text = client.get("/admin/").text
        for part in ("box-1", "3 / 8", "1.0\xa0MB", "box-2", "no model in memory"):
            assert part in text

    @pytest.mark.usefixtures("root")
    def test_it_works_without_redis(self, client, monkeypatch, settings):
        monkeypatch.undo()
        settings.REDIS_URL = "unix:///nowhere/redis.sock"
        assert "Redis does not answer" in client.get("/admin/").text


class TestPeople:
    @pytest.mark.usefixtures("root", "generation")
    def test_deleting_somebody_counts_what_goes_and_deletes_it(self, client, alice):
        page = reverse("admin:accounts_user_delete", args=[alice.pk])
        assert "Conversations: 1" in client.get(page).text
        client.post(page, {"post": "yes"})
        assert not User.objects.filter(pk=alice.pk).exists()
        assert not Message.objects.exists()

    @pytest.mark.usefixtures("root", "generation")
    def test_so_does_deleting_several(self, client, alice):
        data = {"action": "delete_selected", "_selected_action": [alice.pk]}
        page = reverse("admin:accounts_user_changelist")
        asked = client.post(page, data)
        assert SECRET not in asked.text
        client.post(page, data | {"post": "yes"})
        assert not User.objects.filter(pk=alice.pk).exists()

    @pytest.mark.usefixtures("root")
    def test_two_people_can_not_share_a_name_in_another_case(self, client, alice):
        bob = User.objects.create_user("bob")
        page = reverse("admin:accounts_user_change", args=[bob.pk])
        data = {"username": "ALICE", "date_joined_0": "2026-01-01", "date_joined_1": "00:00"}
        assert "of this name already" in client.post(page, data).text
        bob.refresh_from_db()
        assert bob.username == "bob"

    def test_staff_can_not_raise_themselves_or_others(self, client, staff, alice):
        for person in (staff, alice):
            page = reverse("admin:accounts_user_change", args=[person.pk])
            data = {"username": person.username, "is_active": "on", "is_staff": "on"}
            data |= {"is_superuser": "on", "date_joined_0": "2026-01-01", "date_joined_1": "00:00"}
            client.post(page, data)
            person.refresh_from_db()
            assert not person.is_superuser
        assert not alice.is_staff

    @pytest.mark.usefixtures("staff")
    def test_staff_can_not_touch_a_superuser(self, client):
        root = User.objects.create_superuser("root", password="before")
        change = reverse("admin:accounts_user_change", args=[root.pk])
        password = reverse("admin:auth_user_password_change", args=[root.pk])
        new = {"password1": "after-after-1", "password2": "after-after-1"}
        assert client.post(change, {"username": "x"}).status_code == 403
        assert client.post(password, new).status_code == 403
        delete = reverse("admin:accounts_user_delete", args=[root.pk])
        assert client.post(delete, {"post": "yes"}).status_code == 403
        page = reverse("admin:accounts_user_changelist")
        data = {"action": "delete_selected", "_selected_action": [root.pk], "post": "yes"}
        client.post(page, data)
        root.refresh_from_db()
        assert root.check_password("before")

    def test_staff_can_not_widen_a_group_that_they_are_in(self, client, staff):
        group = Group.objects.create(name="helpers")
        staff.groups.add(group)
        page = reverse("admin:auth_group_change", args=[group.pk])
        assert client.post(page, {"name": "other"}).status_code == 403


@pytest.mark.usefixtures("root")
class TestModels:
    def test_another_name_is_normalised(self, client, tiny):
        page = reverse("admin:models_admin_modelname_add")
        client.post(page, {"name": "Small", "version": tiny.version_id, "enabled": "on"})
        assert ModelName.objects.filter(name="Small:latest").exists()

    @pytest.mark.parametrize("name", ["../../x", "TINY", "模型", "x" * 150])
    def test_a_bad_or_taken_name_is_refused(self, client, tiny, name):
        page = reverse("admin:models_admin_modelname_add")
        response = client.post(page, {"name": name, "version": tiny.version_id})
        assert response.status_code == 200
        assert response.context["adminform"].form.errors
        assert ModelName.objects.count() == 1

    def test_deleting_the_last_name_removes_the_file(
        self, client, tiny, django_capture_on_commit_callbacks
    ):
        page = reverse("admin:models_admin_modelname_delete", args=[tiny.pk])
        with django_capture_on_commit_callbacks(execute=True):
            client.post(page, {"post": "yes"})
        assert not ModelVersion.objects.exists()
        assert not tiny.version.path.exists()

    def test_the_quarantine_is_lifted(self, client, tiny):
        catalogue.quarantine(tiny.version.digest, "signal 11")
        page = reverse("admin:models_admin_modelversion_changelist")
        data = {"action": "lift_quarantine", "_selected_action": [tiny.version_id]}
        assert "may be loaded again" in client.post(page, data, follow=True).text
        assert catalogue.offered()

    def test_digest_and_size_can_not_be_changed(self, client, tiny):
        page = reverse("admin:models_admin_modelversion_change", args=[tiny.version_id])
        client.post(page, {"digest": "b" * 64, "size": 1, "quarantined": "x"})
        version = ModelVersion.objects.get()
        assert (version.size, version.quarantined) == (tiny.version.size, "")

    def test_a_version_is_not_deleted_by_itself(self, client, tiny):
        page = reverse("admin:models_admin_modelversion_delete", args=[tiny.version_id])
        assert client.post(page, {"post": "yes"}).status_code == 403
