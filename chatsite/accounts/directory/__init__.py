"""Users and groups that come from the organization's directory.

`oidc` and `ldap` sign users in, `sync` disables those who left, and `accounts.scim` lets the
directory change users itself. All of them turn what the directory knows of a user into a `Person`
and hand it to `accounts`, `groups` and `leavers`, which change the database.
"""
