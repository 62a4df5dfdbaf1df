"""Set-up: from a fresh clone to a running product, and to its tests.

Only the standard library and Python 3.11: this runs before anything is installed. Each step
leaves a stamp of what it was made from (`stamps.py`), and is skipped while the stamp holds.
"""
