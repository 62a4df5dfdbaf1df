"""Sources of models. A source resolves a name to a list of files with their digests."""

from __future__ import annotations

from models_admin import names
from models_admin.sources import egress, huggingface, ollama, url
from models_admin.sources.base import Resolved


def check(name: str) -> None:
    """Raise `BadModelName` or `FetchRefused` if the source is not allowed, judging by its name.

    Nothing is sent.
    """
    if url.is_url(name):
        egress.parse(name.partition("#")[0])
        return
    parsed = names.parse(name)
    is_hub = parsed.host.lower() in huggingface.HOSTS
    egress.parse(huggingface.endpoint() if is_hub else ollama.endpoint(parsed.host))


def resolve(name: str) -> Resolved:
    """Resolve ``name`` at the source that it belongs to.

    ``smollm2:135m`` is resolved at an Ollama registry, ``hf.co/owner/repo:QUANT`` at Hugging Face,
    ``https://host/file.gguf`` at that URL. Raises `BadModelName`, `SourceMissing`, `SourceRefused`,
    `FetchRefused` or `FetchFailed`.
    """
    if url.is_url(name):
        return url.resolve(name)
    parsed = names.parse(name)
    if parsed.host.lower() in huggingface.HOSTS:
        return huggingface.resolve(parsed)
    return ollama.resolve(parsed)
