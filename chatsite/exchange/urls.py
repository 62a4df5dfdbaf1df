from django.urls import path

from chatsite.exchange import views

urlpatterns = [
    path("chat/export/", views.everything, name="export_all"),
    path("chat/export/<uuid:id>/", views.one, name="export_one"),
    path("chat/import/", views.take, name="import"),
]
