from pyramid.view import view_config
from sqlalchemy import select

from .. import models


@view_config(route_name="home", renderer="myapp:templates/mytemplate.jinja2")
def my_view(request):
    named = select(models.MyModel).where(models.MyModel.name == "one")
    return {"one": request.dbsession.scalar(named), "project": "My App"}
