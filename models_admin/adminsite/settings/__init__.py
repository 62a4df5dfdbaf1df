"""The page of settings, generated from the declarations of `chatsite.site_settings`."""
