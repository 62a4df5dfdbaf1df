"""The judge of the offline test: what counts as an attempt to leave the machine."""

from __future__ import annotations

import pytest

from tests.support.traffic import Attempt, attempts, leaving

LOCAL = """
12 connect(3, {sa_family=AF_UNIX, sun_path="/tmp/redis.sock"}, 110) = 0
12 sendto(4, [{nlmsg_len=20}], 20, 0, {sa_family=AF_NETLINK, nl_pid=0}, 12) = 20
12 connect(5, {sa_family=AF_INET, sin_port=htons(8000), sin_addr=inet_addr("127.0.0.1")}, 16) = 0
12 connect(5, {sa_family=AF_INET6, sin6_port=htons(80), sin6_flowinfo=htonl(0), \
inet_pton(AF_INET6, "::1", &sin6_addr), sin6_scope_id=0}, 28) = 0
12 sendto(6, "GET / HTTP/1.1", 14, 0, NULL, 0) = 14
""".splitlines()


def v4(address: str, port: int, result: str = "0") -> str:
    return (
        f"9 connect(5, {{sa_family=AF_INET, sin_port=htons({port}),"
        f' sin_addr=inet_addr("{address}")}}, 16) = {result}'
    )


def test_sockets_within_the_machine_do_not_leave_it() -> None:
    found = attempts(LOCAL)
    assert [one.port for one in found] == [8000, 80]
    assert leaving(found) == []


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (v4("93.184.215.14", 443, "-1 ENETUNREACH"), ("93.184.215.14", 443)),
        (v4("10.0.0.7", 6379), ("10.0.0.7", 6379)),
        (v4("127.0.0.53", 53), ("127.0.0.53", 53)),
        (
            (
                '7 sendto(4, "\\1\\0", 40, MSG_NOSIGNAL, {sa_family=AF_INET6,'
                ' sin6_port=htons(53), sin6_flowinfo=htonl(0), inet_pton(AF_INET6, "2001:db8::1",'
                " &sin6_addr), sin6_scope_id=0}, 28) = -1 ENETUNREACH"
            ),
            ("2001:db8::1", 53),
        ),
        (
            (
                "7 sendmmsg(4, [{msg_hdr={msg_name={sa_family=AF_INET, sin_port=htons(53),"
                ' sin_addr=inet_addr("8.8.8.8")}, msg_namelen=16}}], 2, 0) = 2'
            ),
            ("8.8.8.8", 53),
        ),
    ],
)
def test_addresses_of_others_and_dns_leave_it(line: str, expected: tuple[str, int]) -> None:
    (found,) = leaving(attempts([*LOCAL, line]))
    assert (found.address, found.port) == expected


def test_mapped_loopback_is_loopback() -> None:
    line = v4("127.0.0.1", 80).replace("127.0.0.1", "0.0.0.0")
    assert leaving(attempts([line])) == []
    assert attempts([line]) == [Attempt("0.0.0.0", 80)]


def test_an_unknown_family_is_no_silent_pass() -> None:
    with pytest.raises(ValueError, match="AF_VSOCK"):
        attempts(["1 connect(3, {sa_family=AF_VSOCK, svm_cid=2}, 16) = 0"])
