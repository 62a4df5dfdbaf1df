"""The registry protocol of Ollama: a manifest names layers by digest."""

from __future__ import annotations

import re
from typing import Any, Final
from urllib.parse import urlencode

import httpx
import msgspec
from django.conf import settings
from django.utils.translation import gettext_lazy as _

from models_admin import names
from models_admin.sources import fetch
from models_admin.sources.base import Blob, Resolved, SourceRefused, answer, not_understood, refusal

_MANIFEST: Final = "application/vnd.docker.distribution.manifest.v2+json"
_LAYER: Final = "application/vnd.ollama.image."
ROLES: Final = frozenset(
    {"model", "template", "system", "params", "license", "messages", "adapter", "projector"}
)
PARAMETER = re.compile(r'\b(\w+)="([^"]*)"')
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


def resolve(name: names.Name) -> Resolved:
    base = f"{endpoint(name.host)}/v2/{name.namespace}/{name.model}"
    url = f"{base}/manifests/{name.tag}"
    reply, found = answer(url, headers={"Accept": _MANIFEST})
    token = ""
    if reply.status == 401:
        token = _token(reply)
        reply, found = answer(url, headers={"Accept": _MANIFEST}, token=token)
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
        raise SourceRefused(_("This is not a single GGUF model. Only GGUF models are supported."))
    _config_reply, config = answer(f"{base}/blobs/{manifest.config.digest}", token=token)
    return Resolved(str(name), blobs, config if isinstance(config, dict) else {})


def endpoint(host: str) -> str:
    if host.lower() == names.DEFAULT_HOST and settings.ENV.ollama_registry:
        return str(settings.ENV.ollama_registry)
    return f"https://{host}"


def _token(reply: fetch.Reply) -> str:
    """Return the anonymous token that the realm issues.

    The realm must be on the registry's own host. Another host would learn no secret, but it was not
    configured either.
    """
    wanted = dict(PARAMETER.findall(reply.header("WWW-Authenticate")))
    realm = wanted.pop("realm", "")
    if not realm or httpx.URL(realm).host != httpx.URL(reply.url).host:
        raise refusal(reply.status)
    query = urlencode({key: wanted[key] for key in ("service", "scope") if key in wanted})
    given, found = answer(f"{realm}?{query}")
    token: Any = found.get("token") if isinstance(found, dict) else None
    if not isinstance(token, str) or not token:
        raise refusal(given.status if given.status != 200 else reply.status)
    return token
