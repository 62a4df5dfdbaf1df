from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("attachments", "0003_selection"),
    ]

    operations = [
        migrations.AddField(
            model_name="attachment",
            name="page_starts",
            field=models.JSONField(blank=True, default=list, null=True),
        ),
    ]
