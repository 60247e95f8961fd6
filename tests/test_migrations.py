"""Alembic makes the table and finds nothing more to do, and docs/migrations.rst is right."""

from __future__ import annotations

import configparser
import json
import re
import shutil
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from alembic.autogenerate import compare_metadata
from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from pyramid.config import Configurator
from pyramid.session import SignedCookieSessionFactory
from sqlalchemy import Engine, MetaData, create_engine, inspect, make_url
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import DeclarativeBase
from sqlalchemy.schema import CreateIndex, CreateTable
from support.apps import (
    Clock,
    add_views,
    configurator,
    own_configurator,
    put,
    rows,
    serve,
    show,
    statements,
)
from support.docs.pages import DOCS, EXAMPLES, named_blocks
from support.docs.programs import python
from support.servers import Backend, MariaDB, on_servers, serving
from webtest import TestApp

from pyramid_sqlsession import SessionMixin, SessionTableError
from pyramid_sqlsession.lifetime import Lifetime
from pyramid_sqlsession.settings.options import Settings
from pyramid_sqlsession.table.model import SQLSessionRow
from pyramid_sqlsession.table.rows import Rows
from pyramid_sqlsession.upkeep.purge import Purge

PAGE = DOCS / "migrations.rst"
QUICKSTART = EXAMPLES / "quickstart"

TABLE: Any = SQLSessionRow.__table__
DAY = 86400

PARTITIONS = {
    "postgresql": "partitions-postgresql",
    "mysql": "partitions-mariadb",
}

only_postgresql = pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
only_mysql = pytest.mark.parametrize("backend", ["mariadb", "mysql"], indirect=True)


# ---- the page


BLOCKS = named_blocks(PAGE)


def statements_of(name: str) -> list[str]:
    """The SQL statements of a block, each on one line."""
    return [flat(statement) for statement in BLOCKS[name].split(";\n") if statement]


def flat(text: str) -> str:
    return " ".join(text.split())


def ddl(dialect: str) -> list[str]:
    """The statements that make the table, as the page says that they differ."""
    table, *indexes = statements_of("ddl-postgresql")
    if dialect == "mysql":
        (table,) = statements_of("ddl-mariadb")
    if dialect == "sqlite":
        table = table.replace("BYTEA", "BLOB")
    return [table, *indexes]


def app(engine: Engine, **options: Any) -> TestApp:
    """An application on a table without extra columns, which it does not make."""
    config = configurator(
        engine, {"sqlsession.model": SQLSessionRow}, create=False, model=SQLSessionRow, **options
    )
    return serve(config, put=put, show=show, end=end)


def purge(clock: Clock) -> Purge:
    """What deletes the sessions that have expired."""
    return Purge(Rows(SQLSessionRow), Lifetime(Settings()), clock)


def end(request: Any) -> None:
    """A view that ends the session."""
    request.session.invalidate()


def execute(engine: Engine, *sql: str) -> list[Any]:
    """Run each statement in a transaction of its own; the rows of the last one."""
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        for statement in sql:
            result = connection.exec_driver_sql(statement)
        return list(result.all()) if result.returns_rows else []


def differences(engine: Engine, metadata: MetaData = TABLE.metadata, **options: Any) -> list[Any]:
    """What ``alembic check`` would report."""
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts=options)
        return list(compare_metadata(context, metadata))


# ---- a project with Alembic

ALEMBIC = """
import sys
from alembic.config import main
for command in sys.argv[1:]:
    main(["-c", "development.ini", *command.split()])
"""

VISIT = """
from pyramid.paster import get_app
from webtest import TestApp
browser = TestApp(get_app("development.ini"))
browser.post("/notes", {"text": "Buy milk"})
print(browser.get("/notes").text)
"""


