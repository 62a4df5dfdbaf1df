"""The engine child: ``python -m chatsite.engine --name MODEL``.

Frames are on standard input and output, log lines on standard error. The first frame is `Load`; the
process ends at `Shutdown`, at the end of its input, or with its parent. ``--probe`` measures one
`Tuning` and prints the result; see `tuning/autotune.py`. ``--check`` loads a file once and prints
its properties; see `load_test.py`. ``--devices`` prints the devices to compute on; see
`contract/devices.py`.
"""

from __future__ import annotations

import argparse
import logging
import os
import resource
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import msgspec

from chatsite import garbage
from chatsite.engine import load_test
from chatsite.engine.batching.loop import Engine, Item
from chatsite.engine.contract import devices, frames
from chatsite.engine.contract.backend import Backend, LoadError
from chatsite.engine.contract.devices import Hardware
from chatsite.engine.contract.messages import Load, Loaded, LoadFailed, Loading, ToHost
from chatsite.engine.contract.offload import PROCESSOR, Offload
from chatsite.engine.contract.tuning import Tuning
from chatsite.engine.embed_inputs import EmbedBuilder, Pace
from chatsite.engine.intake import Intake
from chatsite.engine.prompting.prompt import PromptBuilder
from chatsite.engine.prompting.renderer import RendererGone, RenderPool
from chatsite.engine.prompting.template import ChatTemplate
from chatsite.engine.token_counts import Meter
from chatsite.engine.tuning import probe
from chatsite.sandbox import confine, log_lines
from chatsite.sandbox.protection import Protection

log = logging.getLogger("chatsite.engine")


def main() -> int:
    arguments = _arguments()
    frames_in, frames_out = confine.take_pipe()
    log_lines.configure()
    confine.follow_parent()
    try:
        if arguments.devices:
            _enter(devices=bool(devices.built_for()))
            os.write(frames_out, msgspec.json.encode(_hardware(arguments.backend)) + b"\n")
            return 0
        if arguments.check:
            renderer = RenderPool.start(arguments.name)
            _enter(arguments.path)
            load_test.limit_memory(Path(arguments.path).stat().st_size)
            found = load_test.run(
                _opener(arguments.backend),
                arguments.path,
                renderer,
                compute=not arguments.load_only,
            )
            os.write(frames_out, msgspec.json.encode(found) + b"\n")
            return 0
        if arguments.probe:
            _enter(arguments.path, devices=bool(arguments.offload.layers))
            result = probe.run(
                _opener(arguments.backend),
                arguments.path,
                arguments.tuning,
                arguments.depth,
                context=arguments.context,
                slots=arguments.slots,
                offload=arguments.offload,
                bulk=arguments.bulk,
            )
            os.write(frames_out, msgspec.json.encode(result) + b"\n")
            return 0
        renderer = RenderPool.start(arguments.name)
        return _serve(_opener(arguments.backend), renderer, frames_in, frames_out)
    except BrokenPipeError:
        log.error("Host ended; the pipe is closed")
    except (LoadError, OSError, RuntimeError, MemoryError) as error:
        log.error("Engine child failed", extra={"error": error})
    return 1


def _enter(*paths: str, devices: bool = False) -> Protection:
    protection = confine.enter(reads=paths, devices=devices)
    log.info("Sandbox entered", extra={"protection": protection})
    return protection


class _Vital:
    """A renderer without which no request can be prepared.

    If it ends, this process exits and the host restarts it.
    """

    def __init__(self, pool: RenderPool) -> None:
        self._pool = pool

    def render(self, template: str, variables: Mapping[str, Any], limit: int) -> str:
        try:
            return self._pool.render(template, variables, limit)
        except RendererGone:
            log.exception("Template renderer ended")
            os._exit(1)


