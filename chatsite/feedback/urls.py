from django.urls import path

from chatsite.feedback import views

urlpatterns = [
    path(
        "chat/conversations/<uuid:id>/feedback/",
        views.of_conversation,
        name="conversation_feedback",
    ),
    path("chat/messages/<uuid:id>/feedback/", views.of_message, name="message_feedback"),
]
