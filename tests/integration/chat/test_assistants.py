"""Assistants: who may use which, and what each adds to a request."""

from __future__ import annotations

import uuid
from datetime import timedelta

import pytest
from django.contrib.auth.models import Group
from django.test import Client
from django.utils import timezone

from chatsite.accounts.models import User
from chatsite.chat import turns
from chatsite.chat.protocol import Regenerate, Send
from chatsite.conversations import schema, serialize
from chatsite.conversations.assistants import presets
from chatsite.conversations.assistants.models import Assistant
from chatsite.conversations.assistants.presets import AssistantMissing
from chatsite.errors import ModelMissing
from chatsite.retention.tasks import purge_deleted
from models_admin.config import custom
from tests.integration.chat.test_turns import SYSTEM, answer

FORM = {
    "name": "Pirate",
    "icon": "🏴‍☠️",
    "description": "Talks like one",
    "system": "Arr.\r\nAhoy.",
    "temperature": "1.5",
    "num_predict": "50",
    "suggestion_lines": "  Where is   the gold?\r\n\r\nSing!",
}


def made(model: str, **values: object) -> Assistant:
    values = {"name": "Pirate", "model": model, "system": "Arr.", **values}
    return Assistant.objects.create(**values)


def send(user: User, assistant: Assistant, model: str = "other:1") -> turns.Turn:
    command = Send(str(uuid.uuid4()), "Where?", model, assistant=str(assistant.pk))
    return turns.make(user, command)


def signed_in(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


def test_an_administrators_instructions_take_the_models_place(alice: User, model: str) -> None:
    assistant = made(model, parameters={"temperature": 1.5, "top_k": 3})
    turn = send(alice, assistant)
    job = turns.queued_request(turn)
    assert [one.content for one in job.messages] == ["Arr.", "Where?"]
    assert (job.model, job.params.temperature, job.params.top_k) == (model, 1.5, 3)
    assert job.options.administered == 1
    shown = serialize.message(turn.answer).generation
    assert shown
    assert shown.assistant == schema.AssistantFace(
        str(assistant.pk), "Pirate", presets.DEFAULT_ICON
    )


def test_a_users_own_instructions_are_shared_with_no_other_user(alice: User, model: str) -> None:
    custom.create("shown", f"FROM {model}\nMESSAGE user Who?\nMESSAGE assistant I.")
    turn = send(alice, made("shown:latest", owner=alice))
    job = turns.queued_request(turn)
    assert [one.content for one in job.messages] == ["Arr.", "Who?", "I.", "Where?"]
    assert job.options.administered == 0


def test_without_instructions_those_of_the_model_apply(alice: User, model: str) -> None:
    job = turns.queued_request(send(alice, made(model, system="", owner=alice)))
    assert job.messages[0] == SYSTEM
    assert job.options.administered == 1


def test_users_see_global_group_and_own_assistants(alice: User, bob: User, model: str) -> None:
    group = Group.objects.create(name="sailors")
    alice.groups.add(group)
    everybody, sailors = made(model, name="all"), made(model, name="crew", group=group)
    own, off = made(model, name="own", owner=alice), made(model, name="off", enabled=False)
    gone = made("gone:1", name="gone")
    names = {"alice": ["own", "all", "crew"], "bob": ["all"]}
    for user in (alice, bob):
        found = presets.offered(user, {model})
        assert [one.name for one in found] == names[user.username]
    for hidden in (sailors, own, off):
        with pytest.raises(AssistantMissing):
            send(bob, hidden)
    assert send(bob, everybody).generation.assistant == everybody
    with pytest.raises(ModelMissing):
        send(bob, gone)


def test_the_next_answer_may_use_another_assistant_and_answers_outlive_a_deleted_one(
    alice: User, model: str
) -> None:
    assistant = made(model, owner=alice)
    first = send(alice, assistant)
    answer(first, "1")
    plain = turns.make(alice, Regenerate("r", str(first.answer.pk), model))
    assert plain.generation.assistant is None
    assert turns.queued_request(plain).messages[0] == SYSTEM
    assistant.delete()
    first.generation.refresh_from_db()
    assert serialize.generation(first.generation).assistant is None


def test_users_create_change_and_delete_their_own(alice: User, bob: User, model: str) -> None:
    client, other = signed_in(alice), signed_in(bob)
    saved = client.post("/accounts/assistants/", {**FORM, "model": model}, follow=True)
    assert "Pirate was saved." in saved.content.decode()
    one = Assistant.objects.get()
    assert (one.owner, one.system, one.icon) == (alice, "Arr.\nAhoy.", "🏴‍☠️")
    assert one.parameters == {"temperature": 1.5, "num_predict": 50}
    assert one.suggestions == ["Where is the gold?", "Sing!"]
    address = f"/accounts/assistants/{one.pk}/"
    page = client.get(address).content.decode()
    assert 'value="1.5"' in page
    assert "Where is the gold?\nSing!" in page
    assert other.get(address).status_code == 404
    assert other.post(f"{address}delete/").status_code == 404
    client.post(address, {**FORM, "model": model, "name": "Captain", "temperature": ""})
    one.refresh_from_db()
    assert (one.name, one.parameters) == ("Captain", {"num_predict": 50})
    client.post(f"{address}delete/")
    assert not Assistant.objects.exists()


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"temperature": "9"}, "temperature"),
        ({"top_k": "-1"}, "top_k"),
        ({"top_p": "0"}, "top_p"),
        ({"icon": "abc"}, "icon"),
        ({"name": ""}, "name"),
        ({"model": "gone:1"}, "model"),
        ({"suggestion_lines": "x\n" * 7}, "suggestion_lines"),
        ({"system": "x" * 20_001}, "system"),
    ],
)
def test_invalid_input_is_reported_at_its_field(
    alice: User, model: str, change: dict[str, str], field: str
) -> None:
    form = {**FORM, "model": model, **change}
    response = signed_in(alice).post("/accounts/assistants/", form)
    errors = response.context["form"].errors
    assert list(errors) == [field]
    if field in {"temperature", "top_k"}:
        assert "must be from 0" in str(errors)
    assert not Assistant.objects.exists()


