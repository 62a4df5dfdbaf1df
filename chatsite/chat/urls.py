from django.urls import path

from chatsite.chat import views

urlpatterns = [
    path("", views.page, name="chat"),
    path("c/<uuid:id>/", views.page, name="conversation"),
    path("chat/conversations/", views.conversations, name="conversations"),
    path("chat/conversations/<uuid:id>/", views.conversation, name="conversation_data"),
    path("chat/models/", views.models, name="models"),
]
