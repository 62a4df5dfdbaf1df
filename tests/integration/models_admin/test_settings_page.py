"""The page of settings: what it shows, stores, refuses and records."""

from __future__ import annotations

import re
from html import unescape
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.utils.html import escape

from chatsite.accounts.models import User
from chatsite.site_settings import current
from chatsite.site_settings import logo as logos
from chatsite.site_settings import save as saving
from chatsite.site_settings.fields import declared
from chatsite.site_settings.models import Logo, StoredSetting
from chatsite.site_settings.save import save
from models_admin import catalogue
from models_admin.models import ModelName
from models_admin.store import files
from tests.support.gguf import VOCABULARY, write
from tests.unit.site_settings.test_logo import png

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("data_dir")]

PAGE = "/admin/settings/"


@pytest.fixture
def root(client: Client) -> User:
    user = User.objects.create_superuser("root")
    client.force_login(user)
    return user


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, Any]]]:
    found: list[tuple[str, dict[str, Any]]] = []
    for module in (saving, logos):
        monkeypatch.setattr(module, "record", lambda kind, **values: found.append((kind, values)))
    return found


def filled(client: Client, **changes: Any) -> dict[str, Any]:
    """Return the form as a browser would send it, with ``changes``; None unchecks a switch."""
    form = client.get(PAGE).context["form"]
    values: dict[str, Any] = {}
    for field in form:
        if field.field.disabled:
            continue
        shown = field.field.prepare_value(field.value())
        if isinstance(shown, bool):
            values |= {field.name: "on"} if shown else {}
        else:
            values[field.name] = field.field.widget.format_value(shown) or ""
        if isinstance(values.get(field.name), list):
            values[field.name] = values[field.name][0]
        initial = field.as_hidden(only_initial=True)
        found = re.search(r'value="([^"]*)"', initial)
        values[field.html_initial_name] = unescape(found[1]) if found else ""
    values |= {name: value for name, value in changes.items() if value is not None}
    return {name: value for name, value in values.items() if changes.get(name, "") is not None}


@pytest.mark.usefixtures("root")
def test_every_setting_is_on_the_page_with_label_and_help(client: Client) -> None:
    page = client.get(PAGE).text
    for name, field in declared().items():
        if not field.setting.hidden:
            assert f'<label for="id_{name}">{escape(field.setting.label)}</label>' in page
            assert f'aria-describedby="id_{name}_help"' in page
            assert f'id="id_{name}_help">{escape(field.setting.help)}</p>' in page


def test_what_was_changed_is_stored_and_recorded(
    client: Client, root: User, events: list[Any]
) -> None:
    values = filled(client, site_name="Acme", retention_days="90", titles=None)
    response = client.post(PAGE, values, follow=True)
    assert "3 settings saved." in response.text
    assert (current().site_name, current().retention_days, current().titles) == ("Acme", 90, False)
    assert "· Acme</title>" in response.text.replace("\n", "")
    assert {row.name for row in StoredSetting.objects.all()} == {
        *("site_name", "retention_days", "titles")
    }
    recorded = {values["target"][1]: values for _kind, values in events}
    assert {kind for kind, _values in events} == {"settings.changed"}
    assert (recorded["site_name"]["old"], recorded["site_name"]["new"]) == ("Chatsite", "Acme")
    assert (recorded["titles"]["old"], recorded["titles"]["new"]) == (True, False)
    assert recorded["titles"]["user"] == "root"


@pytest.mark.usefixtures("root")
def test_what_another_administrator_changed_meanwhile_is_kept(client: Client) -> None:
    values = filled(client, greeting="Hello")
    save({"site_name": "Meanwhile"})
    client.post(PAGE, values)
    assert (current().greeting, current().site_name) == ("Hello", "Meanwhile")


@pytest.mark.usefixtures("root")
def test_mistakes_are_named_and_nothing_is_lost(client: Client) -> None:
    values = filled(client, site_name="x" * 41, greeting="Kept", terms_text="Be kind.")
    values["admin_reads"] = "always"
    response = client.post(PAGE, values)
    assert response.status_code == 422
    assert re.search(r'name="greeting" value="Kept"', response.text)
    assert "at most 40 characters" in response.text
    assert "always is not one of the available choices" in response.text
    assert not StoredSetting.objects.exists()
    values = filled(client, terms_text="Be kind.")
    response = client.post(PAGE, values)
    assert "Enter a version" in response.text
    assert not current().terms_text


