"""``python -m chatsite.daphne`` takes the arguments of ``daphne``."""

# Before anything else: it chooses Twisted's event loop.
import daphne.server  # isort: skip
from daphne.cli import CommandLineInterface
from twisted.internet import tcp

from chatsite.daphne.server import Factory, Server
from chatsite.daphne.transport import Connection

tcp.Port.transport = Connection
daphne.server.HTTPFactory = Factory
CommandLineInterface.server_class = Server
CommandLineInterface.entrypoint()
