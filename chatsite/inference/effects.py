"""What a model's runner asks of the host that it belongs to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from chatsite.dispatch.outcome import Outcome
from chatsite.inference.running import Running
from chatsite.inference.spec import ModelSpec
from chatsite.stream.publish import Publisher


@dataclass(frozen=True)
class Effects:
    """``ended`` saves an outcome; ``died`` gives the jobs back; ``broken`` quarantines the model;
    ``demoted`` has it loaded again with fewer layers on devices, which did not take them;
    ``changed`` announces its state or a free slot."""

    ended: Callable[[Running, Outcome], None]
    died: Callable[[list[Running]], None]
    broken: Callable[[ModelSpec, str], None]
    demoted: Callable[[ModelSpec, str], None]
    changed: Callable[[], None]
    publisher: Publisher
