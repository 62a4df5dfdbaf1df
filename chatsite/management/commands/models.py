"""`manage.py models`: the catalogue from the command line."""

from __future__ import annotations

import json
import os
import sys
import time
from argparse import ArgumentParser
from collections.abc import Callable
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError
from django.template.defaultfilters import filesizeformat

from chatsite.engine.quantize import KINDS
from chatsite.errors import ChatsiteError, ModelMissing
from chatsite.management import running, terminal
from chatsite.management.job_actions import JobActions
from chatsite.management.memory_actions import MemoryActions
from models_admin import custom, gguf, modelfile, names, options, placing, store, versions
from models_admin.jobs import asking
from models_admin.models import ModelName


class Command(BaseCommand):
    help = "Lists, imports, shows, copies and removes models. Exits with 1 when it can't."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")

        listing = actions.add_parser("list", help="list the installed models")
        listing.add_argument("--json", action="store_true", help="for programs")

        importing = actions.add_parser("import", help="bring a GGUF file of this machine in")
        importing.add_argument("path", type=Path, metavar="PATH")
        importing.add_argument("--name", required=True, help="such as smollm2:135m")
        importing.add_argument(
            "--if-missing", action="store_true", help="do nothing when the name is installed"
        )
        importing.add_argument(
            "--move", action="store_true", help="take the file away instead of copying it"
        )

        pulling = actions.add_parser("pull", help="download a model; goes on where it ended")
        pulling.add_argument("name", metavar="NAME", help="smollm2:135m or hf.co/owner/repo:QUANT")
        pulling.add_argument("--name", dest="target", metavar="NEW", help="call it otherwise here")
        pulling.add_argument(
            "--detach", action="store_true", help="leave it to the worker and don't wait"
        )
        JobActions.add_parsers(actions)
        MemoryActions.add_parsers(actions)

        showing = actions.add_parser("show", help="show what a name stands for")
        showing.add_argument("name", metavar="NAME")

        part = showing.add_mutually_exclusive_group()
        for name in _PARTS:
            part.add_argument(f"--{name}", dest="part", action="store_const", const=name)

        creating = actions.add_parser("create", help="make a custom model from a Modelfile")
        creating.add_argument("name", metavar="NAME")
        creating.add_argument(
            "-f", "--file", type=Path, default=Path("Modelfile"), metavar="MODELFILE"
        )

        quantizing = actions.add_parser("quantize", help="make a model with smaller weights")
        quantizing.add_argument("name", metavar="NAME")
        quantizing.add_argument("kind", metavar="KIND", help=", ".join(KINDS))
        quantizing.add_argument("--name", dest="target", required=True, metavar="NEW")

        actions.add_parser("ps", help="list the models that are loaded")
        for action, words in (("load", "load a model now"), ("unload", "let an idle model go")):
            actions.add_parser(action, help=words).add_argument("name", metavar="NAME")
        terminal.add_parser(actions)

        removing = actions.add_parser("rm", help="remove a name, and its file with the last one")
        removing.add_argument("name", metavar="NAME")

        backing = actions.add_parser("back", help="let a name stand for its version before")
        backing.add_argument("name", metavar="NAME")

        copying = actions.add_parser("cp", help="let another name stand for the same model")
        copying.add_argument("source", metavar="NAME")
        copying.add_argument("target", metavar="NEW")

    def handle(self, *args: object, **options: Any) -> None:
        jobs = JobActions(self.stdout)
        actions: dict[str, Callable[..., None]] = {
            **jobs.handlers(),
            **MemoryActions(self.stdout).handlers(),
            "list": self._list,
            "import": self._import,
            "pull": self._pull,
            "show": self._show,
            "create": self._create,
            "quantize": self._quantize,
            "ps": self._running,
            "load": self._load,
            "unload": self._unload,
            "run": self._run,
            "rm": self._remove,
            "cp": self._copy,
            "back": self._back,
        }
        try:
            actions[options["action"]](**options)
        except ChatsiteError as error:
            raise CommandError(str(error)) from error
        except BrokenPipeError:
            # Whoever reads has enough. Python would say so again when it flushes at its end.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        except DatabaseError as error:
            raise CommandError(
                f"The database can't be used ({error}). If it is new: manage.py migrate"
            ) from error

    def _list(self, *, json: bool, **_options: Any) -> None:
        rows = [_as_dict(model) for model in ModelName.objects.select_related("version")]
        if json:
            self.stdout.write(_dumps(rows))
            return
        if not rows:
            self.stdout.write("No models. Bring one in: manage.py models import PATH --name NAME")
            return
        width = max(len(row["name"]) for row in rows)
        for row in rows:
            notes = [] if row["enabled"] else ["not offered"]
            notes += [f"quarantined: {row['quarantined']}"] if row["quarantined"] else []
            notes += [] if row["present"] else ["its file is missing"]
            self.stdout.write(
                f"{row['name']:{width}}  {row['digest'][:12]}  "
                f"{filesizeformat(row['size']):>10}  {'; '.join(notes)}".rstrip()
            )

    def _import(
        self, *, path: Path, name: str, if_missing: bool, move: bool, **_options: Any
    ) -> None:
        if if_missing and (model := _find(name)) and _is_present(model):
            self.stdout.write(f"{model} is installed.")
            return
        model = store.import_file(path, name, move=move, progress=_ProgressLine())
        self.stdout.write(
            f"{model} is installed: {model.version}, {filesizeformat(model.version.size)}."
        )

    def _create(self, *, name: str, file: Path, **_options: Any) -> None:
        try:
            text = modelfile.decode(file.read_bytes())
        except OSError as error:
            raise CommandError(f"{file} can't be read: {error.strerror}.") from error
        model = custom.create(name, text)
        self.stdout.write(f"{model} is made from {custom.of(model).parent}.")

    def _quantize(self, *, name: str, kind: str, target: str, **_options: Any) -> None:
        job, _new = asking.quantize(name, kind, target)
        JobActions(self.stdout).attend(job)
        model = _require(job.target)
        self.stdout.write(
            f"{model} is installed: {model.version}, {filesizeformat(model.version.size)}."
        )

    def _pull(self, *, name: str, target: str | None, detach: bool, **_options: Any) -> None:
        job, new = asking.download(name, target or "")
        if detach:
            self.stdout.write(f"{job.pk}" if new else f"{job.pk} is under way already.")
            return
        JobActions(self.stdout).attend(job)
        model = _require(job.target)
        self.stdout.write(
            f"{model} is installed: {model.version}, {filesizeformat(model.version.size)}."
        )

    def _show(self, *, name: str, part: str | None, **_options: Any) -> None:
        model = _require(name)
        if part is not None:
            self.stdout.write(_PARTS[part](model))
            return
        row = _as_dict(model) | {"path": str(model.version.path), "source": model.version.source}
        if row["present"]:
            with model.version.path.open("rb") as file:
                try:
                    header = gguf.read_header(file, model.version.size)
                    row |= {
                        "architecture": header.architecture,
                        "quantization": header.quantization,
                        "tensors": len(header.tensors),
                    }
                except gguf.BadGGUF as error:
                    row["damaged"] = str(error)
        row["memory"] = placing.fit_of(model) or "-"
        width = max(map(len, row))
        for key, value in row.items():
            self.stdout.write(f"{key:{width}}  {value}")

    def _running(self, **_options: Any) -> None:
        lines = running.at_the_site(running.loaded)
        self.stdout.write("\n".join(lines) or "No model is loaded.")

    def _load(self, *, name: str, **_options: Any) -> None:
        model = _require(name)
        self.stdout.write(running.at_the_site(lambda site: running.load(site, model)))

    def _unload(self, *, name: str, **_options: Any) -> None:
        model = _require(name)
        self.stdout.write(running.at_the_site(lambda site: running.unload(site, model)))

    def _run(self, *, name: str, **options: Any) -> None:
        terminal.run(_require(name).name, self.stdout, **options)

    def _remove(self, *, name: str, **_options: Any) -> None:
        model = _require(name)
        versions.remove_name(model.name)
        self.stdout.write(f"{model} is removed.")

    def _back(self, *, name: str, **_options: Any) -> None:
        model = versions.go_back(_require(name).name)
        self.stdout.write(f"{model} stands for {model.version} again.")

    def _copy(self, *, source: str, target: str, **_options: Any) -> None:
        model = versions.copy_name(_require(source).name, target)
        self.stdout.write(f"{model} is installed: {model.version}.")


