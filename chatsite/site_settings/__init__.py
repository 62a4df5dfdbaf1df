"""Settings that an administrator edits in the browser.

`fields` declares them, `current` returns their values, `save` changes them.
"""

from chatsite.site_settings.cache import current

__all__ = ["current"]
