"""`manage.py models`: management of models from the command line."""

from __future__ import annotations

import os
import sys
from argparse import ArgumentParser
from collections.abc import Callable
from json import dumps
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError

from chatsite.audit.record import record
from chatsite.engine.quantize import KINDS
from chatsite.errors import ChatsiteError
from chatsite.hosts import commands as hosts
from chatsite.management import running, terminal
from chatsite.management.job_actions import JobActions
from chatsite.management.memory_actions import MemoryActions
from chatsite.management.progress_line import ProgressLine
from chatsite.sizes import file_size
from models_admin import catalogue, facts, load_preferences
from models_admin.config import custom, modelfile, options
from models_admin.gguf import header as gguf
from models_admin.jobs import enqueue
from models_admin.models import ModelName
from models_admin.store import files, versions

_BASE = (
    "It is a base model without a chat template: it continues text and does not chat. Programs can "
    "use it with /v1/completions and /api/generate. If it is a chat model, add its template: "
    "manage.py models create NAME -f Modelfile, with FROM and TEMPLATE."
)


class Command(BaseCommand):
    help = (
        "Manages models: list, import, download, configure, load, remove. Exits with 1 on errors."
    )
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")

        listing = actions.add_parser("list", help="list the installed models")
        listing.add_argument("--json", action="store_true", help="write JSON")

        importing = actions.add_parser("import", help="import a GGUF file of this machine")
        importing.add_argument("path", type=Path, metavar="PATH")
        importing.add_argument(
            "--name", required=True, help="name of the model, such as smollm2:135m"
        )
        importing.add_argument(
            "--if-missing",
            action="store_true",
            help="do nothing when the name is already installed",
        )
        importing.add_argument(
            "--move", action="store_true", help="move the file instead of copying it"
        )

        pulling = actions.add_parser("pull", help="download a model, resuming a partial download")
        pulling.add_argument("name", metavar="NAME", help="smollm2:135m or hf.co/owner/repo:QUANT")
        pulling.add_argument(
            "--name", dest="target", metavar="NEW", help="install it under another name"
        )
        pulling.add_argument(
            "--detach", action="store_true", help="do not wait for the end of the download"
        )
        JobActions.add_parsers(actions)
        MemoryActions.add_parsers(actions)

        showing = actions.add_parser("show", help="show the details of a model")
        showing.add_argument("name", metavar="NAME")

        part = showing.add_mutually_exclusive_group()
        for name in _PARTS:
            part.add_argument(f"--{name}", dest="part", action="store_const", const=name)

        creating = actions.add_parser("create", help="create a custom model from a Modelfile")
        creating.add_argument("name", metavar="NAME")
        creating.add_argument(
            "-f", "--file", type=Path, default=Path("Modelfile"), metavar="MODELFILE"
        )

        quantizing = actions.add_parser("quantize", help="create a copy with smaller weights")
        quantizing.add_argument("name", metavar="NAME")
        quantizing.add_argument("kind", metavar="KIND", help=", ".join(KINDS))
        quantizing.add_argument("--name", dest="target", required=True, metavar="NEW")

        actions.add_parser("ps", help="list the models that are loaded")
        for action, words in (("load", "load a model now"), ("unload", "unload an idle model")):
            actions.add_parser(action, help=words).add_argument("name", metavar="NAME")
        terminal.add_parser(actions)

        removing = actions.add_parser("rm", help="remove a name, and the file with its last name")
        removing.add_argument("name", metavar="NAME")

        backing = actions.add_parser("back", help="roll back to the previous version")
        backing.add_argument("name", metavar="NAME")

        copying = actions.add_parser("cp", help="add another name for the same model")
        copying.add_argument("source", metavar="NAME")
        copying.add_argument("target", metavar="NEW")

    def handle(self, *args: object, **options: Any) -> None:
        jobs = JobActions(self.stdout)
        # An action returns False if there was nothing to do.
        actions: dict[str, Callable[..., bool | None]] = {
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
            if actions[options["action"]](**options) is not False:
                _record(options)
        except ChatsiteError as error:
            raise CommandError(str(error)) from error
        except BrokenPipeError:
            # The reader closed the pipe. Without this, Python's flush at exit would raise it again.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        except DatabaseError as error:
            raise CommandError(
                f"The database can't be used ({error}). If it is new: manage.py migrate"
            ) from error

    def _list(self, *, json: bool, **_options: Any) -> None:
        rows = [_as_dict(model) for model in ModelName.objects.select_related("version")]
        if json:
            self.stdout.write(dumps(rows, indent=2))
            return
        if not rows:
            self.stdout.write(
                "No models installed. Import one: manage.py models import PATH --name NAME"
            )
            return
        width = max(len(row["name"]) for row in rows)
        for row in rows:
            notes = [] if row["enabled"] else ["hidden"]
            notes += [f"quarantined: {row['quarantined']}"] if row["quarantined"] else []
            notes += ["base model: only continues text"] if row["base"] else []
            notes += [] if row["present"] else ["its file is missing"]
            self.stdout.write(
                f"{row['name']:{width}}  {row['digest'][:12]}  "
                f"{file_size(row['size']):>10}  {'; '.join(notes)}".rstrip()
            )

    def _import(
        self, *, path: Path, name: str, if_missing: bool, move: bool, **_options: Any
    ) -> bool:
        if if_missing and (model := catalogue.installed(name)) and _is_present(model):
            self.stdout.write(f"{model} is installed.")
            return False
        line = ProgressLine()
        model = files.import_file(path, name, move=move, progress=line.counter("reading"))
        line.end()
        hosts.tune_from_thread({model.name})
        self._installed(model)
        return True

    def _create(self, *, name: str, file: Path, **_options: Any) -> None:
        try:
            text = modelfile.decode(file.read_bytes())
        except OSError as error:
            raise CommandError(f"{file} can't be read: {error.strerror}.") from error
        model = custom.create(name, text)
        self.stdout.write(f"{model} was created from {custom.of(model).parent}.")

    def _quantize(self, *, name: str, kind: str, target: str, **_options: Any) -> None:
        job, _new = enqueue.quantize(name, kind, target)
        JobActions(self.stdout).attend(job)
        self._installed(catalogue.require(job.target))

    def _pull(self, *, name: str, target: str | None, detach: bool, **_options: Any) -> None:
        job, new = enqueue.download(name, target or "")
        if detach:
            self.stdout.write(f"{job.pk}" if new else f"{job.pk} is already in progress.")
            return
        JobActions(self.stdout).attend(job)
        self._installed(catalogue.require(job.target))

    def _installed(self, model: ModelName) -> None:
        size = file_size(model.version.size)
        self.stdout.write(f"{model} is installed: {model.version}, {size}.")
        if facts.only_continues(model):
            self.stdout.write(_BASE)

    def _show(self, *, name: str, part: str | None, **_options: Any) -> None:
        model = catalogue.require(name)
        if part is not None:
            self.stdout.write(_PARTS[part](model))
            return
        row = _as_dict(model) | {"source": model.version.source}
        if (remote := model.version.remote_facts) is not None:
            row |= {"context": remote.context, "capabilities": ", ".join(remote.capabilities)}
        else:
            row["path"] = str(model.version.path)
        if row["present"] and remote is None:
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
        row["memory"] = load_preferences.fit_of(model) or "-"
        width = max(map(len, row))
        for key, value in row.items():
            self.stdout.write(f"{key:{width}}  {value}")

    def _running(self, **_options: Any) -> None:
        lines = running.at_the_site(running.loaded)
        self.stdout.write("\n".join(lines) or "No model is loaded.")

    def _load(self, *, name: str, **_options: Any) -> None:
        model = catalogue.require(name)
        self.stdout.write(running.at_the_site(lambda site: running.load(site, model)))

    def _unload(self, *, name: str, **_options: Any) -> None:
        model = catalogue.require(name)
        self.stdout.write(running.at_the_site(lambda site: running.unload(site, model)))

    def _run(self, *, name: str, **options: Any) -> None:
        terminal.run(catalogue.require(name).name, self.stdout, **options)

    def _remove(self, *, name: str, **_options: Any) -> None:
        model = catalogue.require(name)
        versions.remove_name(model.name)
        self.stdout.write(f"{model} was removed.")

    def _back(self, *, name: str, **_options: Any) -> None:
        model = versions.rollback(catalogue.require(name).name)
        self.stdout.write(f"{model} points to {model.version} again.")

    def _copy(self, *, source: str, target: str, **_options: Any) -> None:
        model = versions.copy_name(catalogue.require(source).name, target)
        self.stdout.write(f"{model} is installed: {model.version}.")


# Kinds of audit events of the actions that change something.
_KINDS = {
    "import": "model.imported",
    "pull": "model.pulled",
    "create": "model.created",
    "quantize": "model.quantized",
    "export": "model.exported",
    "set": "model.changed",
    "load": "model.loaded",
    "unload": "model.unloaded",
    "rm": "model.deleted",
    "cp": "model.copied",
    "back": "model.rolled_back",
    "pause": "job.paused",
    "resume": "job.resumed",
    "cancel": "job.cancelled",
}
# Options that are details of the event, with their names there.
_DETAILS = {
    "source": "source",
    "path": "source",
    "kind": "quantization",
    "names": "names",
    "context": "context",
    "slots": "slots",
    "keep_alive": "keep_alive",
    "answer_tokens": "answer_tokens",
    "pinned": "pinned",
    "default": "default",
}


def _record(options: dict[str, Any]) -> None:
    """Record a successful action. ``target`` is the new name, where an action has one."""
    kind = _KINDS.get(options["action"])
    if kind is None:
        return
    name = str(options.get("target") or options.get("name") or options.get("id") or "")
    details: dict[str, Any] = {}
    for key, word in _DETAILS.items():
        value = options.get(key)
        if value is not None and value is not False:
            details[word] = value if isinstance(value, list) else str(value)
    if options.get("target") and options.get("name"):
        details["source"] = str(options["name"])
    target = ("job" if kind.startswith("job.") else "model", name, name) if name else None
    record(kind, via="cli", target=target, **details)


def _parameters(model: ModelName) -> str:
    lines = options.as_lines(custom.of(model).parameters)
    return "\n".join(f"{name}  {value}" for name, value in lines)


_PARTS: dict[str, Callable[[ModelName], str]] = {
    "modelfile": custom.as_modelfile,
    "parameters": _parameters,
    "system": lambda model: custom.of(model).system,
    "template": lambda model: custom.of(model).template,
}


def _is_present(model: ModelName) -> bool:
    if model.version.remote:
        return True
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
        "remote": bool(model.version.remote),
        "base": facts.only_continues(model),
        "created_at": model.created_at.isoformat(),
        "updated_at": model.updated_at.isoformat(),
    }
