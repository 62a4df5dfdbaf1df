"""Turns in SQL: the tree, its limits, ownership, and idempotent commands."""

from __future__ import annotations

import uuid

import msgspec
import pytest
from django.conf import settings

from chatsite.accounts.models import User
from chatsite.chat import turns
from chatsite.chat.protocol import Continue, Edit, Regenerate, Send, TurnCommand
from chatsite.conversations import history, prompt, serialize, titles
from chatsite.conversations.models import Conversation, Generation, GenerationState, Message
from chatsite.engine.contract.messages import ChatMessage, SamplingParams
from chatsite.errors import (
    Busy,
    EmptyMessage,
    MessageTooLong,
    ModelMissing,
    NotFound,
    NothingToContinue,
)
from models_admin import catalogue
from models_admin.config import custom
from models_admin.models import ModelName
from tests.support.races import at_once, on_postgresql

SYSTEM = ChatMessage("system", settings.ENV.system_prompt)


def send(user: User, content: str, model: str, after: turns.Turn | None = None) -> turns.Turn:
    command = Send(
        str(uuid.uuid4()),
        content,
        model,
        conversation=str(after.conversation.pk) if after else None,
        parent=str(after.answer.pk) if after else None,
    )
    return turns.make(user, command)


def answer(turn: turns.Turn, text: str, state: GenerationState = GenerationState.DONE) -> None:
    Message.objects.filter(pk=turn.answer.pk).update(content=text)
    assert Generation.advance(turn.generation.pk, to=state, attempt=1)


def test_a_first_message_begins_a_conversation(alice: User, model: str) -> None:
    turn = send(alice, "What is\n the  capital of France?", model)
    assert turn.new_conversation
    assert turn.conversation.title == "What is the capital of France?"
    assert turn.generation.state == GenerationState.QUEUED
    assert turn.user_message is not None
    assert turn.answer.parent == turn.user_message
    assert turn.conversation.head == turn.answer
    job = turns.queued_request(turn)
    assert job.messages == (SYSTEM, ChatMessage("user", "What is\n the  capital of France?"))
    assert (job.owner, job.model) == (str(alice.pk), model)
    assert job.options.administered == 1


def test_a_custom_model_brings_its_own_prompt_and_parameters(alice: User, model: str) -> None:
    custom.create(
        "pirate",
        f"FROM {model}\nSYSTEM Arr.\nPARAMETER top_k 7\nPARAMETER stop x\n"
        "MESSAGE user Who?\nMESSAGE assistant I.",
    )
    job = turns.queued_request(send(alice, "Where?", "Pirate"))
    assert [m.content for m in job.messages] == ["Arr.", "Who?", "I.", "Where?"]
    assert (job.params.top_k, job.params.stop) == (7, ("x",))
    assert job.options.administered == 3


def test_a_long_title_ends_at_sixty_characters() -> None:
    assert len(titles.first_line("word " * 50)) == 60


def test_the_prompt_is_the_branch(alice: User, model: str) -> None:
    first = send(alice, "one", model)
    answer(first, "1")
    second = send(alice, "two", model, after=first)
    answer(second, "2")
    edited = turns.make(alice, Edit("e", str(second.user_message.pk), "zwei", model))  # type: ignore[union-attr]
    assert edited.user_message is not None
    assert [m.content for m in prompt.build(edited.user_message)] == [
        "one",
        "1",
        "zwei",
    ]
    again = turns.make(alice, Regenerate("r", str(first.answer.pk), model))
    assert again.user_message is None
    assert again.answer.parent_id == first.answer.parent_id
    assert [m.content for m in turns.queued_request(again).messages] == [SYSTEM.content, "one"]


def test_empty_answers_are_left_out_and_neighbours_joined(alice: User, model: str) -> None:
    first = send(alice, "one", model)
    answer(first, "", GenerationState.FAILED)
    second = send(alice, "two", model, after=first)
    assert second.user_message is not None
    assert prompt.build(second.user_message) == (ChatMessage("user", "one\n\ntwo"),)


