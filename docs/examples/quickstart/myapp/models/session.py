from pyramid_sqlsession import SessionMixin

from .meta import Base


class Session(SessionMixin, Base):
    pass