def test_administrators_create_them_for_all_users_or_a_group(alice: User, model: str) -> None:
    made(model, name="private", owner=alice)
    client = signed_in(User.objects.create_superuser("root", password="x"))
    group = Group.objects.create(name="sailors")
    assert "private" not in client.get("/admin/assistants/assistant/").content.decode()
    form = {**FORM, "model": model, "group": str(group.pk), "enabled": "on"}
    response = client.post("/admin/assistants/assistant/add/", form)
    assert response.status_code == 302, response.content.decode()
    one = Assistant.objects.get(owner=None)
    assert (one.group, one.parameters["temperature"]) == (group, 1.5)
    address = f"/admin/assistants/assistant/{one.pk}/change/"
    assert 'value="1.5"' in client.get(address).content.decode()
    refused = client.post(address, {**form, "temperature": "9"})
    assert refused.status_code == 200
    client.post(address, {**form, "group": "", "temperature": "0.5"})
    one.refresh_from_db()
    assert (one.group, one.parameters["temperature"]) == (None, 0.5)


def test_page_7_a_deleted_assistant_can_be_restored_for_an_hour(
    alice: User, bob: User, model: str
) -> None:
    client, other = signed_in(alice), signed_in(bob)
    one = made(model, name="Pirate", owner=alice)
    turn = send(alice, one)
    answer(turn, "Arr")
    address = f"/accounts/assistants/{one.pk}/"
    page = client.post(f"{address}delete/", follow=True).content.decode()
    assert "Pirate was deleted." in page
    assert f"{address}restore/" in page
    assert presets.offered(alice, {model}) == []
    with pytest.raises(presets.AssistantMissing):
        presets.find(alice, str(one.pk))
    assert other.get("/accounts/assistants/", {"deleted": str(one.pk)}).context["deleted"] is None
    assert client.get("/accounts/assistants/", {"deleted": "x"}).context["deleted"] is None
    assert other.post(f"{address}restore/").status_code == 404
    client.post(f"{address}restore/")
    assert [item.name for item in presets.offered(alice, {model})] == ["Pirate"]
    # The answers that it wrote refer to it again.
    turn.generation.refresh_from_db()
    assert turn.generation.assistant == one
    client.post(f"{address}delete/")
    Assistant.with_deleted.update(deleted_at=timezone.now() - timedelta(hours=2))
    purge_deleted()
    assert client.post(f"{address}restore/").status_code == 404
    assert not Assistant.with_deleted.exists()
