"""The catalogue page: recommendations, their order, and how it works offline."""

from __future__ import annotations

import socket

import pytest

from chatsite.hosts import status
from chatsite.hosts.status import HostMemory, HostStatus

pytestmark = pytest.mark.django_db

GB = 1 << 30


@pytest.fixture
def host(monkeypatch):
    """Announce a host with 20 GB for models and no GPU."""
    memory = HostMemory(total=32 * GB, available=24 * GB, budget=20 * GB, committed=0)
    host = HostStatus("h1", "box", 1, memory=memory)
    monkeypatch.setattr(status, "ask_from_thread", lambda: [host])


def page(client, query: str = ""):
    return client.get(f"/admin/catalogue/{query}")


@pytest.mark.usefixtures("host")
def test_page_44_three_models_are_recommended_for_the_machine(admin_client):
    found = page(admin_client)
    recommended = found.context["recommended"]
    assert [offer.entry.purpose for offer in recommended] == ["chat", "reasoning", "code"]
    for offer in recommended:
        assert offer.best.verdict == "fits"
        assert offer.best.size <= 6 * GB  # without a GPU, larger weights are slow
    largest = max(
        (
            offer
            for offer in found.context["offers"]
            if offer.entry.purpose == "chat"
            and offer.best.verdict == "fits"
            and offer.best.size <= 6 * GB
        ),
        key=lambda offer: offer.entry.parameters,
    )
    assert recommended[0].entry.parameters == largest.entry.parameters
    assert "Recommended for this machine" in found.content.decode()


def test_page_44_nothing_is_recommended_while_no_host_runs(admin_client, monkeypatch):
    monkeypatch.setattr(status, "ask_from_thread", list)
    assert page(admin_client).context["recommended"] == []


@pytest.mark.usefixtures("host")
def test_page_44_the_list_is_sorted(admin_client):
    def offers(sort: str):
        return page(admin_client, f"?sort={sort}").context["offers"]

    names = [offer.entry.name for offer in offers("name")]
    assert names == sorted(names)
    sizes = [offer.best.size for offer in offers("size")]
    assert sizes == sorted(sizes)
    verdicts = [offer.best.verdict for offer in offers("fit")]
    assert verdicts == sorted(verdicts, key=["fits", "smaller", "none"].index)
    fitting = [offer.entry.parameters for offer in offers("fit") if offer.best.verdict == "fits"]
    assert fitting == sorted(fitting, reverse=True)
    assert offers("nonsense") == offers("fit")


@pytest.mark.usefixtures("host")
def test_page_44_the_fit_is_short_and_its_details_are_on_demand(admin_client):
    found = page(admin_client, "?purpose=embedding")
    text = found.content.decode()
    best = found.context["offers"][0].best
    assert best.short.replace("\xa0", " ").startswith("Fits: ")
    assert best.short.replace("\xa0", " ").endswith(" of 20.0 GB")
    assert text.count("<details>") == len(found.context["offers"])
    assert text.count(best.details) >= 1


def test_page_45_offline_there_are_instructions_and_no_table(admin_client, monkeypatch, caplog):
    def unknown(*_args: object, **_options: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    for query in ("?q=qwen", "?repo=org/model"):
        text = page(admin_client, query).content.decode()
        assert "This server has no connection to huggingface.co." in text
        assert "Errno" not in text
        assert 'href="/admin/exchange/"' in text
        assert "<table" not in text.partition('id="content-main"')[2]
        assert "No results" not in text
    assert "Name or service not known" in vars(caplog.records[0])["error"]  # the log has the reason
