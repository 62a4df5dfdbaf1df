"""Where models come from: a name becomes a list of files with their digests."""

from __future__ import annotations

from models_admin import names
from models_admin.sources import huggingface, ollama, url
from models_admin.sources.base import Resolved


async def resolve(name: str) -> Resolved:
    """Asks the source that ``name`` belongs to: ``smollm2:135m`` an Ollama registry,
    ``hf.co/owner/repo:QUANT`` Hugging Face, ``https://host/file.gguf`` that address. Raises
    `BadModelName`, `SourceMissing`, `SourceRefused`, `FetchRefused` or `FetchFailed`."""
    if url.is_url(name):
        return await url.resolve(name)
    parsed = names.parse(name)
    if parsed.host.lower() in huggingface.HOSTS:
        return await huggingface.resolve(parsed)
    return await ollama.resolve(parsed)
