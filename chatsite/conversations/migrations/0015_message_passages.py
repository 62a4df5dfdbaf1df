from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("chat", "0014_knowledge_channel"),
    ]

    operations = [
        migrations.AddField(
            model_name="message",
            name="passages",
            field=models.PositiveSmallIntegerField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name="message",
            name="marks_removed",
            field=models.PositiveSmallIntegerField(blank=True, null=True),
        ),
    ]
