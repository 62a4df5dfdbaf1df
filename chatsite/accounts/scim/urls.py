"""The routes of SCIM, below `/scim/v2/`."""

from __future__ import annotations

from django.urls import path

from chatsite.accounts.scim import views

urlpatterns = [
    path("Users", views.users, name="scim_users"),
    path("Users/<int:id>", views.user, name="scim_user"),
    path("Groups", views.groups, name="scim_groups"),
    path("Groups/<int:id>", views.group, name="scim_group"),
    path("ServiceProviderConfig", views.service, name="scim_service"),
    path("ResourceTypes", views.resource_types, name="scim_resource_types"),
    path("ResourceTypes/<str:id>", views.resource_type, name="scim_resource_type"),
    path("Schemas", views.schema_list, name="scim_schemas"),
    path("Schemas/<str:id>", views.schema, name="scim_schema"),
    path("<path:rest>", views.nothing, name="scim_nothing"),
]
