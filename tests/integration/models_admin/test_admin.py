"""The administration: access, contents, and secrets that it must never show."""

import re

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.admin.utils import label_for_field
from django.contrib.auth.models import Group, Permission
from django.http import HttpRequest
from django.test import RequestFactory
from django.urls import reverse
from django.utils import translation

from chatsite.accounts.models import User
from chatsite.conversations.models import Conversation, Generation, Message
from chatsite.hosts import status
from models_admin import catalogue
from models_admin.adminsite.site import site
from models_admin.models import ModelName, ModelVersion
from models_admin.store import files
from tests.support.gguf import VOCABULARY, write

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("data_dir", "no_hosts")]

SECRET = "what-alice-wrote"


@pytest.fixture
def no_hosts(monkeypatch):
    monkeypatch.setattr(status, "ask_from_thread", list)


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
    """Return a client of a staff user with every permission who is no superuser."""
    user = User.objects.create_user("staff", is_staff=True)
    user.user_permissions.set(Permission.objects.all())
    client.force_login(user)
    return user


@pytest.fixture
def tiny(tmp_path):
    return files.import_file(write(tmp_path / "tiny.gguf", extra=(VOCABULARY,)), "tiny")


@pytest.fixture
def generation(alice):
    conversation = Conversation.objects.create(owner=alice, title=SECRET)
    message = Message.objects.create(conversation=conversation, role="assistant", content=SECRET)
    return Generation.objects.create(
        owner=alice, message=message, model="tiny:latest", timings={"ttft": 321.4}
    )


def pages(*objects) -> list[str]:
    """Return every page of the administration for these objects and their kinds."""
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


def test_anonymous_visitors_are_redirected_to_the_only_sign_in_page(
    client, alice, tiny, generation
):
    for page in pages(alice, tiny, tiny.version, generation):
        response = client.get(page)
        assert response.status_code == 302, page
        after = client.get(response.url)
        assert after.url.startswith("/accounts/login/?next=/admin/"), page


def test_users_who_are_not_staff_are_refused(client, alice, tiny, generation):
    client.force_login(alice)
    for page in pages(alice, tiny, tiny.version, generation):
        for answer in (client.get(page, follow=True), client.post(page, {}, follow=True)):
            assert answer.status_code == 403, page


@pytest.mark.usefixtures("root")
def test_an_inactive_superuser_is_refused(client):
    User.objects.update(is_active=False)
    assert client.get("/admin/").status_code == 302


@pytest.mark.usefixtures("root")
def test_the_sign_in_page_redirects_signed_in_staff_to_the_overview(client):
    assert client.get("/admin/login/").url == "/admin/"
    assert client.get("/admin/password_change/").url == "/accounts/password/change/"


@pytest.mark.usefixtures("root")
def test_no_page_shows_users_texts_or_breaks_the_content_policy(client, alice, tiny, generation):
    forbidden = re.compile(r"<script(?![^>]*(\bsrc=|json))|<style|\sstyle=|\son[a-z]+=|javascript:")
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


class TestPeople:
    @pytest.mark.usefixtures("root", "generation")
    def test_deleting_a_user_counts_and_deletes_their_data(self, client, alice):
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
    def test_two_users_can_not_share_a_name_in_another_case(self, client, alice):
        bob = User.objects.create_user("bob")
        page = reverse("admin:accounts_user_change", args=[bob.pk])
        data = {"username": "ALICE", "date_joined_0": "2026-01-01", "date_joined_1": "00:00"}
        assert "That username is already taken." in client.post(page, data).text
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
        assert "released from quarantine" in client.post(page, data, follow=True).text
        assert catalogue.offered()

    def test_digest_and_size_can_not_be_changed(self, client, tiny):
        page = reverse("admin:models_admin_modelversion_change", args=[tiny.version_id])
        client.post(page, {"digest": "b" * 64, "size": 1, "quarantined": "x"})
        version = ModelVersion.objects.get()
        assert (version.size, version.quarantined) == (tiny.version.size, "")

    def test_a_version_is_not_deleted_by_itself(self, client, tiny):
        page = reverse("admin:models_admin_modelversion_delete", args=[tiny.version_id])
        assert client.post(page, {"post": "yes"}).status_code == 403


def test_page_2_the_default_is_set_in_the_list_of_models(client, root, tiny, tmp_path):
    page = reverse("admin:models_admin_modelname_changelist")
    values = {"tokenizer.chat_template": "{{ messages }}"}
    names = ("one", "two")
    one, two = (
        files.import_file(write(tmp_path / name, values={**values, "general.name": name}), name)
        for name in names
    )
    assert "default, chosen automatically" in client.get(page).text
    assert client.post(page, {"make_default": two.pk}).status_code == 302
    assert catalogue.default_name() == "two:latest"
    text = client.get(page).text
    assert f'name="make_default" value="{one.pk}"' in text
    assert f'name="make_default" value="{two.pk}"' not in text
    # A model without a chat template is refused with an explanation.
    assert "chat template" in client.post(page, {"make_default": tiny.pk}, follow=True).text
    assert catalogue.default_name() == "two:latest"
    action = {"action": "choose_default", "_selected_action": [one.pk]}
    client.post(page, action)
    assert not ModelName.objects.filter(is_default=True).exists()


