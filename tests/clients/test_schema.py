"""The schema says what the endpoints do: requests made from it neither break nor surprise."""

from __future__ import annotations

from typing import Any

import httpx
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.support.stack import MODEL, Stack

CHECKS = [
    not_a_server_error,
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
]
EXAMPLES = 25


def test_requests_made_from_the_schema(api_stack: Stack, key: str) -> None:
    raw = httpx.get(f"{api_stack.url}/v1/openapi.json").json()
    schema = schemathesis.openapi.from_dict(raw)
    schema.config.update(base_url=api_stack.url)
    tested = 0
    for found in schema.get_all_operations():
        operation: Any = found.ok()  # type: ignore[union-attr]  # an error has none and fails
        # Vectors are tested with the models that make them.
        if operation.path == "/v1/embeddings":
            continue

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
            if isinstance(case.body, dict) and "model" in case.body:
                # Half of them reach the model.
                body = dict(case.body)
                body["model"] = MODEL if len(str(body)) % 2 else body["model"]
                # An answer without end is another test's.
                body |= {"ignore_eos": False, "n": 1}
                case.body = body
            case.call_and_validate(
                base_url=api_stack.url,
                headers={"Authorization": f"Bearer {key}"},
                checks=CHECKS,
                timeout=20,
            )

        check()
        tested += 1
    assert tested == 5
