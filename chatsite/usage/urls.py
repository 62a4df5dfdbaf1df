from django.urls import path

from chatsite.usage import views

urlpatterns = [path("usage/", views.own, name="own_usage")]
