"""The administration: pages of models, jobs and hosts, and Django's model admin."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Final

from chatsite.accounts.roles import Role, permissions_of
from models_admin.adminsite.site import site
from models_admin.models import Job, ModelName, ModelVersion
from tests.integration.web.strangers.table import Row, World, admin, public

MANAGER: Final = Role.MODEL_MANAGER
JOB: Final = {"id": "job"}
UPLOAD: Final = {"id": "upload"}


def _model(world: World) -> Any:
    version, _new = ModelVersion.objects.get_or_create(digest="a" * 64, defaults={"size": 1})
    return ModelName.objects.create(name="smollm2:135m", version=version).pk


def _object(world: World) -> Any:
    return 999_999_999


FACTS = {
    "model": _model,
    "job": lambda world: Job.objects.create(kind="download", target="x", source="x").pk,
    "upload": lambda world: "00000000-0000-4000-8000-000000000000",
    "object": _object,
    "content_type": lambda world: 1,
}


def _model_admin() -> Iterator[Row]:
    """Yield the rows of Django's model admin, for each registered model.

    The object is missing, so Django redirects users who may see the model to the index, with a
    message; others get 403 before it is looked for.
    """
    for model in site._registry:
        options = model._meta
        label = f"{options.app_label}/{options.model_name}"
        args = {"object_id": "object", "id": "object"}

        def roles(action: str, options: Any = options) -> tuple[Role, ...]:
            names = [f"{options.app_label}.{action}_{options.model_name}"]
            if action == "view":
                names.append(f"{options.app_label}.change_{options.model_name}")
            found = (Role.MODEL_MANAGER, Role.AUDITOR)
            return tuple(role for role in found if permissions_of(role) & set(names))

        may_add = site._registry[model].has_add_permission(_SUPERUSER)
        may_delete = site._registry[model].has_delete_permission(_SUPERUSER)
        yield admin(f"{label}/", "GET", *roles("view"))
        yield admin(
            f"{label}/add/",
            "GET",
            *(roles("add") if may_add else ()),
            status=200 if may_add else 403,
        )
        yield admin(
            f"{label}/<path:object_id>/change/", "GET", *roles("view"), args=args, status=302
        )
        # The object is missing before the permission is checked.
        yield admin(f"{label}/<path:object_id>/history/", "GET", *Role, args=args, status=302)
        yield admin(
            f"{label}/<path:object_id>/delete/",
            "POST",
            *(roles("delete") if may_delete else ()),
            args=args,
            status=302 if may_delete else 403,
        )
        # Redirects to the page of changes, which checks the permission.
        yield admin(f"{label}/<path:object_id>/", "GET", *Role, args=args, status=302)
        if label == "accounts/user":
            yield admin(f"{label}/<id>/password/", "GET", args=args, status=404)


class _Request:
    """A request of an administrator, as far as permissions of model admins look at it."""

    class user:  # noqa: N801
        is_active = is_superuser = True

        @staticmethod
        def has_perm(name: str) -> bool:
            return True


_SUPERUSER: Any = _Request()

ROWS: list[Row] = [
    # The auditor is redirected to the first page of the role.
    admin("", "GET", MANAGER, staff=302),
    admin("overview/now/", "GET", MANAGER),
    admin("advanced/", "GET"),
    admin("settings/", "GET"),
    admin("settings/", "POST", form={}, status=422),
    admin("settings/logo/", "POST", form={}, status=422),
    admin("catalogue/", "GET", MANAGER),
    admin("jobs/", "GET", MANAGER),
    admin("jobs/", "POST", MANAGER, status=302, form={"source": "x"}),
    admin("jobs/<uuid:id>/log/", "GET", MANAGER, args=JOB),
    admin("jobs/<uuid:id>/pause/", "POST", MANAGER, args=JOB),
    admin("jobs/<uuid:id>/resume/", "POST", MANAGER, args=JOB, status=409),
    admin("jobs/<uuid:id>/retry/", "POST", MANAGER, args=JOB, status=409),
    admin("jobs/<uuid:id>/cancel/", "POST", MANAGER, args=JOB),
    admin("jobs/<uuid:id>/remove/", "POST", MANAGER, args=JOB, status=409),
    admin("jobs/<uuid:id>/default/", "POST", MANAGER, args=JOB, status=404),
    admin("exchange/", "GET", MANAGER),
    admin("exchange/import/", "POST", MANAGER, status=302),
    admin("exchange/export/", "POST", MANAGER, status=302),
    admin("uploads/", "POST", MANAGER, status=400),
    admin("uploads/<uuid:id>/", "GET", MANAGER, args=UPLOAD, status=404),
    admin("uploads/<uuid:id>/install/", "POST", MANAGER, args=UPLOAD, status=404),
    admin("modelfile/", "GET", MANAGER),
    admin("modelfile/", "POST", MANAGER, form={}),
    admin("modelfile/download/", "GET", MANAGER, query="?name=missing", status=302),
    admin("hosts/", "GET", MANAGER),
    admin("hosts/load/", "POST", MANAGER, status=400),
    admin("hosts/unload/", "POST", MANAGER, status=400),
    # Each redirects to the pages of the account.
    Row("admin/login/", owner=403, other=403),
    public("admin/logout/", "POST", 302),
    admin("password_change/", "GET", *Role, status=302),
    admin("password_change/done/", "GET", *Role),
    admin("autocomplete/", "GET", *Role, status=403),
    admin("jsi18n/", "GET", *Role),
    admin(
        "r/<path:content_type_id>/<path:object_id>/",
        "GET",
        *Role,
        args={"content_type_id": "content_type", "object_id": "object"},
        status=404,
    ),
    admin(
        "^(?P<app_label>…)/$",
        "GET",
        MANAGER,
        path="admin/models_admin/",
        staff=404,
    ),
    admin("(?P<url>.*)$", "GET", *Role, path="admin/nothing-here/", status=404),
    *(replace(row, each_end=False) for row in _model_admin()),
]
