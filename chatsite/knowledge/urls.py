"""The page of collections and its JSON endpoints, below `/knowledge/`."""

from django.urls import path

from chatsite.knowledge import page_views, views

urlpatterns = [
    path("", page_views.page, name="knowledge"),
    path("<uuid:id>/", page_views.page, name="knowledge_collection"),
    path("collections/", views.all_collections, name="collections"),
    path("collections/<uuid:id>/", views.collection, name="collection"),
    path("collections/<uuid:id>/documents/", views.documents, name="collection_documents"),
    path("collections/<uuid:id>/shares/", views.shares, name="collection_shares"),
    path("collections/<uuid:id>/sync/", views.begin_sync, name="collection_sync"),
    path("sync/<uuid:id>/finish/", views.finish_sync, name="collection_sync_finish"),
    path("people/", views.people, name="collection_people"),
    path("search/", views.search, name="collection_search"),
    path("documents/<uuid:id>/", views.document, name="document"),
    path(
        "documents/<uuid:id>/pieces/<int:version>/<int:number>/",
        views.piece,
        name="document_piece",
    ),
    path("documents/<uuid:id>/finish/", views.finish, name="document_finish"),
    path("documents/<uuid:id>/move/", views.move, name="document_move"),
    path("documents/<uuid:id>/retry/", views.retry, name="document_retry"),
    path("documents/<uuid:id>/file/", views.file, name="document_file"),
    path("documents/<uuid:id>/text/", views.text, name="document_text"),
    path("passages/<int:id>/", views.passage, name="passage"),
]
