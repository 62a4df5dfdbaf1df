"""Fields of vLLM, llama-server, TGI and SGLang that OpenAI does not have.

Each is honoured, refused with 400, or harmless. A field that constrains the answer and can't be
honoured is refused by name, because the client could not tell that it was ignored. Harmless ones
(hints about caches, backends, priorities, the order of samplers) are not declared here and are
ignored like any unknown field. docs/api/openai.md lists all three kinds.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter
from typing import Annotated, Any, Final

import msgspec
from django.utils.translation import gettext_lazy as _
from msgspec import Meta

from chatsite.api.core.http import BadField
from chatsite.engine.contract.backend import BadParameters
from chatsite.engine.grammar.patterns import of_pattern
from chatsite.engine.grammar.text_language import quoted

Grammar = Annotated[str, Meta(max_length=100_000)]
_CHOICES_MAX: Final = 1000


class StructuredOutputs(msgspec.Struct, frozen=True):
    """vLLM's structured outputs; exactly one of the first five fields is set."""

    json: dict[str, Any] | str | None = None
    choice: list[str] | None = None
    regex: str | None = None
    grammar: Grammar | None = None
    json_object: bool | None = None
    structural_tag: Any = None
    whitespace_pattern: str | None = None
    disable_additional_properties: bool | None = None


class Foreign(msgspec.Struct, frozen=True, kw_only=True):
    # Honoured: constraints, read by `constraint`.
    grammar: Grammar | None = None
    json_schema: dict[str, Any] | str | None = None
    guided_json: dict[str, Any] | str | None = None
    guided_choice: list[str] | None = None
    guided_regex: str | None = None
    guided_grammar: Grammar | None = None
    guided_json_object: bool | None = None
    structured_outputs: StructuredOutputs | None = None
    regex: str | None = None
    ebnf: Grammar | None = None
    format: Any = None  # Ollama's: "json" or a schema
    # Honoured: limits and stop conditions.
    n_predict: Annotated[int, Meta(ge=-1, le=10_000_000)] | None = None
    stop_token_ids: (
        Annotated[list[Annotated[int, Meta(ge=0, lt=2**31)]], Meta(max_length=64)] | None
    ) = None
    # Honoured: progress and timings in streams, written by `progress.py`.
    timings_per_token: bool | None = None
    return_progress: bool | None = None
    # Refused by `refuse` unless switched off.
    adapter_id: Any = None
    adaptive_target: Any = None
    allowed_token_ids: Any = None
    bad_words: Any = None
    chat_template: Any = None
    custom_logit_processor: Any = None
    documents: Any = None
    dry_multiplier: Any = None
    dynatemp_range: Any = None
    epsilon_cutoff: Any = None
    eta_cutoff: Any = None
    grammar_lazy: Any = None
    guided_whitespace_pattern: Any = None
    image_data: Any = None
    include_stop_str_in_output: Any = None
    logits_processors: Any = None
    logprob_token_ids: Any = None
    lora: Any = None
    lora_path: Any = None
    lora_request: Any = None
    mirostat: Any = None
    mirostat_mode: Any = None
    multimodal_data: Any = None
    n_indent: Any = None
    n_probs: Any = None
    no_repeat_ngram_size: Any = None
    no_stop_trim: Any = None
    post_sampling_probs: Any = None
    prompt_embeds: Any = None
    prompt_logprobs: Any = None
    repetition_detection: Any = None
    return_hidden_states: Any = None
    return_token_ids: Any = None
    return_tokens: Any = None
    return_tokens_as_token_ids: Any = None
    session_params: Any = None
    smoothing_factor: Any = None
    stop_regex: Any = None
    structural_tag: Any = None
    t_max_predict_ms: Any = None
    tfs: Any = None
    tfs_z: Any = None
    thinking_token_budget: Any = None
    top_a: Any = None
    top_n_sigma: Any = None
    truncate_prompt_tokens: Any = None
    use_beam_search: Any = None
    watermark: Any = None
    xtc_probability: Any = None


REFUSED: Final = Foreign.__struct_fields__[Foreign.__struct_fields__.index("adapter_id") :]
# One call reads all fields: almost no request sets any of them.
_refused_of = attrgetter(*REFUSED)
_CONSTRAINTS: Final = (
    "guided_json",
    "guided_choice",
    "guided_regex",
    "guided_grammar",
    "guided_json_object",
    "structured_outputs",
    "regex",
    "ebnf",
    "format",
    "json_schema",
    "grammar",
)
_constraints_of = attrgetter(*_CONSTRAINTS)
# Values that switch a field off, besides null, false, 0 and empty ones.
_OFF: Final = {
    "adaptive_target": (-1,),
    "n_indent": (-1,),
    "n_probs": (-1,),
    "t_max_predict_ms": (-1,),
    "tfs": (1,),
    "tfs_z": (1,),
    "thinking_token_budget": (-1,),
    "top_n_sigma": (-1,),
}


