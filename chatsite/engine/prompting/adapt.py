"""Adapts conversations to the form that a chat template accepts, without loss.

Clients send anything: several system messages, two questions in a row, a greeting first, parallel
calls. Many templates refuse some of it, or drop it silently. `forms` yields the most faithful form
that a template is known to accept, then simpler ones in case it still refuses.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from chatsite.engine.contract.messages import ChatMessage, Tool
from chatsite.engine.prompting.tool_prompt import in_words
from chatsite.engine.prompting.traits import Traits

Form = tuple[list[ChatMessage], tuple[Tool, ...]]
_SEPARATOR = "\n\n"


def forms(messages: Sequence[ChatMessage], tools: Sequence[Tool], traits: Traits) -> Iterator[Form]:
    """Yield forms as (messages, tools), each created on demand.

    A form equals the previous one if nothing was left to adapt.
    """
    uses_tools = bool(tools) or any(one.tool_calls or one.role == "tool" for one in messages)
    if not uses_tools or traits.native:
        known = list(messages) if traits.parallel else one_call_a_turn(messages)
        yield _ordered(known, traits), tuple(tools)
        yield plainest(known, traits), tuple(tools)
    if uses_tools:
        told = in_words(messages, tools, traits.syntax)
        yield _ordered(told, traits), ()
        yield plainest(told, traits), ()


def _ordered(messages: Sequence[ChatMessage], traits: Traits) -> list[ChatMessage]:
    """Return the messages in a form that the template is known to accept."""
    found = list(messages)
    if not traits.systems:
        found = system_in_front(found)
    if not traits.system or (not traits.alone and all(one.role == "system" for one in found)):
        found = fold_system(found)
    if not traits.repeats:
        found = joined(found)
    if not traits.answer_first:
        found = question_first(found)
    return found


def plainest(messages: Sequence[ChatMessage], traits: Traits) -> list[ChatMessage]:
    """Return at most one system message, and alternating turns.

    Reasoning of earlier answers, which most templates drop, and empty answers are left out.
    """
    found = [
        msgspec.structs.replace(one, reasoning="")
        for one in system_in_front(messages)
        if one.content or one.role != "assistant" or one.tool_calls
    ]
    if not traits.system or all(one.role == "system" for one in found):
        found = fold_system(found)
    return question_first(joined(found))


def system_in_front(messages: Sequence[ChatMessage]) -> list[ChatMessage]:
    """Merge all system messages into one at the beginning."""
    texts = [one.content for one in messages if one.role == "system" and one.content]
    rest = [one for one in messages if one.role != "system"]
    return [ChatMessage("system", _SEPARATOR.join(texts)), *rest] if texts else rest


def fold_system(messages: Sequence[ChatMessage]) -> list[ChatMessage]:
    """Prepend the system text to the first user message, for templates without that role."""
    system = _SEPARATOR.join(one.content for one in messages if one.role == "system")
    rest = [one for one in messages if one.role != "system"]
    if not system:
        return rest
    for index, message in enumerate(rest):
        if message.role == "user":
            rest[index] = ChatMessage("user", f"{system}{_SEPARATOR}{message.content}")
            return rest
    return [ChatMessage("user", system), *rest]


def joined(messages: Sequence[ChatMessage]) -> list[ChatMessage]:
    """Merge consecutive messages of one role. Tool results stay separate."""
    found: list[ChatMessage] = []
    for message in messages:
        if found and found[-1].role == message.role != "tool":
            found.append(_both(found.pop(), message))
        else:
            found.append(message)
    return found


def _both(first: ChatMessage, second: ChatMessage) -> ChatMessage:
    return msgspec.structs.replace(
        first,
        content=_SEPARATOR.join(filter(None, (first.content, second.content))),
        reasoning=_SEPARATOR.join(filter(None, (first.reasoning, second.reasoning))),
        tool_calls=first.tool_calls + second.tool_calls,
    )


def question_first(messages: Sequence[ChatMessage]) -> list[ChatMessage]:
    """Insert a user message before an answer without a question, such as a greeting."""
    for index, message in enumerate(messages):
        if message.role == "system":
            continue
        if message.role == "user":
            break
        return [*messages[:index], ChatMessage("user", "..."), *messages[index:]]
    return list(messages)


def one_call_a_turn(messages: Sequence[ChatMessage]) -> list[ChatMessage]:
    """Split parallel calls into consecutive answers, each followed by its result."""
    found: list[ChatMessage] = []
    index = 0
    while index < len(messages):
        message = messages[index]
        index += 1
        if len(message.tool_calls) < 2:
            found.append(message)
            continue
        results: list[ChatMessage] = []
        while index < len(messages) and messages[index].role == "tool":
            results.append(messages[index])
            index += 1
        for at, call in enumerate(message.tool_calls):
            first = at == 0
            found.append(
                ChatMessage(
                    "assistant",
                    message.content if first else "",
                    message.reasoning if first else "",
                    (call,),
                )
            )
            found += _results_of(call.id, results, last=at == len(message.tool_calls) - 1)
    return found


def _results_of(id: str, results: list[ChatMessage], *, last: bool) -> list[ChatMessage]:
    """Remove the results of a call from ``results`` and return them.

    They match by ID, or else by order. The ``last`` call gets all that remain.
    """
    if last:
        return results
    match = next((one for one in results if id and one.tool_call_id == id), None)
    if match is None and results and not (id and results[0].tool_call_id):
        match = results[0]
    if match is None:
        return []
    results.remove(match)
    return [match]
