"""Why an engine can't serve a request, as users read it behind "does not support this request".

The texts are stored with the answer and translated for each reader by `RequestRefused`.
"""

from __future__ import annotations

from typing import Final

from django.utils.translation import gettext_noop as _

from chatsite.inference.remote.contract import Capability

CANT_CONTINUE: Final = _("its engine can't continue an answer; regenerate it instead")
NO_EMBEDDINGS: Final = _("its engine computes no embeddings")
NO_FORCED_CALL: Final = _("its engine can't be made to call a function")
NO_TEMPLATE: Final = _("its engine does not take a chat template")
TEXT_ONLY: Final = _("its engine takes texts, not tokens")
TOO_MANY_STOPS: Final = _("its engine takes fewer stop sequences")
LACKING: Final[dict[Capability, str]] = {
    Capability.CHAT: _("its engine does not chat"),
    Capability.COMPLETION: _("its engine does not complete plain text"),
    Capability.TOOLS: _("its engine does not call tools"),
    Capability.VISION: _("its engine does not read images"),
    Capability.REASONING: _("its engine does not reason"),
    Capability.JSON_SCHEMA: _("its engine does not support JSON schemas"),
    Capability.GRAMMAR: _("its engine does not support grammars"),
    Capability.LOGPROBS: _("its engine returns no log probabilities"),
    Capability.EMBEDDINGS: NO_EMBEDDINGS,
    Capability.CONTINUATION: CANT_CONTINUE,
    Capability.TOKEN_COUNT: _("its engine does not count tokens"),
    Capability.CACHE_ISOLATION: _("its engine does not isolate the caches of users"),
}
PARAMETERS: Final[dict[str, str]] = {
    "stop_tokens": _("its engine does not support stop_tokens"),
    "ignore_eos": _("its engine does not support ignore_eos"),
    "min_tokens": _("its engine does not support min_tokens"),
    "logit_bias": _("its engine does not support logit_bias"),
    "suffix": _("its engine does not support suffix"),
    "echo": _("its engine does not support echo"),
    "template": NO_TEMPLATE,
}


def lacking(missing: frozenset[Capability]) -> str:
    """Return the reason for the first of the capabilities that a model lacks."""
    return LACKING[min(missing, key=lambda one: one.value)]
