"""Template filters of the admin site."""
