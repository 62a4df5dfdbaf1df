"""The reader thread: reads frames and hands requests to the threads that prepare them.

Rendering and tokenizing a long conversation takes tens of milliseconds, which no running answer
should wait for. The engine thread is inside llama.cpp, without the GIL, nearly all the time.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import replace
from queue import SimpleQueue

from chatsite.engine.batching.loop import Item
from chatsite.engine.contract import frames
from chatsite.engine.contract.backend import BadParameters, Constraint, LoadError
from chatsite.engine.contract.messages import (
    Cache,
    Cancel,
    CountTokens,
    DropCache,
    Embed,
    Failed,
    Generate,
    HoldBatches,
    Load,
    SamplingParams,
    Shutdown,
)
from chatsite.engine.embed_inputs import EmbedBuilder
from chatsite.engine.preparation import Preparation, Request
from chatsite.engine.prompting.prompt import ContextExceeded, PromptBuilder
from chatsite.engine.prompting.template import TemplateError
from chatsite.engine.token_counts import Meter
from chatsite.sandbox import log_lines

log = logging.getLogger(__name__)


class Intake(threading.Thread):
    """Fills ``inbox`` from ``descriptor`` until `Shutdown` or the end of the pipe, then puts None.

    An invalid frame ends it too. Requests keep their order per owner only (`preparation.py`).
    ``prompts`` None: the model writes no text.
    """

    def __init__(
        self,
        descriptor: int,
        prompts: PromptBuilder | None,
        embeds: EmbedBuilder,
        check: Callable[[SamplingParams], Constraint | None],
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
        self._meter = meter
        self._preparation = Preparation(self._prepare, inbox, clock)

    def run(self) -> None:
        try:
            while (frame := frames.read_frame(self._descriptor)) is not None:
                match frame:
                    case Generate() | Embed() | CountTokens():
                        self._preparation.submit(frame)
                    case Cancel():
                        self._preparation.cancel(frame.id)
                    case Cache() | DropCache() | HoldBatches():
                        self._inbox.put(frame)
                    case Shutdown():
                        break
                    case Load():
                        raise frames.FrameError("a second `load`: one child holds one model")
        except Exception:
            log.exception("Reading from the host failed")
        finally:
            self._preparation.close()
            self._inbox.put(None)

    def _prepare(self, request: Request, arrived: float) -> Item:
        with log_lines.about(request.id):
            return self._prepared(request, arrived)

    def _prepared(self, request: Request, arrived: float) -> Item:
        try:
            if isinstance(request, Embed):
                return self._embeds.prepare(request, arrived)
            if isinstance(request, CountTokens):
                return self._meter.measure(self._prompts, request)
            if self._prompts is None:
                kind = "a reranker" if self._embeds.ranks else "an embedding model"
                raise BadParameters(
                    f"this is {kind}, which does not generate text; choose another one"
                )
            prompt = self._prompts.prepare(request, arrived)
            return replace(prompt, automaton=self._check(prompt.params))
        except ContextExceeded as error:
            code = "context_limit_exceeded" if error.limited else "context_length_exceeded"
            return Failed(request.id, code, str(error), error.details)
        except BadParameters as error:
            return Failed(request.id, "request_refused", str(error))
        except TemplateError as error:
            return Failed(request.id, "request_refused", f"The model's chat template: {error}")
        except LoadError as error:
            log.error("Preparing the request failed", extra={"error": error})
            reason = f"The model can't compute embeddings now: {error}."
            return Failed(request.id, "engine_error", reason)
        except Exception as error:
            log.exception("Preparing the request failed")
            return Failed(request.id, "engine_error", f"Preparing the request failed: {error!r}")
