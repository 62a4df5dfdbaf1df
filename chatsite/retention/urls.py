"""The page of one's own data, in the account area."""

from django.urls import path

from chatsite.retention import views

urlpatterns = [
    path("accounts/data/", views.page, name="own_data"),
    path("accounts/data/export/", views.export, name="export_own_data"),
    path("accounts/data/export/<uuid:id>/", views.download, name="download_own_data"),
    path("accounts/data/chats/", views.delete_chats, name="delete_own_chats"),
    path("accounts/data/account/", views.delete_account, name="delete_own_account"),
]
