"""Every key and channel that the product uses in Redis, in one place.

All begin with `PREFIX` (setting `CHATSITE_REDIS_PREFIX`), so that sites can share one server.

=========================  =======  =============================================  ===========
key (after the prefix)     type     holds                                          written by
=========================  =======  =============================================  ===========
``gen:<generation>``       stream   the text of an answer, see `stream.entries`    hosts
``wake:<token>``           stream   ends the blocked read of one web process       web
``queue:<model>``          zset     queued generations by virtual finish time      scripts
``line:<model>:<owner>``   zset     the same, one user's part of it                scripts
``clock:<model>``          string   virtual start time of the job leased last      scripts
``arrivals``               string   number of submitted jobs                       scripts
``job:<generation>``       hash     payload, owner, model, state, host, attempt,   scripts
                                    faults, cancel, cost, shift
``open:<owner>``           set      the user's queued and running generations      scripts
``leases``                 zset     running generations by expiry of the lease     scripts
``models``                 set      models that may have queued jobs               scripts
``hosts``                  set      IDs of inference hosts                         hosts
``host:<host>``            string   `HostStatus` as JSON, expires                  hosts
``engine:<engine>``        string   ID of the host that serves it, expires         hosts
``hint:jobs``              channel  a model has a new job                          scripts
``hint:host:<host>``       channel  commands to one host                           web, scripts
``measure:<host>``         channel  token count requests                           web
``measured:<id>``          list     the answer to one of them                      hosts
``tokens``                 hash     bytes per token by the digest of a model       web
``vectors``                string   the worker that computes vectors, expires      Celery
``download:progress:<id>`` string   progress of a job on models                    Celery
``probe:<id>``             string   a health check went through Celery, expires    Celery
=========================  =======  =============================================  ===========

Scripts are those of `answers/queue/lua`.
Django's cache, the channel layer and Celery put the same prefix before their own keys
(`settings.py`).
"""

from __future__ import annotations

import uuid
from typing import Final

from django.conf import settings

PREFIX: Final[str] = settings.ENV.redis_prefix

# Matches every key of this site.
ALL_KEYS: Final = f"{PREFIX}*"
HINT_JOBS: Final = f"{PREFIX}hint:jobs"
HOSTS: Final = f"{PREFIX}hosts"
MODELS: Final = f"{PREFIX}models"
VECTORS_LEASE: Final = f"{PREFIX}vectors"
BYTES_PER_TOKEN: Final = f"{PREFIX}tokens"


def stream_key(generation: str) -> str:
    return f"{PREFIX}gen:{generation}"


def wake_key(token: str) -> str:
    return f"{PREFIX}wake:{token}"


def queue_key(model: str) -> str:
    return f"{PREFIX}queue:{model}"


def job_key(generation: str) -> str:
    return f"{PREFIX}job:{generation}"


def host_key(host: str) -> str:
    return f"{PREFIX}host:{host}"


def engine_key(engine: int) -> str:
    return f"{PREFIX}engine:{engine}"


def host_hints(host: str) -> str:
    return f"{PREFIX}hint:host:{host}"


def measure_channel(host: str) -> str:
    return f"{PREFIX}measure:{host}"


def measured_key(id: str) -> str:
    return f"{PREFIX}measured:{id}"


def probe_key(id: str) -> str:
    return f"{PREFIX}probe:{id}"


def download_progress_key(job: uuid.UUID | str) -> str:
    return f"{PREFIX}download:progress:{job}"
