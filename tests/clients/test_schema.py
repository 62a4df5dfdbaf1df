"""The OpenAPI schema is true: requests generated from it cause neither errors nor surprises."""

from __future__ import annotations

from typing import Any

import httpx
import msgspec
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from chatsite.api.ollama import types as t
from tests.support.stack import MODEL, Stack

CHECKS = [
    not_a_server_error,
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
]
EXAMPLES = 25
# These would change the model that other tests use.
CHANGING = {"/api/copy", "/api/create", "/api/delete"}


def call_all(schema: Any, url: str, key: str, checks: list[Any]) -> int:
    """Call each operation with requests generated from its schema; return their number."""
    schema.config.update(base_url=url)
    tested = 0
    for found in schema.get_all_operations():
        operation: Any = found.ok()

        @given(case=operation.as_strategy())
        @settings(
            max_examples=EXAMPLES,
            deadline=None,
            database=None,
            derandomize=True,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        def check(case: schemathesis.Case) -> None:
            if isinstance(case.body, dict) and case.operation.path not in CHANGING:
                # Half of the requests name an installed model.
                body = dict(case.body)
                body["model"] = MODEL if len(str(body)) % 2 else body.get("model", "")
                # Endless answers are covered by another test.
                body |= {"ignore_eos": False, "n": 1}
                case.body = body
            case.call_and_validate(
                base_url=url,
                headers={"Authorization": f"Bearer {key}"},
                checks=checks,
                timeout=20,
            )

        check()
        tested += 1
    return tested


def test_requests_made_from_the_schema(api_stack: Stack, key: str) -> None:
    schema = schemathesis.openapi.from_dict(httpx.get(f"{api_stack.url}/v1/openapi.json").json())
    assert call_all(schema, api_stack.url, key, CHECKS) == 23


def test_requests_made_from_the_types_of_ollamas(api_stack: Stack, key: str) -> None:
    """Downloads are excluded: they would look for models outside."""
    bodies: dict[str, tuple[str, type]] = {
        "generate": ("post", t.Generate),
        "chat": ("post", t.Chat),
        "embed": ("post", t.Embed),
        "embeddings": ("post", t.Embedding),
        "show": ("post", t.Show),
        "copy": ("post", t.Copy),
        "create": ("post", t.Create),
        "delete": ("delete", t.Show),
    }
    refs, components = msgspec.json.schema_components(
        [kind for _method, kind in bodies.values()], ref_template="#/components/schemas/{name}"
    )
    paths = {
        f"/api/{name}": {
            method: {
                "requestBody": {"required": True, "content": {"application/json": {"schema": ref}}},
                "responses": {"default": {"description": "Any."}},
            }
        }
        for (name, (method, _kind)), ref in zip(bodies.items(), refs, strict=True)
    }
    schema = schemathesis.openapi.from_dict(
        {
            "openapi": "3.1.0",
            "info": {"title": "Ollama", "version": "1"},
            "paths": paths,
            "components": {"schemas": components},
        }
    )
    assert call_all(schema, api_stack.url, key, [not_a_server_error]) == len(bodies)
