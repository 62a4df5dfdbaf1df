"""Why a collection or its documents can't be used or changed."""

from __future__ import annotations

from django.utils.translation import gettext_lazy as _

from chatsite.errors import ChatsiteError


class CollectionMissing(ChatsiteError):
    """Also raised for collections that the user may not read."""

    code = "collection_not_found"
    status = 404
    message = _("This collection no longer exists, or it is not shared with you. Choose another.")


class CollectionReadOnly(ChatsiteError):
    code = "collection_read_only"
    status = 403
    message = _("You can read this collection but not change it. Ask its owner.")


class DocumentMissing(ChatsiteError):
    """Also raised for documents that the user may not read."""

    code = "document_not_found"
    status = 404
    message = _("This document no longer exists, or it is not shared with you.")


class BadPath(ChatsiteError):
    code = "bad_path"
    status = 400
    message = _(
        "This path can't be used. Use names separated by slashes, of at most 500 characters."
    )


class PathTaken(ChatsiteError):
    code = "path_taken"
    status = 409
    message = _("There is already a document with this path. Choose another name.")


class FolderIntoItself(ChatsiteError):
    code = "folder_into_itself"
    status = 409
    message = _("A folder can't be moved into itself. Choose another path.")


class CollectionNameTaken(ChatsiteError):
    code = "collection_name_taken"
    status = 409
    message = _("You already have a collection with this name. Choose another.")


class NotGroupMember(ChatsiteError):
    code = "not_group_member"
    status = 403
    message = _("You are not a member of this group.")


class CollectionFull(ChatsiteError):
    code = "collection_full"
    status = 413
    message = _("There is no room for this file. Delete documents, or ask an administrator.")
    detailed = _(
        "There is no room for this file: your collections may have %(limit)s MB in total. Delete "
        "documents, or ask an administrator."
    )


class TooManyDocuments(ChatsiteError):
    code = "too_many_documents"
    status = 413
    message = _("The collection has too many documents. Use several collections.")
    detailed = _("A collection may have %(limit)s documents. Use several collections.")


class UploadIncomplete(ChatsiteError):
    code = "upload_incomplete"
    status = 409
    message = _("Parts of the file are missing. Upload it again.")


class SyncIncomplete(ChatsiteError):
    code = "sync_incomplete"
    status = 409
    message = _("Some files of the folder are not uploaded yet. Nothing was deleted.")


class ShareMissing(ChatsiteError):
    code = "share_not_found"
    status = 400
    message = _("A user or group to share with does not exist.")
