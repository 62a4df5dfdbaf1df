from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("chat", "0015_message_passages")]

    operations = [
        migrations.AddField(
            model_name="generation",
            name="engine",
            field=models.CharField(blank=True, max_length=40, null=True, verbose_name="engine"),
        ),
    ]
