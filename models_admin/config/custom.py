"""Custom models: names that add a configuration to an installed version.

`apply` is the only place where a configuration is applied to a request, whatever its origin.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from django.utils.translation import gettext_lazy as _

from chatsite.engine.contract.messages import ChatMessage, PromptOptions, Role, SamplingParams
from models_admin import catalogue, names
from models_admin.config import go_template, modelfile, options
from models_admin.models import ModelName
from models_admin.store import versions


class Configuration(msgspec.Struct, frozen=True, omit_defaults=True):
    """The configuration that a name adds to its version.

    ``parent`` is the name that it was created from; ``parameters`` use Ollama's names; ``template``
    is as its author wrote it; ``messages`` are (role, text).
    """

    parent: str = ""
    parameters: dict[str, Any] = {}
    system: str = ""
    template: str = ""
    messages: tuple[tuple[Role, str], ...] = ()
    licenses: tuple[str, ...] = ()


class Preset(msgspec.Struct, frozen=True):
    """What an assistant uses instead of its model's configuration.

    ``administered``: the instructions are an administrator's, not a user's own.
    """

    system: str = ""
    parameters: dict[str, Any] = {}
    administered: bool = False


class Request(msgspec.Struct, frozen=True):
    """A request to the engine; see `engine.contract.messages.Generate`."""

    messages: tuple[ChatMessage, ...]
    params: SamplingParams
    options: PromptOptions


def configuration(name: str) -> Configuration:
    """Return the configuration of a name; empty for a plain or missing model."""
    model = catalogue.installed(name)
    return of(model) if model else Configuration()


def of(model: ModelName) -> Configuration:
    return msgspec.convert(model.configuration, Configuration)


def apply(
    configuration: Configuration,
    messages: Sequence[ChatMessage],
    said: Mapping[str, Any],
    *,
    defaults: Mapping[str, Any] | None = None,
    system: str = "",
    prompt: PromptOptions | None = None,
    preset: Preset | None = None,
) -> Request:
    """Apply a configuration to a request.

    ``said`` holds the fields of `SamplingParams` that the request sets, ``defaults`` those used
    where neither the request nor the model sets them. ``system`` is used if the model has no system
    text. A request that begins with a system message keeps it, instead of the preset's and the
    model's.
    """
    prompt = prompt or PromptOptions()
    preset = preset or Preset()
    parameters = {**configuration.parameters, **preset.parameters}
    fields = {**(defaults or {}), **options.sampling(parameters), **said}
    params = msgspec.convert(fields, SamplingParams)
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
    # Only an administrator's text may be shared between users in the engine's cache.
    theirs = bool(own) or (bool(preset.system) and not preset.administered)
    administered = 0 if theirs else len(head)
    rest = list(messages[own:])
    if head and rest and head[-1].role == rest[0].role and rest[0].role != "tool":
        # Many templates refuse two messages of one role in a row.
        joined = f"{head.pop().content}\n\n{rest[0].content}"
        rest[0] = msgspec.structs.replace(rest[0], content=joined)
        administered = min(administered, len(head))
    if not prompt.template:
        template = go_template.as_jinja(configuration.template)
        prompt = msgspec.structs.replace(prompt, template=template, template_administered=True)
    return Request(
        (*head, *rest), params, msgspec.structs.replace(prompt, administered=administered)
    )


def create(name: str, text: str) -> ModelName:
    """Create or change ``name`` as the Modelfile ``text`` describes.

    The configuration of the model in FROM is inherited, except where the Modelfile overrides it.

    Raises `BadModelName`, `BadModelfile`, `BadOption`, `ModelMissing` or `UntranslatableTemplate`.
    """
    return make(name, modelfile.parse(text))


def make(name: str, file: modelfile.Modelfile) -> ModelName:
    """Create or change ``name`` as a parsed Modelfile describes; see `create`."""
    written = names.normalise(name)
    parent = catalogue.require(file.source)
    made = described(file, parent)
    return versions.set_alias(written, parent, msgspec.to_builtins(made))


def described(file: modelfile.Modelfile, parent: ModelName | None) -> Configuration:
    """Return the configuration that a Modelfile describes.

    What it does not set is inherited from ``parent``, if there is one. Raises the errors of `make`.
    """
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
