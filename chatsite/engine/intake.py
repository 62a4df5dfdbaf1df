"""The reader thread: frames in, and prompts prepared while the engine computes.

Rendering and tokenizing a long conversation takes tens of milliseconds that no running answer
should wait for; the engine thread is inside llama.cpp, without the interpreter's lock, nearly
all the time.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from queue import SimpleQueue

from chatsite.engine import frames
from chatsite.engine.backend import BadParameters
from chatsite.engine.embed_inputs import EmbedBuilder
from chatsite.engine.loop import Item
from chatsite.engine.measure import Meter
from chatsite.engine.messages import (
    Cache,
    Cancel,
    Embed,
    Failed,
    Generate,
    Load,
    Measure,
    SamplingParams,
    Shutdown,
)
from chatsite.engine.prompt import ContextExceeded, PromptBuilder
from chatsite.engine.template import TemplateError

log = logging.getLogger(__name__)


class Intake(threading.Thread):
    """Fills ``inbox`` from ``descriptor`` until `Shutdown` or the end of the pipe, then puts
    None. A frame that can't be read ends it too: the host would not speak so. Without
    ``prompts`` the model writes no text."""

    def __init__(
        self,
        descriptor: int,
        prompts: PromptBuilder | None,
        embeds: EmbedBuilder,
        check: Callable[[SamplingParams], None],
        inbox: SimpleQueue[Item],
        clock: Callable[[], float],
        meter: Meter,
    ) -> None:
        super().__init__(name="intake", daemon=True)
        self._descriptor = descriptor
        self._prompts = prompts
        self._embeds = embeds
        self._check = check
        self._inbox = inbox
        self._clock = clock
        self._meter = meter

    def run(self) -> None:
        try:
            while (frame := frames.read_frame(self._descriptor)) is not None:
                match frame:
                    case Generate() | Embed() | Measure():
                        self._inbox.put(self._prepare(frame))
                    case Cancel() | Cache():
                        self._inbox.put(frame)
                    case Shutdown():
                        break
                    case Load():
                        raise frames.FrameError("a second `load`: one child holds one model")
        except Exception:
            log.exception("the pipe from the host is unusable")
        finally:
            self._inbox.put(None)

    def _prepare(self, request: Generate | Embed | Measure) -> Item:
        arrived = self._clock()
        try:
            if isinstance(request, Embed):
                return self._embeds.prepare(request, arrived)
            if self._prompts is None:
                raise BadParameters(
                    "this model gives embeddings and writes no text; choose another one"
                )
            if isinstance(request, Measure):
                return self._meter.measure(self._prompts, request)
            prompt = self._prompts.prepare(request, arrived)
            self._check(prompt.params)
            return prompt
        except ContextExceeded as error:
            return Failed(request.id, "context_length_exceeded", str(error), error.details)
        except BadParameters as error:
            return Failed(request.id, "request_refused", str(error))
        except TemplateError as error:
            return Failed(request.id, "request_refused", f"The model's chat template: {error}")
        except Exception as error:
            log.exception("request %s can't be prepared", request.id)
            return Failed(request.id, "engine_error", f"The request can't be prepared: {error!r}")
