"""``python -m chatsite.template_renderer NAME SOCKET``: renders chat templates for one engine.

See `chatsite.engine.prompting.renderer`. A separate module, so that the process list
distinguishes it from its engine.
"""

from __future__ import annotations

import sys

from chatsite.engine.prompting import renderer

if __name__ == "__main__":
    sys.exit(renderer.main(int(sys.argv[2])))
