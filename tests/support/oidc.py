"""OpenID Connect providers: a real one as a process, and one that lies on demand."""

from __future__ import annotations

import base64
import hashlib
import json
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.error import URLError
from urllib.parse import parse_qs, urlencode, urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener, urlopen

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.support.stack import free_port
from tests.support.tls import Certificate

CLIENT_ID = "chatsite"
CLIENT_SECRET = "client secret"
_START_SECONDS = 20


class _Stay(HTTPRedirectHandler):
    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


class ProviderProcess:
    """`oidc-provider-mock` as a process. ``users`` are subjects and their claims."""

    def __init__(self, users: Mapping[str, Mapping[str, Any]]) -> None:
        self.port = free_port()
        self.issuer = f"http://127.0.0.1:{self.port}"
        claims = [json.dumps({"sub": sub, **values}) for sub, values in users.items()]
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "oidc_provider_mock", "--port", str(self.port)),
                *("--require-nonce", "true"),
                *(word for one in claims for word in ("--user-claims", one)),
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + _START_SECONDS
        while True:
            try:
                urlopen(f"{self.issuer}/jwks", timeout=60).close()
                return
            except URLError:
                assert self.process.poll() is None, "the provider has left"
                assert time.monotonic() < deadline, "the provider does not answer"
                time.sleep(0.1)

    def set_claims(self, sub: str, **claims: Any) -> None:
        request = Request(
            f"{self.issuer}/users/{sub}",
            data=json.dumps(claims).encode(),
            headers={"Content-Type": "application/json"},
            method="PUT",
        )
        urlopen(request, timeout=60).close()

    def sign_in(self, authorization_url: str, sub: str) -> str:
        """Sign in at the provider as ``sub``; return where it sends the browser."""
        request = Request(authorization_url, data=urlencode({"sub": sub}).encode())
        return _location(request)

    def deny(self, authorization_url: str) -> str:
        request = Request(authorization_url, data=urlencode({"action": "deny"}).encode())
        return _location(request)

    @property
    def settings(self) -> dict[str, object]:
        """Return fields of the product's settings that use this provider."""
        return {
            "oidc_issuer": self.issuer,
            "oidc_client_id": CLIENT_ID,
            "oidc_client_secret": CLIENT_SECRET,
        }

    @property
    def environment(self) -> dict[str, str]:
        return {f"CHATSITE_{name.upper()}": str(value) for name, value in self.settings.items()}

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(60)


def _location(request: Request) -> str:
    try:
        response = build_opener(_Stay).open(request, timeout=60)
    except URLError as error:
        response = error
    with response:
        assert response.status in {302, 303}, response.read()
        return str(response.headers["Location"])


@cache
def _key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


class LyingProvider:
    """A provider in this process, which checks PKCE and whose answers a test changes.

    ``claims`` go into ID tokens, ``user_info`` into user information, ``document`` into the
    discovery document. ``sign_with`` replaces the published key, ``header`` fields of the token's
    header. ``silent`` lets requests wait. With ``tls`` it serves https.
    """

    def __init__(self, tls: Certificate | None = None) -> None:
        self.key = _key()
        self.sign_with: Any = self.key
        self.algorithm = "RS256"
        self.claims: dict[str, Any] = {}
        self.user_info: dict[str, Any] = {}
        self.document: dict[str, Any] = {}
        self.header: dict[str, Any] = {"kid": "one"}
        self.requests: list[str] = []
        self.silent = threading.Event()
        self.challenge = self.nonce = ""
        self.redirect_from = ""
        provider = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._answer({})

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"])).decode()
                self._answer({name: values[0] for name, values in parse_qs(body).items()})

            def _answer(self, form: dict[str, str]) -> None:
                while provider.silent.is_set():
                    time.sleep(0.02)
                provider.requests.append(self.path)
                if self.path == provider.redirect_from:
                    self.send_response(302)
                    self.send_header("Location", "/elsewhere")
                    self.end_headers()
                    return
                status, found = provider.answer(self.path, form)
                data = json.dumps(found).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        scheme = "http"
        if tls is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(tls.chain, tls.key)
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
            scheme = "https"
        self.issuer = f"{scheme}://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def visit(self, authorization_url: str) -> str:
        """Take what a browser would bring; return the query that it comes back with."""
        query = {
            name: values[0] for name, values in parse_qs(urlsplit(authorization_url).query).items()
        }
        self.challenge, self.nonce = query["code_challenge"], query["nonce"]
        assert query["code_challenge_method"] == "S256"
        return urlencode({"code": "a code", "state": query["state"]})

    def answer(self, path: str, form: dict[str, str]) -> tuple[int, dict[str, Any]]:
        if path.endswith("/openid-configuration"):
            return 200, {
                "issuer": self.issuer,
                "authorization_endpoint": f"{self.issuer}/authorize",
                "token_endpoint": f"{self.issuer}/token",
                "userinfo_endpoint": f"{self.issuer}/userinfo",
                "jwks_uri": f"{self.issuer}/keys",
                "token_endpoint_auth_methods_supported": ["client_secret_basic"],
            } | self.document
        if path == "/keys":
            public = jwt.algorithms.RSAAlgorithm.to_jwk(self.key.public_key(), as_dict=True)
            return 200, {"keys": [{**public, "kid": "one", "use": "sig"}]}
        if path == "/userinfo":
            return 200, {"sub": "1", **self.user_info}
        digest = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
        if base64.urlsafe_b64encode(digest).rstrip(b"=").decode() != self.challenge:
            return 400, {"error": "invalid_grant"}
        now = int(time.time())
        claims = {
            "iss": self.issuer,
            "aud": CLIENT_ID,
            "sub": "1",
            "iat": now,
            "exp": now + 60,
            "nonce": self.nonce,
            "preferred_username": "ann",
        } | self.claims
        token = jwt.encode(
            {name: value for name, value in claims.items() if value is not None},
            self.sign_with,
            self.algorithm,
            headers=self.header,
        )
        return 200, {"access_token": "a token", "token_type": "Bearer", "id_token": token}

    @property
    def settings(self) -> dict[str, object]:
        return {
            "oidc_issuer": self.issuer,
            "oidc_client_id": CLIENT_ID,
            "oidc_client_secret": CLIENT_SECRET,
        }

    def stop(self) -> None:
        self.silent.clear()
        self.server.shutdown()
        self.server.server_close()
