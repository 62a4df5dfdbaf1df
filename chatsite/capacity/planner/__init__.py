"""The capacity planner: how many people a machine serves, and how long they wait.

Pure: no clock, no I/O, no Django; the same seed gives the same figures. `speeds` says what a step
costs, `machines` estimates that from data sheets, `simulation` runs people, queue and engines with
the engine's own scheduler, `plan` looks for the most people within limits. See
docs/explanation/capacity.md.
"""
