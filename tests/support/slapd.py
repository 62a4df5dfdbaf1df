"""A private OpenLDAP server with users, nested groups and a technical account."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import ldap

from tests.support.stack import free_port
from tests.support.tls import Certificate, certificate

BASE = "dc=example,dc=org"
PEOPLE = f"ou=people,{BASE}"
GROUPS = f"ou=groups,{BASE}"
ADMIN_DN = f"cn=admin,{BASE}"
SEARCH_DN = f"cn=search,{BASE}"
ADMIN_PASSWORD = "directory admin"
SEARCH_PASSWORD = "may search"
_SCHEMAS = Path("/etc/ldap/schema")
_MODULES = Path("/usr/lib/ldap")
_START_SECONDS = 10

_CONFIG = """
include {schemas}/core.schema
include {schemas}/cosine.schema
include {schemas}/inetorgperson.schema
modulepath {modules}
moduleload back_mdb
pidfile {folder}/slapd.pid
TLSCACertificateFile {chain}
TLSCertificateFile {chain}
TLSCertificateKeyFile {key}
sizelimit size.soft=10 size.hard=unlimited size.prtotal=unlimited
database mdb
maxsize 33554432
suffix "{base}"
rootdn "{admin}"
rootpw "{password}"
directory {folder}/data
dbnosync
access to attrs=userPassword by anonymous auth by * none
access to * by dn.exact="{search}" read by * none
"""

_ENTRIES = f"""
dn: {BASE}
objectClass: organization
objectClass: dcObject
dc: example
o: Example

dn: {PEOPLE}
objectClass: organizationalUnit
ou: people

dn: {GROUPS}
objectClass: organizationalUnit
ou: groups

dn: {SEARCH_DN}
objectClass: organizationalRole
objectClass: simpleSecurityObject
cn: search
userPassword: {SEARCH_PASSWORD}
"""


def user_dn(name: str) -> str:
    return f"uid={name},{PEOPLE}"


def group_dn(name: str) -> str:
    return f"cn={name},{GROUPS}"


class Slapd:
    """A running server. ``users`` are names and passwords, ``groups`` names and member DNs."""

    def __init__(
        self, folder: Path, users: Mapping[str, str], groups: Mapping[str, list[str]]
    ) -> None:
        self.folder = folder
        self.port, self.tls_port = free_port(), free_port()
        self.url = f"ldap://127.0.0.1:{self.port}"
        self.tls_url = f"ldaps://127.0.0.1:{self.tls_port}"
        self.certificate: Certificate = certificate(folder)
        self.password_file = folder / "password"
        self.password_file.write_text(f"{SEARCH_PASSWORD}\n")
        (folder / "data").mkdir()
        config = folder / "slapd.conf"
        config.write_text(
            _CONFIG.format(
                schemas=_SCHEMAS,
                modules=_MODULES,
                folder=folder,
                base=BASE,
                admin=ADMIN_DN,
                search=SEARCH_DN,
                password=ADMIN_PASSWORD,
                chain=self.certificate.chain,
                key=self.certificate.key,
            )
        )
        entries = [_ENTRIES, *(_user(name, password) for name, password in users.items())]
        entries += [_group(name, members) for name, members in groups.items()]
        subprocess.run(
            ["/usr/sbin/slapadd", "-f", str(config), "-q"],
            input="\n".join(entries),
            text=True,
            check=True,
            capture_output=True,
        )
        self.process = subprocess.Popen(
            ["/usr/sbin/slapd", "-f", str(config), "-h", f"{self.url} {self.tls_url}", "-d", "0"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self._wait()

    def _wait(self) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while True:
            try:
                with self.admin():
                    return
            except ldap.SERVER_DOWN:
                assert self.process.poll() is None, f"slapd left with {self.process.returncode}"
                assert time.monotonic() < deadline, "slapd does not answer"
                time.sleep(0.02)

    @contextlib.contextmanager
    def admin(self) -> Iterator[ldap.ldapobject.LDAPObject]:
        """Yield a connection that may change everything."""
        link = ldap.initialize(self.url)
        link.set_option(ldap.OPT_NETWORK_TIMEOUT, 5)
        link.simple_bind_s(ADMIN_DN, ADMIN_PASSWORD)
        try:
            yield link
        finally:
            link.unbind_s()

    def add_user(self, name: str, password: str) -> None:
        with self.admin() as link:
            link.add_s(user_dn(name), _attributes(name, password))

    def delete_user(self, name: str) -> None:
        with self.admin() as link:
            link.delete_s(user_dn(name))

    def set_members(self, group: str, members: list[str]) -> None:
        values = [member.encode() for member in members]
        with self.admin() as link:
            link.modify_s(group_dn(group), [(ldap.MOD_REPLACE, "member", values)])

    @contextlib.contextmanager
    def silent(self) -> Iterator[None]:
        """Let the server accept connections, but answer nothing."""
        os.kill(self.process.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self.process.pid, signal.SIGCONT)

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    @property
    def settings(self) -> dict[str, object]:
        """Return fields of the product's settings that use this server."""
        return {
            "ldap_url": (self.url,),
            "ldap_bind_dn": SEARCH_DN,
            "ldap_bind_password_file": self.password_file,
            "ldap_user_base": PEOPLE,
            "ldap_group_base": GROUPS,
        }

    @property
    def environment(self) -> dict[str, str]:
        """Return the same as variables."""
        return {
            "CHATSITE_LDAP_URL": self.url,
            "CHATSITE_LDAP_BIND_DN": SEARCH_DN,
            "CHATSITE_LDAP_BIND_PASSWORD_FILE": str(self.password_file),
            "CHATSITE_LDAP_USER_BASE": PEOPLE,
            "CHATSITE_LDAP_GROUP_BASE": GROUPS,
        }


def _attributes(name: str, password: str) -> list[tuple[str, list[bytes]]]:
    return [
        ("objectClass", [b"inetOrgPerson"]),
        ("cn", [f"{name} Example".encode()]),
        ("sn", [b"Example"]),
        ("givenName", [name.title().encode()]),
        ("mail", [f"{name}@example.org".encode()]),
        ("userPassword", [password.encode()]),
    ]


def _user(name: str, password: str) -> str:
    lines = [f"dn: {user_dn(name)}", f"uid: {name}"]
    for attribute, values in _attributes(name, password):
        lines += [f"{attribute}: {value.decode()}" for value in values]
    return "\n".join(lines) + "\n"


def _group(name: str, members: list[str]) -> str:
    lines = [f"dn: {group_dn(name)}", "objectClass: groupOfNames", f"cn: {name}"]
    return "\n".join([*lines, *(f"member: {member}" for member in members)]) + "\n"