def _serve(
    open_backend: probe.Opener, renderer: RenderPool, frames_in: int, frames_out: int
) -> int:
    def emit(frame: ToHost) -> None:
        frames.write_frame(frames_out, frame)

    load = frames.read_frame(frames_in)
    if not isinstance(load, Load):
        log.error("The first frame must be `load`")
        return 2
    resident = _Resident()
    protection = _enter(load.path, devices=bool(load.offload.layers))
    began = time.perf_counter()
    try:
        backend = open_backend(load, _progress(emit))
        engine = Engine(
            backend, emit, step_target_ms=load.step_target_ms, cache_bytes=load.cache_bytes
        )
        engine.warm_up()
    except (LoadError, OSError, RuntimeError, MemoryError) as error:
        log.error("Loading failed", extra={"error": error})
        emit(LoadFailed("model_unavailable", str(error)))
        return 1
    vocabulary, facts = backend.vocabulary, backend.facts
    template = ChatTemplate(
        backend.template,
        bos=vocabulary.bos_text,
        eos=vocabulary.eos_text,
        base=True,
        renderer=_Vital(renderer),
    )
    if template.source == "none" and facts.generates:
        log.warning("No chat template: this base model only continues text")
    if template.problem and facts.generates:
        log.warning("Using the built-in chat template", extra={"problem": template.problem})
    inbox: SimpleQueue[Item] = SimpleQueue()
    prompts = PromptBuilder(template, vocabulary, facts.context, backend.grammar)
    emit(
        Loaded(
            context=facts.context,
            slots=facts.slots,
            architecture=facts.architecture,
            parameters=facts.parameters,
            vocabulary=vocabulary.size,
            template_source=template.source,
            load_ms=(time.perf_counter() - began) * 1e3,
            rss_bytes=resident.bytes(),
            syntax=prompts.syntax,
            embedding_size=backend.embedder.size,
            protection=protection,
            renderer_protection=renderer.protection,
        )
    )
    embeds = EmbedBuilder(vocabulary, backend.embedder, Pace(lambda: engine.answering))
    writer = prompts if facts.generates else None
    meter = Meter(vocabulary)
    # On each return from llama.cpp the engine thread waits until a preparing thread releases the
    # GIL, by default up to 5 ms.
    sys.setswitchinterval(0.0005)
    Intake(frames_in, writer, embeds, backend.check, inbox, time.perf_counter, meter).start()
    garbage.freeze_startup_objects()
    engine.run(inbox)
    backend.close()
    return 0


def _progress(emit: Callable[[ToHost], None]) -> Callable[[float], None]:
    """Return a callback that reports each whole percent once."""
    last = -1

    def report(progress: float) -> None:
        nonlocal last
        if (percent := int(progress * 100)) > last:
            last = percent
            emit(Loading(percent / 100))

    return report


def _opener(name: str) -> probe.Opener:
    """Return a function that opens the backend.

    The backend is imported late, because llama.cpp's libraries must load inside the sandbox.
    """

    def open_backend(load: Load, on_progress: Callable[[float], None]) -> Backend:
        if name == "scripted":
            from chatsite.engine.backends.scripted.backend import ScriptedBackend

            return ScriptedBackend(load, on_progress)
        from chatsite.engine.backends.llama.backend import LlamaBackend

        return LlamaBackend(load, on_progress)

    return open_backend


def _hardware(backend: str) -> Hardware:
    if backend == "scripted":
        return Hardware(system="scripted")
    from chatsite.engine.backends.llama.devices import hardware

    return hardware()


class _Resident:
    """The resident memory of this process.

    The file is opened before the sandbox is entered, which forbids it.
    """

    def __init__(self) -> None:
        self._file: int | None = None
        with suppress(OSError):
            self._file = os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)

    def bytes(self) -> int:
        """Return the memory in use; its peak where the system does not report it."""
        if self._file is None:
            unit = 1 if sys.platform == "darwin" else 1024
            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
        pages = int(os.pread(self._file, 100, 0).split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m chatsite.engine")
    parser.add_argument("--name", required=True, help="shown in the list of processes")
    parser.add_argument("--backend", choices=("llama", "scripted"), default="llama")
    parser.add_argument("--probe", action="store_true", help="measure one tuning and exit")
    parser.add_argument("--check", action="store_true", help="load a file once and exit")
    parser.add_argument("--load-only", action="store_true", help="skip the computation of --check")
    parser.add_argument("--devices", action="store_true", help="list compute devices and exit")
    parser.add_argument(
        "--offload",
        type=lambda text: msgspec.json.decode(text, type=Offload),
        default=PROCESSOR,
        help="layers on devices in a probe, as JSON",
    )
    parser.add_argument("--path", help="the model file to probe or check")
    parser.add_argument(
        "--depth", type=int, default=probe.LEAST_DEPTH, help="tokens of context in use"
    )
    parser.add_argument(
        "--context", type=int, default=2 * probe.LEAST_DEPTH, help="tokens of context per slot"
    )
    parser.add_argument("--slots", type=int, default=probe.SEQUENCES)
    parser.add_argument(
        "--bulk", type=int, default=0, help="only prefill, this many tokens per batch"
    )
    parser.add_argument(
        "--tuning",
        type=lambda text: msgspec.json.decode(text, type=Tuning),
        help="the tuning to probe, as JSON",
    )
    arguments = parser.parse_args()
    if arguments.probe and not (arguments.path and arguments.tuning):
        parser.error("--probe needs --path and --tuning")
    if arguments.check and not arguments.path:
        parser.error("--check needs --path")
    return arguments


if __name__ == "__main__":
    sys.exit(main())
