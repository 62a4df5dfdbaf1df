"""Resolving names to files with digests, at a registry and a hub that speak the real protocols."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from models_admin import names, sources
from models_admin.sources import huggingface
from models_admin.sources.base import SourceMissing, SourceRefused

DIGEST = "ab" * 32
CONFIG = "cd" * 32


class Handler(BaseHTTPRequestHandler):
    """``answers``: path and query to (status, headers, JSON); ``asked``: paths and tokens."""

    answers: dict
    asked: list
    needs_token = False
    base = ""

    def do_GET(self) -> None:
        own = type(self)
        given = self.headers["Authorization"]
        own.asked.append((self.path, given))
        status, headers, body = own.answers.get(self.path, (404, {}, {}))
        if own.needs_token and self.path.startswith("/v2/") and given != "Bearer given":
            realm = f"http://{self.headers['Host']}/token"
            scope = f'realm="{realm}",service="ollama",scope="pull"'
            status, headers, body = 401, {"WWW-Authenticate": f"Bearer {scope}"}, {}
        data = json.dumps(body).encode()
        self.send_response(status)
        for key, value in {**headers, "Content-Length": str(len(data))}.items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def hub(settings):
    class handler(Handler):  # noqa: N801
        answers: dict = {}
        asked: list = []

    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    handler.base = f"http://127.0.0.1:{server.server_port}"
    settings.ENV = settings.ENV.model_copy(
        update={"ollama_registry": handler.base, "hf_endpoint": handler.base, "hf_token": "mine"}
    )
    yield handler
    server.shutdown()
    server.server_close()


def layer(kind: str, digest: str = DIGEST, size: int = 7) -> dict:
    return {
        "mediaType": f"application/vnd.ollama.image.{kind}",
        "digest": f"sha256:{digest}",
        "size": size,
    }


def manifest(hub, *layers: dict) -> None:
    found = {"schemaVersion": 2, "config": layer("config", CONFIG), "layers": list(layers)}
    hub.answers["/v2/library/tiny/manifests/1b"] = (200, {}, found)
    hub.answers[f"/v2/library/tiny/blobs/sha256:{CONFIG}"] = (200, {}, {"model_family": "llama"})


def tree(hub, *paths: str) -> None:
    entries = [{"type": "file", "path": path, "lfs": {"oid": DIGEST, "size": 7}} for path in paths]
    hub.answers["/api/models/o/r/tree/main?recursive=true"] = (200, {}, entries)


class TestRegistry:
    def test_layers_become_files(self, hub):
        manifest(hub, layer("model"), layer("template", "ef" * 32, 2), layer("unknown"))
        found = sources.resolve("tiny:1b")
        assert [(blob.role, blob.size) for blob in found.blobs] == [("model", 7), ("template", 2)]
        assert found.blobs[0].url == f"{hub.base}/v2/library/tiny/blobs/sha256:{DIGEST}"
        assert (found.name, found.total) == ("tiny:1b", 9)
        assert found.config == {"model_family": "llama"}

    def test_a_token_is_fetched_when_asked_for(self, hub):
        manifest(hub, layer("model"))
        hub.needs_token = True
        hub.answers["/token?service=ollama&scope=pull"] = (200, {}, {"token": "given"})
        found = sources.resolve("tiny:1b")
        assert found.blobs[0].token == "given"
        assert "given" not in repr(found)

    def test_a_realm_elsewhere_is_not_asked(self, hub):
        header = {"WWW-Authenticate": 'Bearer realm="http://localhost:1/token"'}
        hub.answers["/v2/library/tiny/manifests/1b"] = (401, header, {})
        with pytest.raises(SourceRefused, match="Access denied"):
            sources.resolve("tiny:1b")
        assert len(hub.asked) == 1

    def test_a_missing_model_is_reported(self, hub):
        with pytest.raises(SourceMissing):
            sources.resolve("nothing")

    @pytest.mark.parametrize("digest", ["../../etc/passwd", "AB" * 32, "ab" * 31])
    def test_an_invalid_digest_is_refused(self, hub, digest):
        manifest(hub, layer("model", digest))
        with pytest.raises(SourceRefused):
            sources.resolve("tiny:1b")

    def test_a_model_without_weights_is_refused(self, hub):
        manifest(hub, layer("license"))
        with pytest.raises(SourceRefused, match="GGUF"):
            sources.resolve("tiny:1b")

    @pytest.mark.parametrize("name", ["../../x", "x" * 300, "a/b/c/d", "ftp://h/x/y"])
    def test_an_invalid_name_sends_no_request(self, hub, name):
        with pytest.raises(names.BadModelName):
            sources.resolve(name)
        assert not hub.asked


class TestHub:
    @pytest.mark.parametrize(
        ("name", "path"),
        [
            ("hf.co/o/r", "sub/m-Q4_K_M.gguf"),
            ("hf.co/o/r:q8_0", "m.Q8_0.gguf"),
            ("huggingface.co/o/r:m.Q8_0.gguf", "m.Q8_0.gguf"),
        ],
    )
    def test_a_tag_chooses_the_file(self, hub, name, path):
        tree(hub, "README.md", "sub/m-Q4_K_M.gguf", "m.Q8_0.gguf", "mmproj-Q8_0.gguf")
        (blob,) = (sources.resolve(name)).blobs
        assert blob.url == f"{hub.base}/o/r/resolve/main/{path}"
        assert (blob.digest, blob.size, blob.role) == (DIGEST, 7, "model")
        assert hub.asked[0][1] == "Bearer mine"

    def test_the_listing_goes_over_pages(self, hub):
        following = {"Link": f'<{hub.base}/more>; rel="next"'}
        hub.answers["/api/models/o/r/tree/main?recursive=true"] = (200, following, [])
        entry = {"path": "only.gguf", "lfs": {"oid": DIGEST, "size": 7}}
        hub.answers["/more"] = (200, {}, [entry])
        assert (sources.resolve("hf.co/o/r")).config == {"files": ["only.gguf"]}

    def test_a_listing_does_not_lead_the_token_elsewhere(self, hub):
        following = {"Link": '<https://huggingface.co/more>; rel="next"'}
        hub.answers["/api/models/o/r/tree/main?recursive=true"] = (200, following, [])
        with pytest.raises(SourceRefused, match="invalid response"):
            sources.resolve("hf.co/o/r")

    def test_an_unknown_tag_lists_the_available_ones(self, hub):
        tree(hub, "a-Q2_K.gguf", "a-Q8_0.gguf")
        with pytest.raises(SourceRefused, match=r"a-Q2_K\.gguf, a-Q8_0\.gguf"):
            sources.resolve("hf.co/o/r:Q5_0")

    def test_all_parts_of_a_split_model_in_order(self, hub):
        tree(hub, "m-Q8_0-00002-of-00002.gguf", "m-Q8_0-00001-of-00002.gguf")
        found = sources.resolve("hf.co/o/r:Q8_0")
        assert [blob.url[-19:-5] for blob in found.weights] == ["00001-of-00002", "00002-of-00002"]
        assert found.version not in {"", DIGEST}
        tree(hub, "m-Q8_0-00001-of-00002.gguf")
        with pytest.raises(SourceRefused, match="does not name one"):
            sources.resolve("hf.co/o/r:Q8_0")

    def test_a_search_finds_repositories(self, hub):
        query = "/api/models?search=smol+lm&filter=gguf&sort=downloads&direction=-1&limit=30"
        row = {"downloads": 7, "likes": 3, "gated": "auto"}
        rows = [{"id": "o/r", **row}, {"id": "../../x", **row}]
        hub.answers[query] = (200, {}, rows)
        assert huggingface.search("smol lm") == [huggingface.Repository("o/r", 7, 3, True)]
        tree(hub, "a-Q8_0.gguf", "b-00001-of-00002.gguf", "b-00002-of-00002.gguf", "README.md")
        assert huggingface.files("o/r") == [
            huggingface.File("hf.co/o/r:a-Q8_0", "a-Q8_0.gguf", 7),
            huggingface.File("hf.co/o/r:b", "b.gguf", 14),
        ]
        with pytest.raises(SourceMissing):
            huggingface.files("../etc")

    def test_an_address_of_a_file(self, hub):
        hub.answers["/a/My%20model.gguf"] = (200, {}, "seven")
        found = sources.resolve(f"{hub.base}/a/My%20model.gguf#sha256={DIGEST}")
        assert (found.name, found.total) == ("My-model:latest", 7)
        assert found.weights[0].digest == DIGEST

    def test_a_file_without_a_published_digest_is_refused(self, hub):
        tree(hub)
        page = "/api/models/o/r/tree/main?recursive=true"
        hub.answers[page] = (200, {}, [{"path": "a.gguf", "oid": "12"}])
        with pytest.raises(SourceRefused, match="SHA-256"):
            sources.resolve("hf.co/o/r")

    def test_a_gated_model_is_refused(self, hub):
        hub.answers["/api/models/o/r/tree/main?recursive=true"] = (403, {}, {})
        with pytest.raises(SourceRefused, match="Access denied"):
            sources.resolve("hf.co/o/r")