class Project:
    """A copy of the quickstart's application, which is as the cookiecutter makes it."""

    def __init__(self, folder: Path, url: str) -> None:
        ignored = shutil.ignore_patterns("__pycache__", "*.sqlite")
        shutil.copytree(QUICKSTART, folder, ignore=ignored)
        self.folder = folder
        self.versions = folder / "myapp" / "alembic" / "versions"
        self.use(url)

    def use(self, url: str) -> None:
        """Work on another database."""
        self.edit("development.ini", r"^sqlalchemy\.url = .*$", f"sqlalchemy.url = {url}")

    def edit(self, name: str, pattern: str, text: str) -> None:
        """Replace the one match of a pattern in a file."""
        path = self.folder / name
        new, count = re.subn(pattern, lambda match: text, path.read_text(), flags=re.MULTILINE)
        assert count == 1
        path.write_text(new)

    def model(self, block: str) -> None:
        """Let the model be the one in a block."""
        path = self.folder / "myapp" / "models" / "session.py"
        imports = (
            "from sqlalchemy import String\nfrom sqlalchemy.orm import Mapped, mapped_column\n"
        )
        path.write_text(
            f"{imports}from pyramid_sqlsession import SessionMixin\nfrom .meta import Base\n{block}"
        )

    def alembic(self, *commands: str) -> str:
        """What Alembic prints when it is run with these commands, one after the other."""
        return python("-c", ALEMBIC, *commands, cwd=self.folder)

    def autogenerate(self, *commands: str) -> str:
        """A new migration. Other commands may follow."""
        before = set(self.versions.glob("*.py"))
        self.alembic("revision --autogenerate -m sessions", *commands)
        (migration,) = set(self.versions.glob("*.py")) - before
        return migration.read_text()

    def visit(self) -> Any:
        """What a visitor sees who has stored a note and a message in the session."""
        return json.loads(python("-c", VISIT, cwd=self.folder).splitlines()[-1])


@pytest.fixture
def project(backend: Backend, tmp_path: Path) -> Project:
    """A project on an empty database."""
    return Project(tmp_path / "project", backend.url)


@pytest.fixture
def project_on_sqlite(sqlite: Backend, tmp_path: Path) -> Project:
    """A project on an empty SQLite database."""
    return Project(tmp_path / "project", sqlite.url)


UPGRADE = ("upgrade head", "check")
STORED = {"notes": ["Buy milk"], "messages": ["Your note is stored."]}


def test_the_table_is_made_used_and_dropped_by_migrations(project: Project, engine: Engine) -> None:
    migration = project.autogenerate(*UPGRADE)
    assert migration.count("op.create_table('sqlsession'") == 1
    assert migration.count("op.create_index(") == 3
    assert len(inspect(engine).get_columns("sqlsession")) == 10
    assert project.visit() == STORED
    project.alembic("downgrade base")
    assert inspect(engine).get_table_names() == ["alembic_version"]


@on_servers
def test_a_migration_generated_on_sqlite_is_right_on_servers(
    project_on_sqlite: Project, backend: Backend
) -> None:
    project_on_sqlite.autogenerate()
    project_on_sqlite.use(backend.url)
    project_on_sqlite.alembic(*UPGRADE)
    assert project_on_sqlite.visit() == STORED


@pytest.mark.parametrize(
    ("convention", "primary_key", "index"),
    [
        (None, None, "ix_sqlsession_user_id"),
        (
            {"pk": "%(table_name)s_key", "ix": "idx_%(table_name)s_%(column_0_name)s"},
            "sqlsession_key",
            "idx_sqlsession_user_id",
        ),
    ],
    ids=["none", "own"],
)
def test_constraints_and_indexes_are_named_by_the_convention_of_the_metadata(
    project: Project,
    engine: Engine,
    convention: dict[str, str] | None,
    primary_key: str | None,
    index: str,
) -> None:
    meta = project.folder / "myapp" / "models" / "meta.py"
    meta.write_text(
        "from sqlalchemy import MetaData\n"
        "from sqlalchemy.orm import DeclarativeBase\n"
        "class Base(DeclarativeBase):\n"
        f"    metadata = MetaData(naming_convention={convention!r})\n"
    )
    project.autogenerate(*UPGRADE)
    found = inspect(engine)
    assert index in {each["name"] for each in found.get_indexes("sqlsession")}
    if primary_key and engine.dialect.name != "mysql":
        assert found.get_pk_constraint("sqlsession")["name"] == primary_key


needs_sqlalchemy_21 = pytest.mark.skipif(
    sqlalchemy.__version__ < "2.1", reason="the page says that it needs SQLAlchemy 2.1"
)


