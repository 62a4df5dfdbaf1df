"""Users and a model, as in the chat's tests; pages without a build."""

from tests.integration.chat.conftest import alice, bob, model  # noqa: F401
from tests.support.pages import unbuilt  # noqa: F401
