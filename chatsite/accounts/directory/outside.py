"""HTTP requests to the OpenID Connect provider: to named hosts only, with timeouts and bounds.

The provider is on the intranet or outside, so its addresses may be private, unlike those of model
downloads. It is the host of `CHATSITE_OIDC_ISSUER`, and those in `CHATSITE_OIDC_HOSTS`. Redirects
are refused: a provider's endpoints do not move.
"""

from __future__ import annotations

import io
import ssl
import time
from typing import Any, Final
from urllib.parse import urlsplit

import requests
from django.conf import settings
from requests.adapters import HTTPAdapter

BODY_MOST: Final = 2 << 20
_BLOCK: Final = 64 << 10


class HostRefused(requests.RequestException):
    """The URL names a host that the settings do not allow."""


class _Verified(HTTPAdapter):
    """Verifies certificates by the authorities of the system, or of `CHATSITE_OIDC_CA_FILE`."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        kwargs["ssl_context"] = ssl.create_default_context(cafile=settings.ENV.oidc_ca_file)
        super().init_poolmanager(*args, **kwargs)

    def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:
        """Leave the context alone; requests would load the authorities of certifi into it."""
        conn.cert_reqs = "CERT_REQUIRED"


class ProviderSession(requests.Session):
    """A session that requests what `is_allowed` allows.

    Each connection, and each wait for data, may take `CHATSITE_DIRECTORY_TIMEOUT_SECONDS`, a whole
    response three times that.
    """

    def __init__(self) -> None:
        super().__init__()
        self.trust_env = False
        self.headers["User-Agent"] = "chatsite"
        self.mount("https://", _Verified())

    def request(self, method: str, url: Any, *args: Any, **kwargs: Any) -> requests.Response:
        """Send a request and read its response. Raises `requests.RequestException`."""
        if not is_allowed(str(url)):
            raise HostRefused(f"{url} is not on the issuer's host, nor on CHATSITE_OIDC_HOSTS")
        seconds = settings.ENV.directory_timeout_seconds
        deadline = time.monotonic() + 3 * seconds
        kwargs.update(timeout=(seconds, seconds), allow_redirects=False, stream=True)
        response = super().request(method, url, *args, **kwargs)
        try:
            if response.is_redirect:
                raise requests.TooManyRedirects("the provider redirects this request")
            body = bytearray()
            for block in response.iter_content(_BLOCK):
                body += block
                if len(body) > BODY_MOST:
                    raise requests.RequestException("the response is too large")
                if time.monotonic() > deadline:
                    raise requests.Timeout("the response takes too long")
        finally:
            response.close()
        return _read(response, bytes(body))


def _read(response: requests.Response, body: bytes) -> requests.Response:
    """Return the response with its body in memory."""
    whole = requests.Response()
    whole.status_code, whole.url = response.status_code, response.url
    whole.headers, whole.encoding = response.headers, response.encoding
    whole.reason, whole.request = response.reason, response.request
    whole.raw = io.BytesIO(body)
    return whole


def is_allowed(url: str) -> bool:
    """Return whether the provider may be requested at ``url``.

    The issuer's own origin is allowed as it is written. Other hosts must be listed, and use https.
    """
    try:
        parts, issuer = urlsplit(url), urlsplit(settings.ENV.oidc_issuer)
        if not issuer.hostname or parts.username is not None or not parts.hostname:
            return False
        if _origin(parts) == _origin(issuer):
            return True
    except ValueError:
        return False
    if parts.scheme != "https":
        return False
    host = parts.hostname.lower()
    names = (*settings.ENV.oidc_hosts, issuer.hostname)
    return any(
        host.endswith(name[1:].lower()) if name.startswith("*.") else host == name.lower()
        for name in names
    )


def _origin(parts: Any) -> tuple[str, str, int]:
    return parts.scheme, parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)
