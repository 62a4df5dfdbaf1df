"""The link that creates the first administrator."""

import stat

import pytest
from django.urls import reverse

from chatsite.accounts import setup
from chatsite.accounts.models import User
from tests.support.installation import go, heard, python
from tests.support.races import at_once, on_postgresql

pytestmark = [pytest.mark.usefixtures("data_dir"), pytest.mark.django_db]

PASSWORD = "correct horse battery"
FORM = {"username": "ada", "password1": PASSWORD, "password2": PASSWORD}


def link() -> str:
    token = setup.setup_token()
    assert token
    return reverse("setup", args=[token])


def test_the_token_is_readable_only_by_its_owner(data_dir):
    token = setup.setup_token()
    path = data_dir / "run" / "setup_token"
    assert path.read_text() == token == setup.setup_token()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_the_link_shows_the_form(client):
    response = client.get(link())
    assert response.status_code == 200
    assert response.context["invalid"] is False
    assert list(response.context["form"].fields)[:3] == ["username", "password1", "password2"]
    assert "no-store" in response["Cache-Control"]


def test_the_form_makes_an_administrator_and_signs_them_in(client, data_dir):
    used = link()
    response = client.post(used, FORM)
    assert (response.status_code, response.url) == (302, "/")
    user = User.objects.get()
    assert user.is_superuser
    assert user.is_staff
    assert user.check_password(PASSWORD)
    assert client.session["_auth_user_id"] == str(user.pk)
    assert not (data_dir / "run" / "setup_token").exists()


def test_the_link_works_once(client):
    used = link()
    client.post(used, FORM)
    for response in (client.get(used), client.post(used, FORM | {"username": "eve"})):
        assert response.status_code == 404
        assert response.context["invalid"] is True
    assert User.objects.count() == 1
    assert setup.setup_token() is None


@pytest.mark.parametrize("token", ["wrong", "x" * 5000, "ключ", "%00", "..", "None"])
def test_a_wrong_token_gets_the_same_page(client, token):
    link()
    response = client.post(f"/setup/{token}/", FORM)
    assert response.status_code == 404
    assert not User.objects.exists()


def test_a_later_setup_has_another_token(client):
    first = setup.setup_token()
    client.post(link(), FORM)
    User.objects.update(is_active=False)
    assert setup.setup_token() not in {None, first}


def test_ordinary_users_do_not_end_the_setup():
    User.objects.create_user("bob", password=PASSWORD)
    User.objects.create_user("staff", password=PASSWORD, is_staff=True)
    assert setup.setup_token()


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"password2": "something else"}, "password2"),
        ({"password1": "12345678", "password2": "12345678"}, "password2"),
        ({"password1": "ada", "password2": "ada"}, "password2"),
        ({"username": "a b"}, "username"),
        ({"username": "x" * 151}, "username"),
        ({"username": ""}, "username"),
        ({"username": "BOB"}, "username"),
    ],
)
def test_invalid_input_is_reported_at_its_field_and_the_link_stays_valid(client, change, field):
    User.objects.create_user("bob", password=PASSWORD)
    used = link()
    response = client.post(used, FORM | change)
    assert response.status_code == 200
    assert field in response.context["form"].errors
    assert client.get(used).status_code == 200


def test_the_form_needs_the_csrf_token(client):
    client.handler.enforce_csrf_checks = True
    assert client.post(link(), FORM).status_code == 403
    assert not User.objects.exists()


def test_the_second_submission_creates_no_user():
    forms = [setup.SetupForm(FORM | {"username": name}) for name in ("ada", "eve")]
    assert all(form.is_valid() for form in forms)
    assert [bool(setup.create_first_administrator(form)) for form in forms] == [True, False]
    assert User.objects.count() == 1


RACE = """
import sys
import django
django.setup()
from chatsite.accounts import setup
name, password = sys.argv[1:]
form = setup.SetupForm({"username": name, "password1": password, "password2": password})
assert form.is_valid()
print("ready", flush=True)
sys.stdin.readline()
print(setup.create_first_administrator(form) is not None)
"""


def test_two_concurrent_browsers_create_one_administrator_on_sqlite(migrated):
    racers = [python(migrated, RACE, name, PASSWORD) for name in ("ada", "eve")]
    for racer in racers:
        assert heard(racer) == "ready"
    for racer in racers:
        go(racer)
    answers = sorted(racer.communicate(timeout=60)[0].strip() for racer in racers)
    assert answers == ["False", "True"]


@pytest.mark.django_db(transaction=True)
@on_postgresql
def test_two_concurrent_browsers_create_one_administrator_on_postgresql():
    forms = [setup.SetupForm(FORM | {"username": f"u{number}"}) for number in range(4)]
    assert all(form.is_valid() for form in forms)
    answers = at_once(4, lambda number: setup.create_first_administrator(forms[number]) is not None)
    assert sorted(map(bool, answers)) == [False, False, False, True]
    assert User.objects.count() == 1


def test_page_34_the_address_points_to_the_set_up_link(client):
    page = client.get("/", follow=True)
    assert "This site is not set up yet" in page.content.decode()
    assert "Open the set-up link that the server printed." in page.content.decode()
    assert "<form method" not in page.content.decode()
    # Existing users may sign in, and read why the site has no administrator.
    User.objects.create_user("bob", password=PASSWORD)
    page = client.get("/", follow=True).content.decode()
    assert 'name="login"' in page
    assert "Open the set-up link that the server printed." in page
    User.objects.create_superuser("ada", password=PASSWORD)
    assert "set-up link" not in client.get("/", follow=True).content.decode()


def test_page_35_all_errors_of_the_form_are_reported_together(client):
    used = link()
    form = {"username": "a b", "password1": "12345", "password2": "123456"}
    errors = client.post(used, form).context["form"].errors
    assert set(errors) == {"username", "password1", "password2"}
    assert len(errors["password1"]) >= 2
    page = client.get(used).content.decode()
    assert "At least 8 characters" in page
    assert "150 characters or fewer" not in page
    assert "can’t be entirely numeric" not in page
    assert "Show password" in page