@needs_sqlalchemy_21
def test_a_fillfactor_is_part_of_the_migration_that_creates_the_table(
    project: Project, engine: Engine
) -> None:
    project.model(BLOCKS["fillfactor-model"])
    assert "postgresql_with={'fillfactor': 85}" in project.autogenerate(*UPGRADE)
    if engine.dialect.name == "postgresql":
        assert storage_parameters(engine) == ["fillfactor=85"]


def test_a_column_is_added_while_the_version_before_goes_on(
    project: Project, engine: Engine
) -> None:
    project.autogenerate("upgrade head")
    before = app(engine)
    before.get("/put")
    project.model(BLOCKS["extra-column"])
    migration = project.autogenerate(*UPGRADE)
    assert "op.add_column('sqlsession', sa.Column('note'" in migration
    assert migration.count("op.") == 2
    before.get("/put")
    assert before.get("/show").json == {"cart": [1, 1]}
    before.reset()
    before.get("/put")
    assert before.get("/show").json == {"cart": [1]}


def test_a_table_that_is_there_is_marked_as_migrated(
    project_on_sqlite: Project, backend: Backend, engine: Engine
) -> None:
    notes = "CREATE TABLE notes (id INTEGER NOT NULL PRIMARY KEY, text VARCHAR(200) NOT NULL)"
    assert "op.create_table('sqlsession'" in project_on_sqlite.autogenerate()
    project_on_sqlite.use(backend.url)
    execute(engine, notes, *ddl(backend.dialect))
    stamp = BLOCKS["stamp"].removeprefix("$ alembic -c development.ini ").strip()
    project_on_sqlite.alembic(stamp, *UPGRADE)


# ---- a table outside of the metadata


@pytest.fixture
def recipe() -> str:
    """The lines for env.py."""
    return textwrap.indent(BLOCKS["include-name"], "    ")


def test_alembic_would_drop_a_table_outside_of_the_metadata_but_for_the_recipe(
    project_on_sqlite: Project, recipe: str
) -> None:
    project = project_on_sqlite
    project.edit("myapp/models/__init__.py", r"^from \.session .*\n", "")
    project.edit("development.ini", r"^sqlsession\.model = .*$", "sqlsession.create_table = true")
    project.autogenerate("upgrade head")
    before = set(project.versions.glob("*.py"))
    assert project.visit() == STORED
    assert "op.drop_table('sqlsession')" in project.autogenerate()
    for migration in set(project.versions.glob("*.py")) - before:
        migration.unlink()
    project.edit("myapp/alembic/env.py", r"^    context\.configure\(.*\n", recipe)
    project.alembic("check")


def test_with_the_recipe_and_a_model_alembic_would_create_the_table_each_time(
    project_on_sqlite: Project, recipe: str
) -> None:
    project_on_sqlite.autogenerate("upgrade head")
    project_on_sqlite.edit("myapp/alembic/env.py", r"^    context\.configure\(.*\n", recipe)
    assert "op.create_table('sqlsession'" in project_on_sqlite.autogenerate()


# ---- a live application


def test_without_the_table_sessions_fail_and_with_it_they_work(engine: Engine) -> None:
    browser = serve(configurator(engine, create=False), put=put, show=show)
    with pytest.raises(SessionTableError):
        browser.get("/put")
    assert browser.get("/show").json == {}
    browser.set_cookie("session", "x" * 43)
    with pytest.raises(SessionTableError):
        browser.get("/show")
    serve(configurator(engine))
    browser.get("/put")
    assert browser.get("/show").json == {"cart": [1]}


@pytest.fixture
def database(sqlite: Backend) -> Iterator[Engine]:
    engine = create_engine(sqlite.url)
    yield engine
    engine.dispose()


def both_versions(engine: Engine, settings: dict[str, str]) -> tuple[TestApp, TestApp]:
    """An application with another session factory, its next version, and one visitor of both."""
    config = Configurator(session_factory=SignedCookieSessionFactory("secret"))
    old = TestApp(add_views(config, put=put, show=show).make_wsgi_app())
    new = serve(configurator(engine, settings), put=put, show=show)
    return old, TestApp(new.app, cookiejar=old.cookiejar)


def test_a_cookie_of_another_session_factory_is_ignored_without_a_query(database: Engine) -> None:
    old, new = both_versions(database, {})
    old.get("/put")
    with statements(database) as seen:
        assert new.get("/show").json == {}
    assert seen == []