def _parameters(model: ModelName) -> str:
    lines = options.as_lines(custom.of(model).parameters)
    return "\n".join(f"{name}  {value}" for name, value in lines)


_PARTS: dict[str, Callable[[ModelName], str]] = {
    "modelfile": custom.as_modelfile,
    "parameters": _parameters,
    "system": lambda model: custom.of(model).system,
    "template": lambda model: custom.of(model).template,
}


class _ProgressLine:
    """Per cent on a terminal, on one line; nothing elsewhere."""

    def __init__(self, done: str = "Reading") -> None:
        self._word = done
        self._shown = time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if not sys.stderr.isatty() or (done < total and now - self._shown < 0.2):
            return
        self._shown = now
        end = "\n" if done == total else ""
        sys.stderr.write(f"\r{self._word} {done * 100 // total} % of {filesizeformat(total)}{end}")
        sys.stderr.flush()


def _find(name: str) -> ModelName | None:
    found = ModelName.objects.filter(name__iexact=names.normalise(name))
    return found.select_related("version").first()


def _require(name: str) -> ModelName:
    model = _find(name)
    if model is None:
        raise ModelMissing(f"{names.normalise(name)} is not installed; see: manage.py models list")
    return model


def _is_present(model: ModelName) -> bool:
    try:
        return model.version.path.stat().st_size == model.version.size
    except OSError:
        return False


def _as_dict(model: ModelName) -> dict[str, Any]:
    return {
        "name": model.name,
        "digest": model.version.digest,
        "size": model.version.size,
        "enabled": model.enabled,
        "quarantined": model.version.quarantined,
        "present": _is_present(model),
        "created_at": model.created_at.isoformat(),
        "updated_at": model.updated_at.isoformat(),
    }


def _dumps(rows: list[dict[str, Any]]) -> str:
    return json.dumps(rows, indent=2)
