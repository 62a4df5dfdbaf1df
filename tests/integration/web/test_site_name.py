"""`CHATSITE_NAME` on pages, in the web app manifest and in the API's description."""

from __future__ import annotations

from typing import Any

import pytest
from django.http import Http404
from django.template.loader import render_to_string
from django.test import Client, RequestFactory
from django.views import defaults

from chatsite.api.openai import docs
from tests.support.pages import unbuilt

__all__ = ["unbuilt"]
pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("unbuilt")]

NAME = "Acme & <AI> 助手"
SHOWN = "Acme &amp; &lt;AI&gt; 助手"


@pytest.fixture
def named(settings: Any) -> None:
    settings.ENV = settings.ENV.model_copy(update={"name": NAME})


def test_the_name_is_chatsite_by_default(client: Client, django_user_model: Any) -> None:
    django_user_model.objects.create_superuser("root", password="long enough")
    assert "· Chatsite" in client.get("/accounts/login/").text
    assert client.get("/manifest.json").json()["name"] == "Chatsite"


@pytest.mark.usefixtures("named")
def test_pages_show_the_name_escaped(client: Client, django_user_model: Any) -> None:
    alice = django_user_model.objects.create_superuser("alice", password="long enough")
    pages = [client.get("/accounts/login/").text]
    client.force_login(alice)
    own = ("/accounts/keys/", "/accounts/assistants/", "/share/")
    addresses = ("/", *own, "/v1/docs", "/nothing/")
    pages += [client.get(address, headers={"Accept": "text/html"}).text for address in addresses]
    for page in pages:
        assert SHOWN in page
        assert "Chatsite" not in page
        assert NAME not in page


@pytest.mark.usefixtures("named")
def test_error_pages_show_the_name() -> None:
    request = RequestFactory().get("/")
    pages = [
        defaults.bad_request(request, Http404()).content.decode(),  # rendered without the request
        render_to_string("500.html"),
        render_to_string("507.html"),
    ]
    for page in pages:
        assert SHOWN in page
        assert "Chatsite" not in page


@pytest.mark.usefixtures("named")
def test_the_web_app_and_the_api_have_the_name(client: Client) -> None:
    response = client.get("/manifest.json")
    assert response["Content-Type"] == "application/manifest+json"
    manifest = response.json()
    assert (manifest["name"], manifest["short_name"]) == (NAME, NAME)
    assert manifest["start_url"] == manifest["scope"] == "/"
    assert all(icon["src"].startswith("/static/icons/") for icon in manifest["icons"])
    assert docs.schema()["info"]["title"] == NAME