def test_page_2_the_default_needs_the_right_to_change_models(client, staff, tiny):
    staff.user_permissions.remove(Permission.objects.get(codename="change_modelname"))
    page = reverse("admin:models_admin_modelname_changelist")
    assert client.post(page, {"make_default": tiny.pk}).status_code == 403


GENERATIONS = "admin:chat_generation_changelist"


def test_page_8_an_administrator_stops_a_running_answer(
    client, root, alice, generation, redis_url, caplog
):
    page = reverse(GENERATIONS)
    assert f'name="stop" value="{generation.pk}"' in client.get(page).text
    text = client.post(page, {"stop": generation.pk}, follow=True).text
    assert "Stopped the answer for alice." in text
    generation.refresh_from_db()
    assert (generation.state, generation.finish_reason) == ("cancelled", "administrator")
    assert generation.message.content == SECRET
    (logged,) = [one for one in caplog.records if one.msg == "Administrator stopped a generation"]
    assert (vars(logged)["generation"], vars(logged)["administrator"]) == (generation.pk, root.pk)
    (entry,) = LogEntry.objects.filter(object_id=str(generation.pk))
    assert entry.user == root
    text = client.post(page, {"stop": generation.pk}, follow=True).text
    assert "has already ended" in text
    assert 'name="stop"' not in text


def test_page_8_stopping_needs_a_right(client, staff, generation, redis_url):
    page = reverse(GENERATIONS)
    assert 'name="stop"' in client.get(page).text
    staff.user_permissions.remove(Permission.objects.get(codename="change_generation"))
    assert 'name="stop"' not in client.get(page).text
    assert client.post(page, {"stop": generation.pk}).status_code == 403
    generation.refresh_from_db()
    assert generation.state == "queued"


def test_page_8_an_answer_that_can_not_be_stopped_keeps_running(client, root, generation, settings):
    settings.REDIS_URL = "unix:///nowhere"
    text = client.post(reverse(GENERATIONS), {"stop": generation.pk}, follow=True).text
    assert "is stopped" not in text
    assert "messagelist" in text
    generation.refresh_from_db()
    assert (generation.state, generation.finish_reason) == ("queued", "")


def test_page_49_availability_is_a_switch_in_the_row(client, root, tiny):
    page = reverse("admin:models_admin_modelname_changelist")

    def switch() -> str:
        text = client.get(page).text
        found = re.search(r'<button[^>]*role="switch"[^>]*>', text)
        assert found
        return found[0]

    assert 'aria-checked="true"' in switch()
    assert "Available to users: tiny:latest" in switch()
    text = client.post(page, {"switch": tiny.pk}, follow=True).text
    assert "tiny:latest is hidden from users." in text
    assert 'aria-checked="false"' in switch()
    assert not ModelName.objects.get().enabled
    text = client.post(page, {"switch": tiny.pk}, follow=True).text
    assert "tiny:latest is available to users." in text
    entries = LogEntry.objects.filter(object_id=str(tiny.pk)).order_by("action_time")
    assert [entry.change_message for entry in entries] == ["hidden", "available"]
    for label in ("Update to latest version", "Roll back to previous version", "Check for updates"):
        assert label in text


def test_page_49_the_switch_needs_the_right_to_change_models(client, staff, tiny):
    staff.user_permissions.remove(Permission.objects.get(codename="change_modelname"))
    page = reverse("admin:models_admin_modelname_changelist")
    assert client.post(page, {"switch": tiny.pk}).status_code == 403
    assert ModelName.objects.get().enabled


def test_page_50_every_page_has_a_menu_for_phones(client, root, alice):
    for page in (reverse("admin:jobs"), reverse("admin:models_admin_modelname_changelist")):
        menu = client.get(page).text.partition('id="admin-menu"')[2].partition("</aside>")[0]
        for name in ("index", "jobs", "hosts", "models_admin_modelname_changelist"):
            assert f'href="{reverse(f"admin:{name}")}"' in menu
        assert menu.count(f'href="{page}"\n                   aria-current="page"') == 1


def test_page_70_inputs_of_dates_and_times_have_labels(client, root, alice):
    text = client.get(reverse("admin:accounts_user_change", args=[alice.pk])).text
    for field in ("last_login", "date_joined"):
        for part in (0, 1):
            assert f'<label for="id_{field}_{part}">' in text
            assert f'id="id_{field}_{part}"' in text


def test_page_66_every_column_and_label_is_translated():
    """Django falls back to the name of a field, which is English."""
    request = RequestFactory().get("/admin/")
    request.user = User.objects.create_superuser("root")
    english = set()
    with translation.override("zh-hans"):
        for model, page in site._registry.items():
            columns = [name for name in page.get_list_display(request) if isinstance(name, str)]
            labels = [str(label_for_field(name, model, page)) for name in columns]
            labels += [str(model._meta.verbose_name), str(model._meta.app_config.verbose_name)]
            english |= {label for label in labels if label.isascii()}
    assert english == set()
