"""An administrator without a terminal finds, downloads, quantizes and uses a model.

The download survives the death of any process. Real weights, real llama.cpp.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ollama
import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.browser.actions import box
from tests.browser.axe import violations
from tests.browser.conftest import sign_in
from tests.support.hub import Hub, serve
from tests.support.stack import Stack, wait_until

ARRIVES_MS = 60_000


@pytest.fixture(scope="module")
def hub(starter_model: Path) -> Iterator[Hub]:
    with serve() as hub:
        hub.publish("smol", "135m", starter_model.read_bytes(), params=b'{"temperature": 0}')
        yield hub


@pytest.fixture(scope="module")
def stack(hub: Hub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Start without any model."""
    stack = Stack(
        tmp_path_factory.mktemp("models"),
        CHATSITE_OLLAMA_REGISTRY=hub.address,
        CHATSITE_HF_ENDPOINT=hub.address,
    )
    try:
        stack.prepare(None)
        for name in ("ann", "bo"):
            stack.create_user(name, admin=True)
        stack.start()
        yield stack
    finally:
        stack.discard()


@pytest.fixture(scope="module")
def person(stack: Stack) -> str:
    return "ann"


def job(page: Page, target: str) -> Locator:
    return page.get_by_role("row").filter(has=page.get_by_role("rowheader", name=target))


def test_a_download_outlives_the_page_and_every_process(
    page: Page, browser: Browser, stack: Stack, hub: Hub, starter_model: Path
) -> None:
    hub.pace = 0.02
    page.goto("/admin/")
    page.get_by_role("link", name="Jobs").first.click()
    page.get_by_label("Name or address").fill("smol:135m")
    page.get_by_role("button", name="Download").click()
    expect(job(page, "smol:135m")).to_contain_text("downloading", timeout=ARRIVES_MS)
    expect(job(page, "smol:135m").get_by_role("progressbar")).to_be_visible()
    expect(job(page, "smol:135m")).to_contain_text("per second")
    page.close()

    worker = stack.query("SELECT worker FROM models_admin_job")[0][0]
    pid = int(str(worker).split(":")[1])
    next(process for process in stack.family() if process.pid == pid).kill()
    wait_until(lambda: attempts(stack) == 2, "another worker to continue")
    # Four connections: a request for a fifth piece means that one is complete.
    hub.pace = 0.005
    wait_until(lambda: len(pieces(hub)) > 4, "a piece to be whole")
    hub.pace = 0.02
    stack.stop()
    before = len(hub.parts_asked())
    stack.output.clear()
    stack.start()
    wait_until(lambda: attempts(stack) == 3, "the job to continue after a restart")

    # A second administrator sees the same job; progress never goes backwards for either.
    context = browser.new_context(base_url=stack.url, locale="en-US")
    other = context.new_page()
    sign_in(other, "bo")
    other.goto("/admin/jobs/")
    expect(job(other, "smol:135m")).to_contain_text("downloading", timeout=ARRIVES_MS)
    hub.pace = 0
    expect(job(other, "smol:135m")).to_contain_text("done", timeout=ARRIVES_MS)
    context.close()
    digest = hashlib.sha256(starter_model.read_bytes()).hexdigest()
    stored = stack.data_dir / "models" / f"sha256-{digest}"
    assert hashlib.sha256(stored.read_bytes()).hexdigest() == digest
    assert list((stack.data_dir / "models" / "partial").iterdir()) == []
    # Content that was there is not downloaded again.
    assert pieces(hub, before) < pieces(hub)


def pieces(hub: Hub, since: int = 0) -> set[int]:
    """Return the offsets of the pieces that were requested."""
    return {int(part[6:].partition("-")[0]) for part in hub.parts_asked()[since:] if part}


def attempts(stack: Stack) -> int:
    return int(str(stack.query("SELECT attempt FROM models_admin_job")[0][0]))


def test_smaller_weights_are_made_and_chatted_with(page: Page, stack: Stack) -> None:
    page.goto("/admin/jobs/")
    page.get_by_label("From").select_option("smol:135m")
    page.get_by_label("Quantization").select_option("Q8_0")
    page.get_by_label("New model name").fill("smol:q8")
    page.get_by_role("button", name="Quantize").click()
    expect(job(page, "smol:q8")).to_contain_text("done", timeout=ARRIVES_MS)
    page.get_by_role("button", name="Log of smol:q8").click()
    expect(page.get_by_text("Test load succeeded.")).to_be_visible()
    page.goto("/")
    page.get_by_role("combobox", name="Model").select_option("smol:q8")
    box(page).fill("What is the capital of France?")
    box(page).press("Enter")
    # The model is measured and loaded first.
    expect(page.get_by_role("article").last).to_contain_text(re.compile(r"\w+"), timeout=ARRIVES_MS)
    expect(page.get_by_role("button", name="Send")).to_be_visible(timeout=ARRIVES_MS)
    expect(page.get_by_role("article").last).to_contain_text("Paris")


