"""The registry protocol that Ollama pulls by: a manifest names layers by digest."""

from __future__ import annotations

import re
from typing import Any, Final
from urllib.parse import urlencode

import httpx
import msgspec
from django.conf import settings
from django.utils.translation import gettext_lazy as _

from models_admin import fetch, names
from models_admin.sources.base import Blob, Resolved, SourceRefused, answer, not_understood, refusal

_MANIFEST: Final = "application/vnd.docker.distribution.manifest.v2+json"
_LAYER: Final = "application/vnd.ollama.image."
ROLES: Final = frozenset(
    {"model", "template", "system", "params", "license", "messages", "adapter", "projector"}
)
_PARAMETER = re.compile(r'(\w+)="([^"]*)"')
_DIGEST = "^sha256:[0-9a-f]{64}$"


class _Layer(msgspec.Struct, frozen=True, rename="camel"):
    media_type: str
    digest: str = msgspec.field()
    size: int = msgspec.field()

    def __post_init__(self) -> None:
        if not re.match(_DIGEST, self.digest) or self.size < 0:
            raise ValueError(self.digest)


class _Manifest(msgspec.Struct, frozen=True):
    layers: list[_Layer]
    config: _Layer


async def resolve(name: names.Name) -> Resolved:
    base = f"{_base(name.host)}/v2/{name.namespace}/{name.model}"
    url = f"{base}/manifests/{name.tag}"
    reply, found = await answer(url, headers={"Accept": _MANIFEST})
    token = ""
    if reply.status == 401:
        token = await _token(reply)
        reply, found = await answer(url, headers={"Accept": _MANIFEST}, token=token)
    if reply.status != 200:
        raise refusal(reply.status)
    try:
        manifest = msgspec.convert(found, _Manifest)
    except msgspec.ValidationError as error:
        raise not_understood() from error
    blobs = tuple(
        Blob(
            f"{base}/blobs/{layer.digest}",
            layer.digest.removeprefix("sha256:"),
            layer.size,
            layer.media_type.removeprefix(_LAYER),
            token,
        )
        for layer in manifest.layers
        if layer.media_type.removeprefix(_LAYER) in ROLES
    )
    if sum(blob.role == "model" for blob in blobs) != 1:
        raise SourceRefused(_("This is not one GGUF model: only those can be run here."))
    _config_reply, config = await answer(f"{base}/blobs/{manifest.config.digest}", token=token)
    return Resolved(str(name), blobs, config if isinstance(config, dict) else {})


def _base(host: str) -> str:
    if host.lower() == names.DEFAULT_HOST and settings.ENV.ollama_registry:
        return str(settings.ENV.ollama_registry)
    return f"https://{host}"


async def _token(reply: fetch.Reply) -> str:
    """What the realm gives to anybody. It must be on the registry's own host: another one would
    learn nothing, but nobody named it."""
    wanted = dict(_PARAMETER.findall(reply.headers.get("WWW-Authenticate", "")))
    realm = wanted.pop("realm", "")
    if not realm or httpx.URL(realm).host != httpx.URL(reply.url).host:
        raise refusal(reply.status)
    query = urlencode({key: wanted[key] for key in ("service", "scope") if key in wanted})
    given, found = await answer(f"{realm}?{query}")
    token: Any = found.get("token") if isinstance(found, dict) else None
    if not isinstance(token, str) or not token:
        raise refusal(given.status if given.status != 200 else reply.status)
    return token