def test_old_and_new_processes_replace_each_others_cookies(database: Engine) -> None:
    old, new = both_versions(database, {})
    old.get("/put")
    new.get("/put")
    assert old.get("/show").json == {}


def test_cookies_with_names_of_their_own_live_side_by_side(database: Engine) -> None:
    parser = configparser.ConfigParser()
    parser.read_string("[app:main]\n" + BLOCKS["cookie-name"])
    old, new = both_versions(database, dict(parser["app:main"]))
    old.get("/put")
    new.get("/put")
    assert (old.get("/show").json, new.get("/show").json) == ({"cart": [1]}, {"cart": [1]})


# ---- the table in SQL


def test_the_sql_on_the_page_is_what_sqlalchemy_emits(backend: Backend, engine: Engine) -> None:
    indexes = sorted(TABLE.indexes, key=lambda index: str(index.name))
    emitted: list[Any] = [CreateTable(TABLE), *map(CreateIndex, indexes)]
    dialects = [engine.dialect]
    if backend.name == "mariadb":
        dialects.append(make_url("mariadb+pymysql://").get_dialect()())
    for dialect in dialects:
        expected = [flat(str(element.compile(dialect=dialect))) for element in emitted]
        assert ddl(backend.dialect) == expected


def test_the_sql_on_the_page_makes_a_table_that_needs_no_migration(
    backend: Backend, engine: Engine
) -> None:
    execute(engine, *ddl(backend.dialect))
    assert differences(engine) == []
    own = own_configurator(backend.url, create_table="false")
    for browser in (app(engine), serve(own, put=put, show=show)):
        browser.get("/put")
        assert browser.get("/show").json == {"cart": [1]}


# ---- PostgreSQL

FILL_POSTGRESQL = """
    INSERT INTO sqlsession
    SELECT sha256(n::text::bytea), decode(md5(n::text), 'hex'), NULL,
        decode(repeat(md5(n::text), 31), 'hex'), 1, 0, 0, NULL, n, NULL
    FROM generate_series(1, {}) AS n
"""


def storage_parameters(engine: Engine) -> Any:
    ((options,),) = execute(
        engine, "SELECT reloptions FROM pg_class WHERE oid = 'sqlsession'::regclass"
    )
    return options


@pytest.fixture
def on_postgresql(postgresql: Backend) -> Iterator[Engine]:
    """PostgreSQL with the table."""
    engine = create_engine(postgresql.url)
    execute(engine, *ddl("postgresql"))
    yield engine
    engine.dispose()


def migrate(engine: Engine, direction: str) -> None:
    """Run the migration on the page; waiting for a lock is an error."""
    with engine.begin() as connection:
        connection.exec_driver_sql("SET LOCAL lock_timeout = '1s'")
        names: dict[str, Any] = {"op": Operations(MigrationContext.configure(connection))}
        exec(BLOCKS["fillfactor-migration"], names)  # noqa: S102  # an example of ours
        names[direction]()


def test_a_fillfactor_is_set_later_beside_readers_and_writers(on_postgresql: Engine) -> None:
    execute(on_postgresql, FILL_POSTGRESQL.format(10))
    with on_postgresql.connect() as writer:
        writer.exec_driver_sql("UPDATE sqlsession SET version = 2")
        migrate(on_postgresql, "upgrade")
        assert storage_parameters(on_postgresql) == ["fillfactor=85"]
        migrate(on_postgresql, "downgrade")
    assert storage_parameters(on_postgresql) is None


@needs_sqlalchemy_21
def test_alembic_does_not_compare_the_fillfactor(
    on_postgresql: Engine, base: type[DeclarativeBase]
) -> None:
    # an example of ours
    exec(BLOCKS["fillfactor-model"], {"SessionMixin": SessionMixin, "Base": base})  # noqa: S102
    assert differences(on_postgresql, base.metadata) == []
    migrate(on_postgresql, "upgrade")
    assert differences(on_postgresql, base.metadata) == differences(on_postgresql) == []


