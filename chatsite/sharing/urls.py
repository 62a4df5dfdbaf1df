from django.urls import path

from chatsite.sharing import views

urlpatterns = [
    path("share/", views.own, name="own_shares"),
    path("share/<str:token>/", views.shared, name="shared"),
    path("share/<str:token>/revoke/", views.revoke, name="revoke_share"),
    path("chat/conversations/<uuid:id>/share/", views.share, name="share"),
]