def test_reasoning_of_earlier_answers_is_not_sent_again(alice: User, model: str) -> None:
    first = send(alice, "one", model)
    answer(first, "<think>\nIs it 1?\n</think>\n\n1 <tool_call>{}</tool_call>")
    second = send(alice, "two", model, after=first)
    answer(second, "<think>Hm", GenerationState.CANCELLED)
    third = send(alice, "three", model, after=second)
    syntax = {"think_open": "<think>", "think_close": "</think>", "tools": "hermes"}
    Generation.objects.update(syntax=syntax)
    assert third.user_message is not None
    assert [m.content for m in prompt.build(third.user_message)] == [
        "one",
        "1 <tool_call>{}</tool_call>",
        "two\n\nthree",
    ]
    kinds = [kind for _, _, kind in history.shape(third.conversation).nodes]
    assert kinds == [0, 1, 0, 5, 0, 5]
    Generation.objects.update(syntax={})
    assert len(prompt.build(third.user_message)) == 5


def test_a_long_branch_is_read_in_a_few_queries(
    alice: User, model: str, django_assert_max_num_queries: object
) -> None:
    turn = send(alice, "start", model)
    parent = turn.answer
    rows = []
    for number in range(2000):
        role = Message.Role.USER if number % 2 == 0 else Message.Role.ASSISTANT
        row = Message(conversation=turn.conversation, parent=parent, role=role, content=str(number))
        rows.append(row)
        parent = row
    Message.objects.bulk_create(rows)
    with django_assert_max_num_queries(5):  # type: ignore[operator]
        assert len(prompt.branch(parent)) == 2002
    Conversation.objects.of(alice).get().delete()
    assert not Message.objects.exists()


@pytest.mark.parametrize("content", ["", "  \n", "\x00"])
def test_an_empty_message_is_refused(alice: User, model: str, content: str) -> None:
    with pytest.raises(EmptyMessage):
        send(alice, content, model)
    assert not Conversation.objects.exists()


def test_a_message_too_long_is_refused_with_the_limit(alice: User, model: str) -> None:
    with pytest.raises(MessageTooLong) as caught:
        send(alice, "x" * 100_001, model)
    assert caught.value.details == {"length": 100_001, "limit": 100_000}


def test_nul_characters_are_dropped(alice: User, model: str) -> None:
    turn = send(alice, "a\x00b", model)
    assert turn.user_message is not None
    assert turn.user_message.content == "ab"


def test_objects_of_other_users_are_not_found(alice: User, bob: User, model: str) -> None:
    turn = send(alice, "secret", model)
    answer(turn, "yes")
    assert turn.user_message is not None
    attempts: list[Send | Edit | Regenerate] = [
        Send("1", "x", model, conversation=str(turn.conversation.pk)),
        Edit("2", str(turn.user_message.pk), "x", model),
        Regenerate("3", str(turn.answer.pk), model),
    ]
    for command in attempts:
        with pytest.raises(NotFound):
            turns.make(bob, command)
    mine = send(bob, "mine", model)
    answer(mine, "ok")
    foreign_parent = Send(
        "4", "x", model, conversation=str(mine.conversation.pk), parent=str(turn.answer.pk)
    )
    with pytest.raises(NotFound):
        turns.make(bob, foreign_parent)


def test_no_message_after_a_running_answer(alice: User, model: str) -> None:
    turn = send(alice, "one", model)
    with pytest.raises(Busy):
        send(alice, "two", model, after=turn)


def test_missing_and_quarantined_models_are_refused(alice: User, model: str) -> None:
    with pytest.raises(ModelMissing):
        send(alice, "x", "absent:1b")
    catalogue.quarantine("a" * 64, "killed by SIGSEGV")
    with pytest.raises(catalogue.ModelQuarantined):
        send(alice, "x", model)
    assert not Conversation.objects.exists()