@pytest.mark.parametrize("fillfactor", [False, True])
def test_a_fillfactor_leaves_room_for_two_updates_on_a_page(
    on_postgresql: Engine, fillfactor: bool
) -> None:
    if fillfactor:
        migrate(on_postgresql, "upgrade")
    execute(on_postgresql, FILL_POSTGRESQL.format(300))
    with on_postgresql.connect() as connection:
        updated = connection.exec_driver_sql(
            # the first two rows of each page
            "UPDATE sqlsession SET last_seen = 1 WHERE (ctid::text::point)[1] <= 2"
        ).rowcount
        hot = connection.exec_driver_sql(
            "SELECT pg_stat_get_xact_tuples_hot_updated('sqlsession'::regclass)"
        ).scalar()
    assert updated > 40
    assert hot == (updated if fillfactor else 0)


def test_the_parameters_for_autovacuum_are_accepted(on_postgresql: Engine) -> None:
    execute(on_postgresql, *statements_of("autovacuum"))
    assert storage_parameters(on_postgresql) == [
        "autovacuum_vacuum_scale_factor=0.02", "autovacuum_vacuum_cost_limit=1000"
    ]  # fmt: skip
    assert differences(on_postgresql) == []
    defaults = execute(
        on_postgresql,
        "SELECT setting FROM pg_settings "
        "WHERE name IN ('autovacuum_vacuum_scale_factor', 'vacuum_cost_limit') ORDER BY name",
    )
    assert [float(setting) for (setting,) in defaults] == [0.2, 200]


def index_pages(engine: Engine) -> dict[str, int]:
    found = execute(
        engine,
        "SELECT indexrelid::regclass::text, pg_relation_size(indexrelid) / 8192 "
        "FROM pg_index WHERE indrelid = 'sqlsession'::regclass",
    )
    return {name: int(pages) for name, pages in found}


def test_indexes_are_built_anew_after_a_large_purge(on_postgresql: Engine) -> None:
    execute(on_postgresql, FILL_POSTGRESQL.format(10_000))
    filled = index_pages(on_postgresql)
    execute(on_postgresql, "DELETE FROM sqlsession WHERE purge_after <= 9000", "VACUUM sqlsession")
    assert index_pages(on_postgresql) == filled
    execute(on_postgresql, *statements_of("reindex"))
    assert index_pages(on_postgresql)["sqlsession_pkey"] < filled["sqlsession_pkey"] / 4


def test_indexes_cannot_be_built_anew_in_a_transaction(on_postgresql: Engine) -> None:
    (reindex,) = statements_of("reindex")
    with on_postgresql.begin() as connection:
        context = MigrationContext.configure(connection)
        with pytest.raises(DBAPIError, match="cannot run inside a transaction block"):
            connection.exec_driver_sql(reindex)
    with on_postgresql.connect() as connection:
        context = MigrationContext.configure(connection)
        with context.begin_transaction(), context.autocommit_block():
            Operations(context).execute(reindex)


# ---- MariaDB and MySQL

FILL_MYSQL = """
    INSERT INTO sqlsession
    SELECT UNHEX(SHA2(seq, 256)), LEFT(UNHEX(SHA2(seq, 224)), 16), NULL, REPEAT('x', 500),
        1, 0, 0, NULL, seq, NULL
    FROM JSON_TABLE(
        CONCAT('[', REPEAT('0,', {} - 1), '0]'), '$[*]' COLUMNS (seq FOR ORDINALITY)
    ) AS numbers
"""


@pytest.fixture(params=["mariadb", "mysql"])
def on_mysql(request: pytest.FixtureRequest) -> Iterator[Engine]:
    """MariaDB or MySQL with the table."""
    engine = create_engine(request.getfixturevalue(request.param).url)
    execute(engine, *ddl("mysql"))
    yield engine
    engine.dispose()


def test_the_size_of_the_table_is_found(on_mysql: Engine) -> None:
    ((empty,),) = execute(on_mysql, *statements_of("size"))
    execute(on_mysql, FILL_MYSQL.format(2000), "ANALYZE TABLE sqlsession")
    ((filled,),) = execute(on_mysql, *statements_of("size"))
    assert filled > empty + 2000 * 500


@pytest.mark.parametrize("read_committed", [True, False])
def test_a_new_session_waits_for_a_deletion_above_read_committed(
    on_mysql: Engine, read_committed: bool
) -> None:
    execute(on_mysql, FILL_MYSQL.format(10))
    choose, delete = statements_of("read-committed")
    with on_mysql.connect() as purging, on_mysql.connect() as visitor:
        if read_committed:
            purging.exec_driver_sql(choose)
        assert purging.exec_driver_sql(delete).rowcount == 10
        visitor.exec_driver_sql("SET innodb_lock_wait_timeout = 0")
        insert = FILL_MYSQL.replace("seq,", "seq + 4000000000,").format(1)
        if read_committed:
            assert visitor.exec_driver_sql(insert).rowcount == 1
        else:
            with pytest.raises(DBAPIError, match="1205"):
                visitor.exec_driver_sql(insert)
        purging.invalidate()
        visitor.invalidate()


