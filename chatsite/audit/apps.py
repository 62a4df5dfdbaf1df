from django.apps import AppConfig


class AuditConfig(AppConfig):
    name = "chatsite.audit"
    label = "audit"
