"""What a runner calls on its host."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from chatsite.answers.outcome import Outcome
from chatsite.inference.model_spec import ModelSpec
from chatsite.inference.running_request import RunningRequest
from chatsite.stream.publish import Publisher


@dataclass(frozen=True)
class RunnerCallbacks:
    """The callbacks of a runner.

    ``ended`` saves an outcome; ``died`` gives the jobs back; ``broken`` quarantines the model;
    ``demoted`` has it reloaded with fewer layers on devices; ``changed`` announces a new state or
    a free slot.
    """

    ended: Callable[[RunningRequest, Outcome], None]
    died: Callable[[list[RunningRequest]], None]
    broken: Callable[[ModelSpec, str], None]
    demoted: Callable[[ModelSpec, str], None]
    changed: Callable[[], None]
    publisher: Publisher