def test_truncation_is_the_conversations_choice(alice: User, model: str) -> None:
    first = turns.make(alice, Send("1", "one", model, keep_latest=True))
    assert turns.queued_request(first).options.overflow == "keep_latest"
    answer(first, "1")
    second = send(alice, "two", model, after=first)
    assert turns.queued_request(second).options.overflow == "keep_latest"
    answer(second, "2")
    again = turns.make(alice, Regenerate("r", str(second.answer.pk), model, keep_latest=False))
    assert turns.queued_request(again).options.overflow == "error"


def test_the_same_request_makes_one_turn(alice: User, bob: User, model: str) -> None:
    first = turns.make(alice, Send("same", "x", model))
    second = turns.make(alice, Send("same", "x", model))
    assert (first.created, second.created) == (True, False)
    assert second.generation == first.generation
    assert turns.make(bob, Send("same", "x", model)).created
    assert serialize.message(second.answer) == serialize.message(first.answer)


def test_a_turn_that_could_not_be_queued_leaves_nothing(alice: User, model: str) -> None:
    turns.discard(send(alice, "x", model))
    assert not Conversation.objects.exists()
    first = send(alice, "one", model)
    answer(first, "1")
    turns.discard(send(alice, "two", model, after=first))
    assert Message.objects.count() == 2
    assert Conversation.objects.get().head_id == first.answer.pk
    turns.discard(turns.make(alice, Regenerate("r", str(first.answer.pk), model)))
    assert Message.objects.count() == 2


@pytest.mark.parametrize("kind", ["send", "regenerate", "continue"])
def test_b8_a_refused_turn_leaves_the_conversation_as_it_was(
    alice: User, model: str, kind: str
) -> None:
    first = send(alice, "one", model)
    answer(first, "1", GenerationState.CANCELLED)
    parent = str(first.answer.pk)
    fields = ("head_id", "updated_at", "keep_latest")
    before = Conversation.objects.values_list(*fields).get()
    commands: dict[str, TurnCommand] = {
        "send": Send(
            *("r", "two", model, str(first.conversation.pk), parent),
            keep_latest=not first.conversation.keep_latest,
        ),
        "regenerate": Regenerate("r", parent, model),
        "continue": Continue("r", parent),
    }
    turn = turns.make(alice, commands[kind])
    assert Conversation.objects.values_list(*fields).get() != before
    turns.discard(turn)
    assert Conversation.objects.values_list(*fields).get() == before


def test_b8_concurrent_changes_survive_a_discarded_turn(alice: User, model: str) -> None:
    first = send(alice, "one", model)
    answer(first, "1")
    refused = send(alice, "two", model, after=first)
    accepted = send(alice, "three", model, after=first)
    moved = Conversation.objects.get().updated_at
    turns.discard(refused)
    found = Conversation.objects.get()
    assert (found.head_id, found.updated_at) == (accepted.answer.pk, moved)


def test_a_truncated_answer_is_continued_as_the_same_answer(alice: User, model: str) -> None:
    params = SamplingParams(max_tokens=5, stop_repetition=True)
    turn = turns.make(alice, Send("p", "count", model, params=params))
    answer(turn, "one two", GenerationState.CANCELLED)
    Generation.objects.update(timings={"reasoning": 7.0, "total": 9.0}, syntax={"tools": "llama"})
    more = turns.make(alice, Continue("c", str(turn.answer.pk)))
    assert (more.answer.pk, more.user_message) == (turn.answer.pk, None)
    assert turns.make(alice, Continue("c", str(turn.answer.pk))).generation == more.generation
    job = turns.queued_request(more)
    assert job.id == str(more.generation.pk) != str(turn.generation.pk)
    assert (job.resume_text, job.params) == ("one two", params)
    assert [m.content for m in job.messages] == [SYSTEM.content, "count"]
    assert more.generation.syntax == {"tools": "llama"}
    assert more.generation.timings == {"reasoning": 7.0}
    turn.generation.refresh_from_db()
    assert turn.generation.message is None
    turns.discard(more)
    turn.generation.refresh_from_db()
    assert turn.generation.message == turn.answer
    assert Message.objects.get(pk=turn.answer.pk).content == "one two"


