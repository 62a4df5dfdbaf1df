from django.urls import path

from chatsite.chat import assistant_views as assistants
from chatsite.chat import attachment_views as attachments
from chatsite.chat import organise_views, views

urlpatterns = [
    path("", views.page, name="chat"),
    path("c/<uuid:id>/", views.page, name="conversation"),
    path("chat/conversations/", views.conversations, name="conversations"),
    path("chat/conversations/count/", views.count, name="count_conversations"),
    path("chat/conversations/<uuid:id>/", views.conversation, name="conversation_data"),
    path("chat/attachments/", attachments.begin, name="attachments"),
    path("chat/attachments/<uuid:id>/", attachments.attachment, name="attachment"),
    path("chat/attachments/<uuid:id>/pieces/<int:number>/", attachments.piece, name="piece"),
    path("chat/attachments/<uuid:id>/read/", attachments.read, name="read_attachment"),
    path("chat/attachments/<uuid:id>/text/", attachments.text, name="attachment_text"),
    path(
        "chat/messages/<uuid:message>/citations/<int:number>/",
        attachments.citation,
        name="citation",
    ),
    path("chat/organise/", organise_views.organise, name="organise"),
    path("chat/folders/", organise_views.folders, name="folders"),
    path("chat/folders/<uuid:id>/", organise_views.folder, name="folder"),
    path("chat/conversations/<uuid:id>/messages/", views.messages, name="messages"),
    path("chat/reads/<uuid:id>/", views.confirm_read, name="confirm_read"),
    path("accounts/assistants/", assistants.page, name="assistants"),
    path("accounts/assistants/<uuid:id>/", assistants.page, name="assistant"),
    path("accounts/assistants/<uuid:id>/delete/", assistants.delete, name="delete_assistant"),
    path("accounts/assistants/<uuid:id>/restore/", assistants.restore, name="restore_assistant"),
    path("chat/quotas/", views.quotas, name="quotas"),
    path("chat/models/", views.models, name="models"),
    path("chat/models/details/", views.model_details, name="model_details"),
]