class LoggingStatements(MariaDB):
    """A server whose binary log holds statements."""

    def command(self) -> tuple[str, ...]:
        return (*super().command(), "--log-bin=log", "--binlog-format=STATEMENT")


def test_a_log_of_statements_refuses_what_is_written_at_read_committed() -> None:
    with serving(LoggingStatements) as server, server.database() as url:
        own = serve(own_configurator(url), put=put)
        with pytest.raises(DBAPIError, match="BINLOG_FORMAT = STATEMENT"):
            own.get("/put")
        engine = create_engine(url)
        assert app(engine).get("/put").json == {}
        with pytest.raises(DBAPIError, match="BINLOG_FORMAT = STATEMENT"):
            list(purge(Clock(2**32)).batches(engine, 10))
        engine.dispose()


def is_mariadb(engine: Engine) -> bool:
    return bool(getattr(engine.dialect, "is_mariadb", False))


def file_size(engine: Engine) -> int:
    tablespaces = "innodb_sys_tablespaces" if is_mariadb(engine) else "innodb_tablespaces"
    ((size,),) = execute(
        engine,
        f"SELECT file_size FROM information_schema.{tablespaces} "
        "WHERE name = CONCAT(DATABASE(), '/sqlsession')",
    )
    return int(size)


@pytest.mark.parametrize("block", ["optimize", "rebuild"])
def test_the_table_is_built_anew_after_a_large_purge(on_mysql: Engine, block: str) -> None:
    execute(on_mysql, FILL_MYSQL.format(20_000))
    filled = file_size(on_mysql)
    execute(on_mysql, "DELETE FROM sqlsession WHERE purge_after <= 18000")
    assert file_size(on_mysql) == filled
    told = execute(on_mysql, *statements_of(block))
    assert file_size(on_mysql) < filled / 2
    assert ("recreate + analyze instead" in str(told)) == (block == "optimize")


# ---- partitions


@pytest.fixture
def partitioned(backend: Backend, engine: Engine) -> Engine:
    """A database with a partitioned table."""
    table, *indexes = ddl(backend.dialect)
    if backend.dialect == "postgresql":
        table += " PARTITION BY HASH (id)"
    execute(engine, table, *indexes, *statements_of(PARTITIONS[backend.dialect]))
    return engine


@on_servers
def test_sessions_live_and_end_in_a_partitioned_table(partitioned: Engine) -> None:
    clock = Clock()
    served = app(partitioned, clock=clock)
    visitors = [TestApp(served.app) for _ in range(12)]
    for visitor in visitors:
        visitor.get("/put")
        visitor.get("/put")
        clock.advance(600)
        assert visitor.get("/show").json == {"cart": [1, 1]}
    (*_, last) = sorted(rows(partitioned, TABLE), key=lambda row: int(row["last_seen"]))
    assert (last["last_seen"], last["version"]) == (clock.now, 2)
    for visitor in visitors[:6]:
        visitor.get("/end")
        assert visitor.get("/show").json == {}
    assert len(rows(partitioned, TABLE)) == 6
    clock.advance(30 * DAY)
    assert list(purge(clock).batches(partitioned, 4)) == [4, 2]
    assert rows(partitioned, TABLE) == []


@on_servers
@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM sqlsession",
        "UPDATE sqlsession SET version = 2",
        "DELETE FROM sqlsession",
    ],
)
def test_a_statement_by_id_looks_into_one_partition(partitioned: Engine, sql: str) -> None:
    if partitioned.dialect.name == "postgresql":
        plan = execute(partitioned, f"EXPLAIN {sql} WHERE id = '\\x00'")
        assert len(set(re.findall(r"on (sqlsession_\d)", str(plan)))) == 1
    else:
        execute(partitioned, FILL_MYSQL.format(10))
        explain = "EXPLAIN PARTITIONS" if is_mariadb(partitioned) else "EXPLAIN FORMAT=TRADITIONAL"
        plan = execute(partitioned, f"{explain} {sql} WHERE id = UNHEX(SHA2(1, 256))")
        assert [re.sub(r"\d", "", row[3]) for row in plan] == ["p"]


