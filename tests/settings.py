"""The product's settings over an environment of the test run's own.

pytest-django imports this before any conftest, so this is where the environment is made: a
data folder and a Redis socket in a temporary folder, and nothing of what the developer's shell
sets for a running product. Processes that tests start get `chatsite.settings`.
"""

import atexit
import os
import shutil
import tempfile
from pathlib import Path

_KEPT = {"CHATSITE_TEST_MODEL", "CHATSITE_TEST_DATABASE_URL"}
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

# Made to be slow, which tests of anything else need not wait for.
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