@on_postgresql
def test_continuing_twice_concurrently_is_refused(alice: User, model: str) -> None:
    turn = send(alice, "count", model)
    answer(turn, "one", GenerationState.CANCELLED)
    commands = [Continue(f"c{number}", str(turn.answer.pk)) for number in range(4)]
    found = at_once(4, lambda number: turns.make(alice, commands[number]))
    assert sorted(type(one).__name__ for one in found) == ["Busy", "Busy", "Busy", "Turn"]
    assert Generation.objects.filter(message=turn.answer).count() == 1


def test_complete_and_already_continued_answers_are_not_continued(
    alice: User, bob: User, model: str
) -> None:
    first = send(alice, "one", model)
    command = Continue("c", str(first.answer.pk))
    with pytest.raises(Busy):
        turns.make(alice, command)
    answer(first, "1")
    with pytest.raises(NothingToContinue):
        turns.make(alice, command)
    Generation.objects.update(finish_reason="length")
    with pytest.raises(NotFound):
        turns.make(bob, command)
    send(alice, "two", model, after=first)
    with pytest.raises(NothingToContinue):
        turns.make(alice, command)


def test_parameters_reach_the_job(alice: User, model: str) -> None:
    params = SamplingParams(temperature=0.0, max_tokens=5, stop=("x",), stop_repetition=True)
    turn = turns.make(alice, Send("p", "x", model, params=params))
    turn.generation.refresh_from_db()
    assert turns.queued_request(turn).params == params
    assert msgspec.convert(turn.generation.params, SamplingParams) == params


def test_states_advance_once_and_never_for_an_older_attempt(alice: User, model: str) -> None:
    id = send(alice, "x", model).generation.pk
    assert Generation.advance(id, to=GenerationState.RUNNING, attempt=2)
    assert not Generation.advance(id, to=GenerationState.DONE, attempt=1)
    assert Generation.advance(id, to=GenerationState.DONE, attempt=2)
    assert not Generation.advance(id, to=GenerationState.FAILED, attempt=3)


def test_page_8_an_answer_in_a_chat_has_a_longest_length_and_stops_repeating(
    alice: User, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def params() -> SamplingParams:
        return turns.queued_request(send(alice, "Hello", model)).params

    assert params() == SamplingParams(max_tokens=8192, stop_repetition=True)
    ModelName.objects.update(answer_tokens=100)
    assert params().max_tokens == 100
    # The model's configuration takes precedence, and so does the request.
    ModelName.objects.update(configuration={"parameters": {"num_predict": 50}})
    assert params().max_tokens == 50
    command = Send(str(uuid.uuid4()), "Hello", model, params=SamplingParams(max_tokens=7))
    assert turns.queued_request(turns.make(alice, command)).params.max_tokens == 7
    ModelName.objects.update(configuration={"parameters": {"num_predict": -1}})
    assert params().max_tokens is None
    ModelName.objects.update(configuration={}, answer_tokens=None)
    monkeypatch.setattr(settings, "ENV", settings.ENV.model_copy(update={"answer_tokens": 0}))
    assert params() == SamplingParams(stop_repetition=True)


@pytest.mark.parametrize("reason", ["length", "repetition"])
def test_page_8_an_answer_that_was_cut_can_be_continued(
    alice: User, model: str, reason: str
) -> None:
    turn = send(alice, "Hello", model)
    answer(turn, "over and over")
    Generation.objects.update(finish_reason="stop")
    again = Continue(str(uuid.uuid4()), str(turn.answer.pk))
    with pytest.raises(NothingToContinue):
        turns.make(alice, again)
    Generation.objects.update(finish_reason=reason)
    job = turns.queued_request(turns.make(alice, again))
    assert (job.resume_text, job.params.stop_repetition) == ("over and over", True)