@on_servers
def test_there_are_no_partitions_by_time(engine: Engine) -> None:
    time = (
        "CREATE TABLE by_time (id BINARY(32) PRIMARY KEY, purge_after BIGINT) "
        "PARTITION BY RANGE (purge_after)"
    )
    if engine.dialect.name == "postgresql":
        time = time.replace("BINARY(32)", "BYTEA")
    else:
        time += " (PARTITION first VALUES LESS THAN (10))"
    with pytest.raises(DBAPIError, match=r"(?i)must include all (partitioning )?columns"):
        execute(engine, time)


@only_postgresql
def test_alembic_does_not_look_at_partitions_with_the_recipe(partitioned: Engine) -> None:
    names: dict[str, Any] = {}
    exec(BLOCKS["include-name-partitions"], names)  # noqa: S102  # an example of ours
    assert differences(partitioned, include_name=names["include_name"]) == []
    dropped = [found[1].name for found in differences(partitioned) if found[0] == "remove_table"]
    assert sorted(dropped) == [f"sqlsession_{n}" for n in range(2)]


@only_postgresql
def test_storage_parameters_belong_to_each_partition(partitioned: Engine) -> None:
    with pytest.raises(DBAPIError):
        execute(partitioned, "ALTER TABLE sqlsession SET (fillfactor = 85)")
    found = execute(
        partitioned, "SELECT reloptions FROM pg_class WHERE relkind = 'r' AND relispartition"
    )
    assert found == [(["fillfactor=85"],)] * 2
    execute(partitioned, "ANALYZE sqlsession", *statements_of("reindex"))


@only_mysql
def test_alembic_sees_no_difference_in_a_table_that_was_partitioned(partitioned: Engine) -> None:
    assert differences(partitioned) == []


@only_mysql
def test_a_prime_number_of_partitions_is_filled_evenly(partitioned: Engine) -> None:
    execute(partitioned, FILL_MYSQL.format(14_000))
    assert max(partition_rows(partitioned, 7)) < 1.2 * min(partition_rows(partitioned, 7))
    execute(partitioned, "ALTER TABLE sqlsession PARTITION BY KEY (id) PARTITIONS 8")
    assert max(partition_rows(partitioned, 8)) > 2.5 * min(partition_rows(partitioned, 8))


def partition_rows(engine: Engine, partitions: int) -> list[int]:
    counts = (
        execute(engine, f"SELECT COUNT(*) FROM sqlsession PARTITION (p{n})")
        for n in range(partitions)
    )
    return [count for ((count,),) in counts]


@only_mysql
def test_partitioning_makes_writers_wait_but_on_newer_mariadbs(engine: Engine) -> None:
    execute(engine, *ddl("mysql"))
    (partition,) = statements_of("partitions-mariadb")
    without_waiting = partition.replace("sqlsession", "sqlsession LOCK=NONE")
    if is_mariadb(engine) and (engine.dialect.server_version_info or ()) >= (11, 2):
        execute(engine, without_waiting)
    else:
        with pytest.raises(DBAPIError, match="is not supported"):
            execute(engine, without_waiting)


@only_mysql
def test_a_partitioned_table_has_no_foreign_keys(partitioned: Engine) -> None:
    execute(partitioned, "CREATE TABLE users (id INTEGER PRIMARY KEY)")
    foreign_key = "ALTER TABLE sqlsession ADD FOREIGN KEY (version) REFERENCES users (id)"
    with pytest.raises(DBAPIError, match="1506"):
        execute(partitioned, foreign_key)


@only_mysql
def test_one_partition_is_built_anew(partitioned: Engine) -> None:
    execute(partitioned, FILL_MYSQL.format(100))
    ((*_, status),) = execute(partitioned, *statements_of("rebuild-partition"))
    assert status == "OK"
    assert len(rows(partitioned, TABLE)) == 100
    told = execute(partitioned, "ALTER TABLE sqlsession OPTIMIZE PARTITION p0")
    assert "All partitions will be rebuilt and analyzed" in str(told)
