from django.urls import path

from chatsite.search import views

urlpatterns = [path("chat/search/", views.search, name="search")]
