# make setup | run | build | bundle | test | test-fast | coverage | lint | lock | bench
#
#   HOST      address to serve        127.0.0.1
#   PORT      port to serve           8000
#   DATA_DIR  the one place for data  ./var
#
# CMAKE_ARGS goes to the build of llama.cpp: make run CMAKE_ARGS=-DGGML_CUDA=on
# EXTRAS=ldap installs sign-in with LDAP and Active Directory (setup, run); it stays installed.
# EXTRAS=otel installs the export of spans to an OpenTelemetry collector.
# UPGRADE=1 lets `make lock` take newer versions; PYTEST_ARGS goes to pytest.

HOST ?= $(or $(CHATSITE_HOST),127.0.0.1)
PORT ?= $(or $(CHATSITE_PORT),8000)
DATA_DIR ?= $(or $(CHATSITE_DATA_DIR),./var)
PYTHON ?= $(firstword $(wildcard .venv/bin/python) python3)
export HOST PORT DATA_DIR

TARGETS := setup run build bundle test test-fast coverage lint lock bench
.PHONY: help $(TARGETS)

help:
	@sed -n 's/^# \{0,1\}//p' Makefile

# `exec`, so that Ctrl-C and signals reach the program and not a shell in between.
$(TARGETS):
	@exec $(PYTHON) -m scripts.setup $@
