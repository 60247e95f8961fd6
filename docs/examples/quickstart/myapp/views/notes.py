from pyramid.httpexceptions import HTTPSeeOther
from pyramid.view import view_config
from sqlalchemy import select

from ..models import Note


@view_config(route_name="notes", request_method="GET", renderer="json")
def show(request):
    notes = request.dbsession.scalars(select(Note.text).order_by(Note.id)).all()
    return {"notes": list(notes), "messages": request.session.pop_flash()}


@view_config(route_name="notes", request_method="POST")
def add(request):
    request.dbsession.add(Note(text=request.POST["text"]))
    request.session.flash("Your note is stored.")
    return HTTPSeeOther(request.route_path("notes"))
