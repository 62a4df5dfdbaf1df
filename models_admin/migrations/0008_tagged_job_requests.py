"""Store a job's request as one tagged object, and its partial files in a separate column.

Before, the kind of an import was a prefix of `source` (``file:``, ``upload:``, ``blob:``), and
`options` had other keys for each kind; see `jobs.requests`. Rows whose files are unknown now get a
request that fails with a clear error when it is retried.
"""

from typing import Any

from django.db import migrations, models


def tagged(kind: str, target: str, source: str, options: dict[str, Any]) -> dict[str, Any]:
    """Return the request of a job that release 0.1 stored."""
    available = not options.get("hidden", False)
    if kind == "download":
        return {"type": "download", "source": source}
    if kind == "quantize":
        return {
            "type": "quantize",
            "source": source,
            "quantization": options.get("kind", ""),
            "configuration": options.get("configuration"),
        }
    if kind == "export":
        return {"type": "export", "names": options.get("names", [target])}
    prefix, colon, rest = source.partition(":")
    if prefix == "blob":
        return {
            "type": "create",
            "blobs": options.get("files", [rest]),
            "configuration": options.get("configuration", {}),
            "quantization": options.get("kind", ""),
        }
    if prefix == "upload":
        return {
            "type": "import_upload",
            "upload": rest,
            "file": options.get("file", rest),
            "available": available,
        }
    file = rest if prefix == "file" and colon else source
    return {"type": "import_file", "file": file, "available": available}


def shown(request: dict[str, Any]) -> str:
    """Return the text of `source` as it is shown to users."""
    match request["type"]:
        case "export":
            text = ", ".join(request["names"])
        case "create":
            text = ", ".join(f"sha256:{digest[:12]}" for digest in request["blobs"])
        case "import_file" | "import_upload":
            text = request["file"]
        case _:
            text = request["source"]
    return str(text)[:1000]


def convert(apps: Any, schema_editor: Any) -> None:
    jobs = apps.get_model("models_admin", "Job").objects.using(schema_editor.connection.alias)
    for job in list(jobs.all()):  # materialized: no writes while a cursor reads the table
        job.partial_files = job.options.get("digests", [])
        job.options = tagged(job.kind, job.target, job.source, job.options)
        job.source = shown(job.options)
        job.save(update_fields=["options", "source", "partial_files"])


class Migration(migrations.Migration):
    dependencies = [
        ("models_admin", "0007_labels"),
    ]

    operations = [
        migrations.AddField(
            model_name="job",
            name="partial_files",
            field=models.JSONField(default=list),
        ),
        migrations.RunPython(convert),
    ]
