"""Where passages are found: by their words (`words`) and by their vectors (`vectors`)."""

from chatsite.knowledge.index.store import put, put_attachment, rename
from chatsite.knowledge.index.vectors import put_vectors, without_vectors

__all__ = ["put", "put_attachment", "put_vectors", "rename", "without_vectors"]
