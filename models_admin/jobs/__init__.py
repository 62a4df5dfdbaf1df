"""Long-running work on models, requested by authorized users and run by Celery workers.

`states` is the only module that changes a job's state, always by conditional update. `job_log`
holds the texts of a job's log, `progress` the published progress of a running job. `run` is the
worker's entry point; one module per kind does the work.
"""
