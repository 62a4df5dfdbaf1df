"""The admin page that creates a custom model from a Modelfile or downloads its Modelfile."""

from __future__ import annotations

from django.contrib import messages
from django.contrib.admin.models import ADDITION, LogEntry
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.text import slugify
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_http_methods

from chatsite.audit.record import record
from chatsite.errors import ChatsiteError
from models_admin import catalogue
from models_admin.adminsite.live import access
from models_admin.config import custom, modelfile
from models_admin.models import ModelName

_FILE_BYTES = 1 << 20


@require_http_methods(["GET", "POST"])
@access.page("add_modelname")
def edit(request: HttpRequest) -> HttpResponse:
    """Create or change a custom model from ``name`` and ``text`` or ``file``."""
    name, text = request.GET.get("name", ""), ""
    if request.method == "POST":
        name = request.POST.get("name", "").strip()
        text = request.POST.get("text", "").replace("\r\n", "\n")
        try:
            if file := request.FILES.get("file"):
                text = modelfile.decode(file.read(_FILE_BYTES))
            model = custom.create(name, text)
        except ChatsiteError as error:
            messages.error(request, str(error))
        else:
            LogEntry.objects.log_actions(
                user_id=access.current_user(request).pk,
                queryset=[model],
                action_flag=ADDITION,
                change_message="Modelfile",
                single_object=True,
            )
            record("model.created", request=request, target=("model", str(model.pk), model.name))
            messages.success(request, _("Created: %s") % model.name)
            return redirect("admin:models_admin_modelname_changelist")
    elif name and (found := catalogue.installed(name)):
        text = custom.as_modelfile(found)
    values = {
        "name": name,
        "text": text,
        "models": ModelName.objects.order_by("name"),
    }
    shown = access.context(request, _("Custom model"), **values)
    return render(request, "admin/modelfile.html", shown)


@require_GET
@access.page("view_modelname")
def download(request: HttpRequest) -> HttpResponse:
    try:
        model = catalogue.require(request.GET.get("name", ""))
    except ChatsiteError as error:
        messages.error(request, str(error))
        return redirect("admin:modelfile")
    answer = HttpResponse(custom.as_modelfile(model), content_type="text/plain; charset=utf-8")
    file = f"Modelfile-{slugify(model.name) or 'model'}"
    answer["Content-Disposition"] = f'attachment; filename="{file}"'
    return answer
