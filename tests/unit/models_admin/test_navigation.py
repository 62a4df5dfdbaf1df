"""Which sections and pages of the administration a user sees, and which is current."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import RequestFactory
from django.urls import reverse

from models_admin.adminsite import navigation


class Person:
    is_active = True

    def __init__(self, *permissions: str, superuser: bool = False) -> None:
        self.permissions = permissions
        self.is_superuser = superuser

    def has_perm(self, permission: str) -> bool:
        return self.is_superuser or permission in self.permissions


def seen(person: Any, path: str = "/admin/") -> list[navigation.Entry]:
    request = RequestFactory().get(path)
    request.user = person
    return navigation.entries(request)


def test_a_superuser_sees_every_section() -> None:
    labels = [str(entry.label) for entry in seen(Person(superuser=True))]
    assert labels[:3] == ["Overview", "Models", "People"]
    assert labels[-1] == "Advanced"


def test_others_see_what_they_may_open() -> None:
    (models,) = seen(Person("models_admin.view_modelname"))
    assert models.address == reverse("admin:models_admin_modelname_changelist")
    assert seen(Person()) == []


@pytest.mark.parametrize(
    ("path", "label", "mark"),
    [
        ("/admin/jobs/", "Jobs", "page"),
        ("/admin/models_admin/modelname/1/change/", "Installed", "true"),
        ("/admin/hosts/", "Hosts", "page"),
    ],
)
def test_the_current_page_is_marked(path: str, label: str, mark: str) -> None:
    models = next(one for one in seen(Person(superuser=True), path) if one.icon == "models")
    assert models.open
    assert [(str(link.label), link.current) for link in models.links if link.current] == [
        (label, mark)
    ]


def test_the_overview_is_current_on_its_own_page_only() -> None:
    overview = seen(Person(superuser=True))[0]
    assert overview.current == "page"
    assert seen(Person(superuser=True), "/admin/jobs/")[0].current == ""
