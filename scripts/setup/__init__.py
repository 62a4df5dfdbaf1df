"""Set-up: from a fresh clone to a running product, and to its tests.

It uses only the standard library and Python 3.11, because it runs before anything is installed.
Each step saves a stamp of its inputs (`stamps.py`), and is skipped while the stamp is current.
"""
