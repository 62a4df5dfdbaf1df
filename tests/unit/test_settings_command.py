from __future__ import annotations

import io

import pytest
from django.core.management import call_command

from chatsite.env import Environment, shown_value, variable_of


def test_it_prints_every_setting_with_its_description() -> None:
    out = io.StringIO()
    call_command("settings", stdout=out)
    text = out.getvalue()
    for name, field in Environment.model_fields.items():
        assert f"{variable_of(name)}=" in text
        assert str(field.description) in text


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("secret_key", "hunter2", "********"),
        ("secret_key", "", ""),
        ("hf_token", "hunter2", "********"),
        ("database_url", "postgres://u:hunter2@h/n", "postgres://u:********@h/n"),
        ("database_url", "postgres://u@h/n", "postgres://u@h/n"),
        ("redis_url", "redis://:hunter2@h:6379/0", "redis://:********@h:6379/0"),
        ("origins", ("https://a", "https://b"), "https://a,https://b"),
    ],
)
def test_secrets_are_masked(name: str, value: object, shown: str) -> None:
    assert shown_value(name, value) == shown


def test_the_database_is_shown_under_its_usual_name() -> None:
    assert variable_of("database_url") == "DATABASE_URL"
    assert variable_of("data_dir") == "CHATSITE_DATA_DIR"
