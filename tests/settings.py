"""The product's settings in an environment of the test run.

pytest-django imports this before any conftest, so the environment is prepared here: a data
directory and a Redis socket in a temporary directory, without the settings of a running product in
the developer's shell. Processes that tests start use `chatsite.settings`.
"""

import atexit
import os
import shutil
import tempfile
from pathlib import Path

_KEPT = {
    "CHATSITE_TEST_MODEL",
    "CHATSITE_TEST_EMBEDDING_MODEL",
    "CHATSITE_TEST_DATABASE_URL",
    "CHATSITE_TEST_LLAMA_SERVER",
    "CHATSITE_TEST_VLLM",
    "CHATSITE_TEST_OWN",
    "CHATSITE_TEST_SHARED",
}
for _name in list(os.environ):
    if (_name.startswith("CHATSITE_") and _name not in _KEPT) or _name == "DATABASE_URL":
        del os.environ[_name]

_folder = Path(tempfile.mkdtemp(prefix="chatsite-tests-"))
atexit.register(shutil.rmtree, _folder, ignore_errors=True)
os.environ["CHATSITE_DATA_DIR"] = str(_folder / "data")
os.environ["CHATSITE_REDIS_URL"] = f"unix://{_folder / 'redis' / 'redis.sock'}"
if _database_url := os.environ.get("CHATSITE_TEST_DATABASE_URL"):
    os.environ["DATABASE_URL"] = _database_url
os.environ["DJANGO_SETTINGS_MODULE"] = "chatsite.settings"

from chatsite.settings import *  # noqa: E402, F403

# The default hasher is slow by design; only tests of passwords need that.
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]

# Each test's client loads the middleware, which would scan all static files every time. Tests that
# need them start the product.
SERVESTATIC_USE_MANIFEST = False
SERVESTATIC_USE_STATIC_ROOT = False
