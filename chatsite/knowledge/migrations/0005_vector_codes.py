import django.db.models.deletion
import numpy as np
from django.db import migrations, models

_BATCH = 500


def fill(apps, schema_editor):
    vectors = apps.get_model("knowledge", "PassageVectors").objects
    codes = apps.get_model("knowledge", "VectorCodes").objects
    made = []
    rows = vectors.values_list("pk", "rows", "data").iterator(_BATCH)
    for pk, count, data in rows:
        if count:
            matrix = np.frombuffer(bytes(data), dtype="<f2").reshape(count, -1)
            bits = np.packbits(matrix > 0, axis=1)
            # Whole words of 64 bits.
            bits = np.pad(bits, ((0, 0), (0, -bits.shape[1] % 8)))
            made.append(codes.model(pk, bits.tobytes()))
        if len(made) == _BATCH:
            codes.bulk_create(made)
            made = []
    codes.bulk_create(made)


class Migration(migrations.Migration):
    dependencies = [("knowledge", "0004_retrievals")]

    operations = [
        migrations.CreateModel(
            name="VectorCodes",
            fields=[
                (
                    "vectors",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.CASCADE,
                        primary_key=True,
                        related_name="codes",
                        serialize=False,
                        to="knowledge.passagevectors",
                    ),
                ),
                ("data", models.BinaryField()),
            ],
        ),
        migrations.AddField(
            "collection",
            "vectors_version",
            models.PositiveBigIntegerField(default=0, db_default=0, editable=False),
        ),
        migrations.RunPython(fill, migrations.RunPython.noop),
    ]