@pytest.mark.usefixtures("root")
def test_what_the_environment_sets_is_locked(client: Client, settings: Any) -> None:
    settings.ENV = settings.ENV.model_copy(update={"name": "Fixed"})
    page = client.get(PAGE).text
    control = re.search(r'<input[^>]*name="site_name"[^>]*>', page)
    assert control is not None
    assert 'value="Fixed"' in control[0]
    assert " disabled" in control[0]
    assert "<code>CHATSITE_NAME</code>" in page
    client.post(PAGE, filled(client, site_name="Other"))
    assert current().site_name == "Fixed"
    assert not StoredSetting.objects.exists()


@pytest.mark.usefixtures("root")
def test_the_default_model_is_chosen_among_those_that_can_chat(
    client: Client, tmp_path: Any
) -> None:
    chat = {"tokenizer.chat_template": "{{ messages }}"}
    files.import_file(write(tmp_path / "a", values={**chat, "general.name": "a"}), "a")
    files.import_file(write(tmp_path / "b", values={**chat, "general.name": "b"}), "b")
    files.import_file(write(tmp_path / "c", extra=(VOCABULARY,)), "base")
    assert "Automatic (" in client.get(PAGE).text
    automatic = catalogue.default_name()
    other = "b:latest" if automatic == "a:latest" else "a:latest"
    client.post(PAGE, filled(client, default_model=other))
    assert catalogue.default_name() == other
    assert ModelName.objects.get(is_default=True).name == other
    refused = client.post(PAGE, filled(client, default_model="base:latest"))
    assert "not made for chats" in refused.text
    assert catalogue.default_name() == other
    ModelName.objects.filter(name=other).update(enabled=False)
    assert f"{other} (not available)" in client.get(PAGE).text
    assert catalogue.default_name() == automatic
    client.post(PAGE, filled(client, default_model=""))
    assert current().default_model == ""


def test_only_administrators_may_open_it(client: Client) -> None:
    client.force_login(User.objects.create_user("staff", is_staff=True))
    assert client.get(PAGE).status_code == 403
    assert client.post(PAGE, {"site_name": "x"}).status_code == 403
    assert client.post("/admin/settings/logo/", {"remove": "1"}).status_code == 403
    assert current().site_name == "Chatsite"


def upload(client: Client, content: bytes, name: str = "logo.png") -> Any:
    file = SimpleUploadedFile(name, content)
    return client.post("/admin/settings/logo/", {"file": file}, follow=True)


@pytest.mark.usefixtures("root")
def test_a_logo_is_shown_everywhere_and_cached_for_ever(client: Client, events: list[Any]) -> None:
    content = png()
    page = upload(client, content, "anything.svg")
    digest = Logo.objects.get().digest
    assert f'src="/logo/{digest}"' in page.text
    assert ("settings.logo_changed", digest) in [
        (kind, values.get("digest")) for kind, values in events
    ]
    stranger = Client()
    assert f"/logo/{digest}" in stranger.get("/accounts/login/").text
    response = stranger.get(f"/logo/{digest}")
    assert response.content == content
    assert response["Content-Type"] == "image/png"
    assert "immutable" in response["Cache-Control"]
    assert "sandbox" in response["Content-Security-Policy"]
    assert stranger.get("/logo/nothing").status_code == 404
    upload(client, png(32, 32))
    assert Logo.objects.count() == 1
    client.post("/admin/settings/logo/", {"remove": "1"})
    assert not Logo.objects.exists()
    assert "icons/logo.svg" in stranger.get("/accounts/login/").text


@pytest.mark.usefixtures("root")
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"<svg/>", "SVG is not accepted"),
        (png() + b"\0" * logos.MAX_BYTES, "larger than 512 KiB"),
        (png(9000, 9000), "9000 × 9000"),
    ],
)
def test_a_bad_logo_is_refused_with_the_reason(
    client: Client, content: bytes, message: str
) -> None:
    response = upload(client, content)
    assert response.status_code == 422
    assert message in response.text
    assert not Logo.objects.exists()
