"""``python -m chatsite.web.daphne`` takes the arguments of ``daphne``."""

from chatsite import supported

# Checked before these libraries are imported.
supported.require("daphne", "twisted")

from daphne.cli import CommandLineInterface  # noqa: E402

from chatsite.web.daphne import descriptors, patches  # noqa: E402
from chatsite.web.daphne.server import Factory, Server  # noqa: E402
from chatsite.web.daphne.sockets import Factory as SocketFactory  # noqa: E402
from chatsite.web.daphne.transport import Connection  # noqa: E402

descriptors.raise_limit()
patches.install(Server, Factory, SocketFactory, Connection)
CommandLineInterface.entrypoint()
