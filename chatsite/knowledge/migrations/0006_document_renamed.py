from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("knowledge", "0005_vector_codes")]

    operations = [
        migrations.AddField(
            "document",
            "renamed",
            models.BooleanField(default=False, db_default=False, editable=False),
        ),
    ]
