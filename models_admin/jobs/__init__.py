"""Long work on models: asked for by anybody with the right, done by a Celery worker.

`states` is the only place that changes a job's state, each time by a conditional update;
`lines` is what a job's log says; `progress` is what others see of a running one; `run` is what
the worker does; a module per kind does the work.
"""
