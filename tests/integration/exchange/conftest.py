"""People and a model, as the chat's tests have them."""

from tests.integration.chat.conftest import alice, bob, model  # noqa: F401
from tests.support.pages import unbuilt  # noqa: F401
