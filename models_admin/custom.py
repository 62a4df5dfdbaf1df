"""Custom models: a name that adds a configuration to an installed version.

`apply` is the one place where a configuration meets a request, whoever makes it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from django.utils.translation import gettext_lazy as _

from chatsite.engine.messages import ChatMessage, PromptOptions, Role, SamplingParams
from models_admin import catalogue, go_template, modelfile, names, options, versions
from models_admin.models import ModelName


class Configuration(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a name adds to its version. ``parent`` is the name it was made from; ``parameters``
    have Ollama's names; ``template`` is as its author wrote it; ``messages`` are (role, text)."""

    parent: str = ""
    parameters: dict[str, Any] = {}
    system: str = ""
    template: str = ""
    messages: tuple[tuple[Role, str], ...] = ()
    licenses: tuple[str, ...] = ()


class Preset(msgspec.Struct, frozen=True):
    """What an assistant puts in place of its model's own. ``administered``: its instructions are
    an administrator's, and not those of somebody for themselves."""

    system: str = ""
    parameters: dict[str, Any] = {}
    administered: bool = False


class Request(msgspec.Struct, frozen=True):
    """What the engine is asked; see `engine.messages.Generate`."""

    messages: tuple[ChatMessage, ...]
    params: SamplingParams
    options: PromptOptions


def configuration(name: str) -> Configuration:
    """That of a name; empty for a plain model, and for one that is not there."""
    model = catalogue.installed(name)
    return of(model) if model else Configuration()


def of(model: ModelName) -> Configuration:
    return msgspec.convert(model.configuration, Configuration)


def apply(
    configuration: Configuration,
    messages: Sequence[ChatMessage],
    said: Mapping[str, Any],
    *,
    system: str = "",
    prompt: PromptOptions | None = None,
    preset: Preset | None = None,
) -> Request:
    """``said`` holds the fields of `SamplingParams` that the request itself sets; ``system`` is
    for models without one of their own. A request that begins with a system message keeps it
    in place of the preset's and the model's."""
    prompt = prompt or PromptOptions()
    preset = preset or Preset()
    parameters = {**configuration.parameters, **preset.parameters}
    params = msgspec.convert({**options.sampling(parameters), **said}, SamplingParams)
    if prompt.raw is not None:
        return Request((), params, prompt)
    own = 0
    while own < len(messages) and messages[own].role == "system":
        own += 1
    head = list(messages[:own])
    system = preset.system or configuration.system or system
    if system and not own:
        head = [ChatMessage("system", system)]
    head += [ChatMessage(role, text) for role, text in configuration.messages]
    # Only an administrator's words may be shared between people in the engine's cache.
    theirs = bool(own) or (bool(preset.system) and not preset.administered)
    administered = 0 if theirs else len(head)
    rest = list(messages[own:])
    if head and rest and head[-1].role == rest[0].role and rest[0].role != "tool":
        # Many templates refuse two messages of one role in a row.
        joined = f"{head.pop().content}\n\n{rest[0].content}"
        rest[0] = msgspec.structs.replace(rest[0], content=joined)
        administered = min(administered, len(head))
    template = prompt.template or go_template.as_jinja(configuration.template)
    return Request(
        (*head, *rest),
        params,
        msgspec.structs.replace(prompt, administered=administered, template=template),
    )


def create(name: str, text: str) -> ModelName:
    """Makes ``name`` what the Modelfile ``text`` says. What the model in FROM has of its own
    goes over, except where the Modelfile says otherwise.

    Raises `BadModelName`, `BadModelfile`, `BadOption`, `ModelMissing` or
    `UntranslatableTemplate`.
    """
    return make(name, modelfile.parse(text))


def make(name: str, file: modelfile.Modelfile) -> ModelName:
    """The same from a Modelfile that was read already."""
    written = names.normalise(name)
    parent = catalogue.require(file.source)
    made = described(file, parent)
    return versions.point(written, parent, msgspec.to_builtins(made))


def described(file: modelfile.Modelfile, parent: ModelName | None) -> Configuration:
    """What the Modelfile adds to the weights; what it does not say is as in ``parent``, where
    there is one. Raises as `make` does."""
    if file.adapter is not None:
        raise modelfile.BadModelfile(
            _("ADAPTER is not supported. Merge the adapter into the model and import the result.")
        )
    inherited = of(parent) if parent else Configuration()
    template = inherited.template if file.template is None else file.template
    go_template.as_jinja(template)
    made = Configuration(
        parent=parent.name if parent else "",
        parameters={**inherited.parameters, **file.parameters},
        system=inherited.system if file.system is None else file.system,
        template=template,
        messages=file.messages or inherited.messages,
        licenses=file.licenses or inherited.licenses,
    )
    options.sampling(made.parameters)
    return made


def as_modelfile(model: ModelName) -> str:
    made = of(model)
    return modelfile.write(
        made.parent or model.name,
        parameters=made.parameters,
        template=made.template,
        system=made.system,
        licenses=made.licenses,
        messages=made.messages,
    )
