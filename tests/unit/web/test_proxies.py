"""The client's address behind proxies, trusted only from listed networks."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from chatsite.web import proxies

PROXIES = (ip_network("10.0.0.0/8"), ip_network("::1"))


def scope(peer: str, *forwarded: str, proto: str = "https") -> dict:
    headers = [(b"host", b"chat.example.org"), (b"x-forwarded-proto", proto.encode())]
    headers += [(b"x-forwarded-for", line.encode()) for line in forwarded]
    return {"type": "http", "client": (peer, 1234), "headers": headers}


def test_m3_without_trusted_proxies_the_peer_is_the_client() -> None:
    asked = scope("10.0.0.9", "1.2.3.4")
    assert proxies.with_client(asked, ()) is asked


@pytest.mark.parametrize(
    ("forwarded", "client"),
    [
        (["198.51.100.7"], "198.51.100.7"),
        # What the client itself wrote is on the left.
        (["6.6.6.6, 198.51.100.7"], "198.51.100.7"),
        (["6.6.6.6", "198.51.100.7"], "198.51.100.7"),
        (["198.51.100.7, 10.0.0.2"], "198.51.100.7"),
        (["198.51.100.7:4711"], "198.51.100.7"),
        (['"[2001:db8::7]:4711"'], "2001:db8::7"),
        (["::ffff:198.51.100.7"], "198.51.100.7"),
        (["10.0.0.2"], "10.0.0.9"),
        (["unknown"], "10.0.0.9"),
        ([""], "10.0.0.9"),
        ([], "10.0.0.9"),
    ],
)
def test_m3_a_trusted_proxy_tells_the_client(forwarded: list[str], client: str) -> None:
    changed = proxies.with_client(scope("10.0.0.9", *forwarded), PROXIES)
    assert changed["client"][0] == client
    assert (b"x-forwarded-proto", b"https") in changed["headers"]


def test_m3_other_peers_can_not_forge_an_address_or_a_scheme() -> None:
    changed = proxies.with_client(scope("198.51.100.9", "127.0.0.1"), PROXIES)
    assert changed["client"][0] == "198.51.100.9"
    assert changed["headers"] == [(b"host", b"chat.example.org")]


@pytest.mark.parametrize(
    ("path", "prefix", "found"),
    [
        ("/chat/v1/models", "/chat", "/v1/models"),
        ("/chat", "/chat", "/"),
        ("/chat/", "/chat", "/"),
        # A page of the site, not the prefix.
        ("/chatter/", "/chat", "/chatter/"),
        # The proxy removed it.
        ("/v1/models", "/chat", "/v1/models"),
        ("/v1/models", "", "/v1/models"),
    ],
)
def test_t109_a_path_prefix_is_removed_where_it_is(path: str, prefix: str, found: str) -> None:
    assert proxies.without_prefix(path, prefix) == found
