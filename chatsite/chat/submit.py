"""Submit a turn of a conversation."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from asgiref.sync import sync_to_async

from chatsite.accounts.models import User
from chatsite.answers import gate
from chatsite.answers.admission import Admitted
from chatsite.answers.runtime import Runtime
from chatsite.answers.submit import enqueue
from chatsite.chat import temporary, turns
from chatsite.chat.protocol import TurnCommand
from chatsite.chat.turns import Turn
from chatsite.conversations.models import GenerationState
from chatsite.errors import ChatsiteError
from chatsite.knowledge.turns import prepare


async def submit(
    runtime: Runtime,
    user: User,
    command: TurnCommand,
    *,
    on_search: Callable[[], Awaitable[None]] | None = None,
) -> Turn:
    """Save and queue a turn. If it can't be queued, all of it is removed.

    Documents are searched in between where the turn has any, and ``on_search`` is called before.

    A request that was accepted before gets the same result; it is queued now if the process had
    died between saving and queueing.
    """

    def save() -> tuple[Turn, Admitted | None]:
        gate.require_open(user)
        temporary.require_saved(user)
        turn = turns.make(user, command)
        if turn.generation.state != GenerationState.QUEUED or turn.searches:
            return turn, None
        return turn, admit(turn)

    def admit(turn: Turn) -> Admitted:
        try:
            return turns.admitted(turn)
        except ChatsiteError:
            turns.discard(turn)
            raise

    turn, admitted = await sync_to_async(save)()
    if turn.generation.state != GenerationState.QUEUED:
        return turn
    if admitted is None:
        await prepare(runtime, turn.answer, turn.generation, on_search=on_search)
        admitted = await sync_to_async(admit)(turn)
    try:
        await enqueue(runtime, admitted)
    except ChatsiteError:
        await sync_to_async(turns.discard)(turn)
        raise
    return turn
