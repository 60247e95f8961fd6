from sqlalchemy import func, select

from myapp.models import Note, Session


def test_a_note_is_stored_and_announced(testapp):
    page = testapp.post("/notes", {"text": "Buy milk"}).follow()
    assert page.json == {"notes": ["Buy milk"], "messages": ["Your note is stored."]}
    assert testapp.get("/notes").json == {"notes": ["Buy milk"], "messages": []}


def test_the_row_is_there_before_the_transaction_ends(testapp, dbsession):
    testapp.post("/notes", {"text": "Buy milk"})
    assert dbsession.scalar(select(func.count()).select_from(Note)) == 1
    assert dbsession.scalar(select(func.count()).select_from(Session)) == 1


def test_the_test_before_has_left_nothing(testapp):
    assert testapp.get("/notes").json == {"notes": [], "messages": []}
