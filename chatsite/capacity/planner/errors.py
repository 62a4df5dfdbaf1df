"""The planner's refusals."""


class BadPlan(ValueError):
    """An input without meaning; the text says what to change."""


def require(condition: bool, text: str) -> None:
    """Raise `BadPlan` with ``text`` unless ``condition`` holds."""
    if not condition:
        raise BadPlan(text)