def hide_refused(properties: dict[str, Any]) -> None:
    """Remove the refused fields from the properties of an OpenAPI schema."""
    for name in REFUSED:
        properties.pop(name, None)


def refuse(request: Foreign) -> None:
    """Raise `BadField` for the first field that requests something unsupported."""
    values = _refused_of(request)
    if values.count(None) == len(values):
        return
    for name, value in zip(REFUSED, values, strict=True):
        # For `prompt_logprobs`, 0 requests log probabilities without alternatives; it does not
        # switch the field off.
        off = value is None if name == "prompt_logprobs" else not value
        if not off and value not in _OFF.get(name, ()):
            raise _unsupported(name)


def constraint(request: Foreign, *others: tuple[str, dict[str, Any]]) -> dict[str, Any]:
    """Return the one constraint as fields of `SamplingParams`; empty if there is none.

    ``others`` are constraints from the endpoint's own fields, each with the name of its field.
    Raises `BadField` for an invalid constraint, and for two that differ.
    """
    stated = _constraints_of(request)
    if stated.count(None) == len(stated):
        found = list(others)
    else:
        found = [*others, *_stated(request)]
    for name, value in found[1:]:
        if value != found[0][1]:
            raise BadField(
                _("%(name)s: can't be combined with %(other)s.")
                % {"name": name, "other": found[0][0]},
                param=name,
            )
    return found[0][1] if found else {}


def _stated(request: Foreign) -> list[tuple[str, dict[str, Any]]]:
    outputs = request.structured_outputs or StructuredOutputs()
    for name in ("structural_tag", "whitespace_pattern", "disable_additional_properties"):
        if getattr(outputs, name):
            raise _unsupported(f"structured_outputs.{name}")
    read: tuple[tuple[str, Any, Callable[[Any, str], dict[str, Any]]], ...] = (
        ("json_schema", request.json_schema, schema),
        ("grammar", request.grammar or None, gbnf),
        ("guided_json", request.guided_json, schema),
        ("guided_choice", request.guided_choice, choice),
        ("guided_regex", request.guided_regex, regex),
        ("guided_grammar", request.guided_grammar or None, gbnf),
        ("guided_json_object", request.guided_json_object or None, _any_object),
        ("structured_outputs.json", outputs.json, schema),
        ("structured_outputs.choice", outputs.choice, choice),
        ("structured_outputs.regex", outputs.regex, regex),
        ("structured_outputs.grammar", outputs.grammar, gbnf),
        ("structured_outputs.json_object", outputs.json_object or None, _any_object),
        ("regex", request.regex, regex),
        ("ebnf", request.ebnf or None, gbnf),
        ("format", None if request.format == "" else request.format, _format),
    )
    return [(name, make(value, name)) for name, value, make in read if value is not None]


def schema(value: Any, param: str) -> dict[str, Any]:
    """Convert a JSON schema, or its text as in vLLM and SGLang, to a constraint."""
    if isinstance(value, str):
        try:
            value = msgspec.json.decode(value)
        except (msgspec.DecodeError, RecursionError):
            value = None
    if not isinstance(value, dict):
        raise BadField(_("%(name)s: must be a JSON schema.") % {"name": param}, param=param)
    return {"json_schema": value}


def choice(value: list[str], param: str) -> dict[str, Any]:
    """Convert a list of allowed answers to a constraint."""
    if not 0 < len(value) <= _CHOICES_MAX or not all(value):
        raise BadField(
            _("%(name)s: must be 1 to %(most)s non-empty texts.")
            % {"name": param, "most": _CHOICES_MAX},
            param=param,
        )
    return {"grammar": "root ::= " + " | ".join(quoted(one) for one in value)}


def regex(value: Any, param: str) -> dict[str, Any]:
    """Convert a regular expression that must match the whole answer to a constraint."""
    try:
        return {"grammar": "root ::= " + of_pattern(value, param)}
    except BadParameters as error:
        raise BadField(str(error), param=param) from None


def gbnf(value: str, _param: str) -> dict[str, Any]:
    return {"grammar": value}


def _any_object(_value: bool, _param: str) -> dict[str, Any]:
    return {"json_schema": {"type": "object"}}


def _format(value: Any, param: str) -> dict[str, Any]:
    return {"json_schema": {"type": "object"}} if value == "json" else schema(value, param)


def _unsupported(name: str) -> BadField:
    return BadField(
        _("%(name)s: not supported by this server. Omit it.") % {"name": name}, param=name
    )
