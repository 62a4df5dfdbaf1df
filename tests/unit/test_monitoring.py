"""The dashboard and the alert rules in `deploy/monitoring` name metrics that exist."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from chatsite.management import reference
from chatsite.usage.figures import OUTCOMES

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "deploy/monitoring"
ALERTS = FOLDER / "alerts.yml"
# Series of a histogram, and what Prometheus's client adds to a name.
_SUFFIXES = ("_bucket", "_sum", "_count")


def exported() -> dict[str, set[str]]:
    """Return the labels of each exported metric."""
    rows = re.findall(
        r"^\| `(\w+)` \| (\w+) \| ([^|]*) \|", reference.metrics_table(), re.MULTILINE
    )
    found = {name: set(re.findall(r"\w+", labels)) for name, _, labels in rows}
    for name, kind, _ in rows:
        if kind == "histogram":
            found |= {name + suffix: found[name] | {"le"} for suffix in _SUFFIXES}
    return found


def expressions() -> list[str]:
    board = json.loads((FOLDER / "grafana-dashboard.json").read_text())
    queries = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    queries += [
        one["query"]["query"] for one in board["templating"]["list"] if one["type"] == "query"
    ]
    # YAML of a fixed form: an expression ends where the next key begins.
    blocks = re.findall(r"expr: (.*?)\n        (?:for|labels):", ALERTS.read_text(), re.DOTALL)
    assert len(blocks) == ALERTS.read_text().count("- alert:")
    return queries + blocks


def test_each_named_metric_is_exported_with_its_labels() -> None:
    metrics = exported()
    named = set()
    for text in expressions():
        for name, labels in re.findall(r"\b(chatsite_\w+)(?:\{([^}]*)\})?", text):
            named.add(name)
            assert name in metrics, text
            assert set(re.findall(r"(\w+)=", labels)) <= metrics[name], text
    assert named
    # What nobody looks at need not be exported.
    shown = {re.sub("_(bucket|sum|count)$", "", name) for name in named}
    unseen = {name for name in metrics if not name.endswith(_SUFFIXES)} - shown
    assert unseen <= {
        "chatsite_memory_bytes",
        "chatsite_device_memory_bytes",
        "chatsite_engine_promised_bytes",
        "chatsite_engine_restored_sequences_total",
    }


def test_outcomes_of_the_rules_exist() -> None:
    named = re.findall(r'outcome="(\w+)"', ALERTS.read_text())
    assert named
    assert set(named) <= set(OUTCOMES)


def test_panels_do_not_overlap() -> None:
    board = json.loads((FOLDER / "grafana-dashboard.json").read_text())
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        at = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert not cells & taken, panel["title"]
        assert at["x"] + at["w"] <= 24
        taken |= cells


def test_each_alert_is_documented() -> None:
    text = (ROOT / "docs/admin/monitoring.md").read_text()
    for alert in re.findall(r"- alert: (\w+)", ALERTS.read_text()):
        assert f"`{alert}`" in text, alert


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_prometheus_accepts_the_rules() -> None:
    subprocess.run(["promtool", "check", "rules", str(ALERTS)], check=True)