def test_the_host_shows_its_models(page: Page) -> None:
    page.goto("/admin/hosts/")
    row = page.get_by_role("row").filter(has=page.get_by_role("rowheader", name="smol:q8"))
    expect(row).to_contain_text("ready", timeout=ARRIVES_MS)
    expect(page.get_by_role("meter", name="Memory")).to_be_visible()
    page.get_by_role("button", name="Unload smol:q8").click()
    expect(row).to_have_count(0, timeout=ARRIVES_MS)


def test_the_catalogue_shows_which_models_fit_and_searches_the_hub(page: Page, hub: Hub) -> None:
    page.goto("/admin/catalogue/?purpose=chat")
    card = page.get_by_role("listitem").filter(has=page.get_by_role("heading", name="llama3.1:70b"))
    expect(card).to_contain_text("Does not fit")
    card = page.get_by_role("listitem").filter(has=page.get_by_role("heading", name="smollm2:135m"))
    expect(card.first).to_contain_text("Fits: ")
    hub.answers.update(
        {
            path: [{"id": "org/smol", "downloads": 1234567, "likes": 5, "gated": "manual"}]
            for path in ["/api/models?search=smol&filter=gguf&sort=downloads&direction=-1&limit=30"]
        }
    )
    page.get_by_role("searchbox", name="Search", exact=True).fill("smol")
    page.get_by_role("button", name="Search").click()
    expect(page.get_by_role("row").filter(has_text="org/smol")).to_contain_text("1,234,567")
    page.get_by_role("link", name="org/smol").click()
    page.get_by_role("button", name="Download smol-135m.gguf").click()
    name = "hf.co/org/smol:smol-135m"
    expect(job(page, name)).to_contain_text("done", timeout=ARRIVES_MS)


def test_api_clients_can_pull_too(stack: Stack) -> None:
    scopes = "chat,embed,models,manage"
    key = stack.manage("apikey", "create", "ann", "--scopes", scopes).stdout.strip()
    with ollama.Client(stack.url, headers={"Authorization": f"Bearer {key}"}) as client:
        told = list(client.pull("smol:135m", stream=True))
        assert told[0].status == "pulling manifest"
        assert told[-1].status == "success"
        assert client.pull("smol:135m").status == "success"
        with pytest.raises(ollama.ResponseError, match="no such model"):
            client.pull("none:1b")
        with pytest.raises(ollama.ResponseError, match="at most 80"):
            client.pull("../x")


def test_a_local_file_becomes_a_model(page: Page, starter_model: Path) -> None:
    page.goto("/admin/exchange/")
    page.get_by_label("GGUF file or bundle").set_input_files(starter_model)
    page.get_by_label("Save as (optional)").fill("sent:1")
    page.get_by_role("button", name="Upload").click()
    page.wait_for_url("**/admin/jobs/", timeout=ARRIVES_MS)
    expect(job(page, "sent:1")).to_contain_text("done", timeout=ARRIVES_MS)


def test_a_custom_model_is_made_on_a_page(page: Page) -> None:
    page.goto("/admin/modelfile/")
    page.get_by_label("Model name").fill("pirate")
    page.get_by_label("Text", exact=True).fill("FROM smol:135m\nTEMPERATURE 1")
    page.get_by_role("button", name="Create model").click()
    expect(page.get_by_text("line 2")).to_be_visible()
    page.get_by_label("Text", exact=True).fill("FROM smol:135m\nSYSTEM Talk like a pirate.")
    page.get_by_role("button", name="Create model").click()
    expect(page.get_by_role("link", name="pirate:latest")).to_be_visible()


@pytest.mark.parametrize(("theme", "language"), [("light", "en-US"), ("dark", "zh-CN")])
def test_axe_finds_nothing(
    browser: Browser, stack: Stack, theme: Any, language: str, person: str
) -> None:
    context = browser.new_context(base_url=stack.url, color_scheme=theme, locale="en-US")
    page = context.new_page()
    sign_in(page, person)
    context.set_extra_http_headers({"Accept-Language": language})
    own = ("catalogue/", "jobs/", "hosts/", "exchange/", "modelfile/?name=smol:135m")
    for name in ("", "models_admin/modelname/", *own):
        page.goto(f"/admin/{name}")
        assert violations(page) == [], name
    context.close()
