"""SCIM 2.0 (RFC 7643 and 7644) at `/scim/v2/`: the directory creates and changes users and groups.

`query` parses filters and paths, `patch` applies operations to documents, `documents` are what
clients see of users and groups, `changes` writes them, `views` are the endpoints.
"""
