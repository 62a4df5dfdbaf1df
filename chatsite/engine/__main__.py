"""The engine child: ``python -m chatsite.engine --name MODEL``.

Frames on standard input and output, log lines on standard error. The first frame is `Load`;
the process ends at `Shutdown`, at the end of its input, or with its parent. ``--probe`` tries
one `Tuning` instead and prints what it measured; see `autotune.py`. ``--check`` loads a file once
and prints what it is; see `check.py`. ``--devices`` prints what there is to compute on; see
`devices.py`.
"""

from __future__ import annotations

import argparse
import logging
import os
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue

import msgspec

from chatsite import garbage
from chatsite.engine import check, frames, probe, sandbox
from chatsite.engine.backend import Backend, LoadError
from chatsite.engine.devices import Hardware
from chatsite.engine.embed_inputs import EmbedBuilder
from chatsite.engine.intake import Intake
from chatsite.engine.loop import Engine, Item
from chatsite.engine.measure import Meter
from chatsite.engine.messages import Load, Loaded, LoadFailed, Loading, ToHost
from chatsite.engine.offload import PROCESSOR, Offload
from chatsite.engine.prompt import PromptBuilder
from chatsite.engine.template import ChatTemplate
from chatsite.engine.tuning import Tuning

log = logging.getLogger("chatsite.engine")


def main() -> int:
    arguments = _arguments()
    frames_in, frames_out = sandbox.take_pipe()
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(levelname)s %(message)s")
    log.info(sandbox.enter())
    try:
        if arguments.devices:
            os.write(frames_out, msgspec.json.encode(_hardware(arguments.backend)) + b"\n")
            return 0
        if arguments.check:
            check.limit_memory(Path(arguments.path).stat().st_size)
            found = check.run(
                _opener(arguments.backend), arguments.path, compute=not arguments.load_only
            )
            os.write(frames_out, msgspec.json.encode(found) + b"\n")
            return 0
        if arguments.probe:
            result = probe.run(
                _opener(arguments.backend),
                arguments.path,
                arguments.tuning,
                arguments.depth,
                offload=arguments.offload,
                bulk=arguments.bulk,
            )
            os.write(frames_out, msgspec.json.encode(result) + b"\n")
            return 0
        return _serve(_opener(arguments.backend), frames_in, frames_out)
    except BrokenPipeError:
        log.error("the host is gone")
    except (LoadError, OSError, RuntimeError, MemoryError) as error:
        log.error("%s", str(error) or type(error).__name__)
    return 1


def _serve(open_backend: probe.Opener, frames_in: int, frames_out: int) -> int:
    def emit(frame: ToHost) -> None:
        frames.write_frame(frames_out, frame)

    load = frames.read_frame(frames_in)
    if not isinstance(load, Load):
        log.error("the first frame must be `load`")
        return 2
    began = time.perf_counter()
    try:
        backend = open_backend(load, _progress(emit))
        engine = Engine(
            backend, emit, step_target_ms=load.step_target_ms, cache_bytes=load.cache_bytes
        )
        engine.warm_up()
    except (LoadError, OSError, RuntimeError, MemoryError) as error:
        log.error("loading failed: %s", error)
        emit(LoadFailed("model_unavailable", str(error)))
        return 1
    vocabulary, facts = backend.vocabulary, backend.facts
    template = ChatTemplate(backend.template, bos=vocabulary.bos_text, eos=vocabulary.eos_text)
    if template.problem and facts.generates:
        log.warning("built-in chat template in use: %s", template.problem)
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
            rss_bytes=_resident_bytes(),
            syntax=prompts.syntax,
            embedding_size=backend.embedder.size,
        )
    )
    embeds = EmbedBuilder(vocabulary, backend.embedder)
    writer = prompts if facts.generates else None
    meter = Meter(vocabulary)
    Intake(frames_in, writer, embeds, backend.check, inbox, time.perf_counter, meter).start()
    garbage.settle()
    engine.run(inbox)
    backend.close()
    return 0


def _progress(emit: Callable[[ToHost], None]) -> Callable[[float], None]:
    """Reports each whole percent once."""
    last = -1

    def report(progress: float) -> None:
        nonlocal last
        if (percent := int(progress * 100)) > last:
            last = percent
            emit(Loading(percent / 100))

    return report


def _opener(name: str) -> probe.Opener:
    """The backend is imported late: llama.cpp's libraries load with it, in the sandbox."""

    def open_backend(load: Load, on_progress: Callable[[float], None]) -> Backend:
        if name == "scripted":
            from chatsite.engine.scripted_backend import ScriptedBackend

            return ScriptedBackend(load, on_progress)
        from chatsite.engine.llama_backend import LlamaBackend

        return LlamaBackend(load, on_progress)

    return open_backend


def _hardware(backend: str) -> Hardware:
    if backend == "scripted":
        return Hardware(system="scripted")
    from chatsite.engine.llama_devices import hardware

    return hardware()


def _resident_bytes() -> int:
    """Memory in use; the most so far where the system does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m chatsite.engine")
    parser.add_argument("--name", required=True, help="shown in the list of processes")
    parser.add_argument("--backend", choices=("llama", "scripted"), default="llama")
    parser.add_argument("--probe", action="store_true", help="measure one tuning and leave")
    parser.add_argument("--check", action="store_true", help="load a file once and leave")
    parser.add_argument("--load-only", action="store_true", help="compute nothing in a check")
    parser.add_argument("--devices", action="store_true", help="say what to compute on and leave")
    parser.add_argument(
        "--offload",
        type=lambda text: msgspec.json.decode(text, type=Offload),
        default=PROCESSOR,
        help="layers on devices in a probe, as JSON",
    )
    parser.add_argument("--path", help="the model file to probe or check")
    parser.add_argument("--depth", type=int, default=probe.DEPTH, help="tokens of context")
    parser.add_argument("--bulk", type=int, default=0, help="only prefill so many tokens at once")
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
