"""Model names in Ollama's notation: ``[scheme://][host/][namespace/]model[:tag]``.

Names are used only in the database and for display; no file is named after one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from chatsite.errors import ChatsiteError, worded

DEFAULT_HOST = "registry.ollama.ai"
DEFAULT_NAMESPACE = "library"
DEFAULT_TAG = "latest"
MAX_LENGTH = 200  # of the column that holds the written form

_SCHEME = re.compile(r"https?://", re.ASCII | re.IGNORECASE)
_HOST = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,349}")
_NAMESPACE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,79}")
_MODEL = _TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,79}")


class BadModelName(ChatsiteError, ValueError):
    code = "bad_model_name"
    status = 400
    message = _("A model name looks like smollm2:135m or someone/model:tag.")


@dataclass(frozen=True)
class Name:
    """The parts of a name, with defaults filled in; case is kept."""

    host: str
    namespace: str
    model: str
    tag: str

    def __str__(self) -> str:
        """Return the short form: without the default host and namespace, always with the tag."""
        short = f"{self.model}:{self.tag}"
        if self.host.lower() != DEFAULT_HOST:
            return f"{self.host}/{self.namespace}/{short}"
        if self.namespace.lower() != DEFAULT_NAMESPACE:
            return f"{self.namespace}/{short}"
        return short


def parse(text: str) -> Name:
    """Parse a model name. Raises `BadModelName`, whose message names the invalid part."""
    if not text:
        raise BadModelName(_("The model name is empty."))
    if len(text) > MAX_LENGTH:
        raise _refusal(
            _("The model name has %(length)s characters; the maximum is %(most)s."),
            length=len(text),
            most=MAX_LENGTH,
        )
    scheme = _SCHEME.match(text)
    rest = text[scheme.end() :] if scheme else text
    if "://" in rest:
        raise _refusal(_("The model name %(name)r has an unknown scheme."), name=text)
    path, colon, tag = rest.rpartition(":")
    if not colon or "/" in tag:
        path, tag = rest, DEFAULT_TAG
    *ahead, model = path.split("/")
    if len(ahead) > 2:
        raise _refusal(
            _("The model name %(name)r has too many slashes: host/namespace/model:tag."), name=text
        )
    namespace = ahead.pop() if ahead else DEFAULT_NAMESPACE
    host = ahead.pop() if ahead else DEFAULT_HOST
    for value, pattern, label in (
        (model, _MODEL, _("model")),
        (tag, _TAG, _("tag")),
        (namespace, _NAMESPACE, _("namespace")),
        (host, _HOST, _("host")),
    ):
        if not pattern.fullmatch(value):
            raise _bad_part(text, label, value, pattern)
    name = Name(host, namespace, model, tag)
    if len(str(name)) > MAX_LENGTH:
        raise BadModelName(_("The model name is too long."))
    return name


def normalise(text: str) -> str:
    """Return the canonical form that is stored: ``SmolLM2`` becomes ``SmolLM2:latest``."""
    return str(parse(text))


def _bad_part(
    text: str, label: str | Promise, value: str, pattern: re.Pattern[str]
) -> BadModelName:
    if not value:
        return _refusal(
            _("The %(part)s in the model name %(name)r is empty."), part=label, name=text
        )
    if pattern is not _NAMESPACE:
        reason = _(
            "The %(part)s %(value)r in the model name is invalid: use at most %(most)s of the "
            "characters a-z A-Z 0-9 _ - . and start with a letter, a digit or _."
        )
    else:
        reason = _(
            "The %(part)s %(value)r in the model name is invalid: use at most %(most)s of the "
            "characters a-z A-Z 0-9 _ - and start with a letter, a digit or _."
        )
    return _refusal(reason, part=label, value=value, most=350 if pattern is _HOST else 80)


def _refusal(message: str | Promise, **values: object) -> BadModelName:
    return BadModelName(worded(message, values))
