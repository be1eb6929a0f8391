"""The store's SQL reads five views, and a filter is one expression: nothing else gets through."""

import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
from tests.store.fakes import fake_rows

import phenoembed_store
from phenoembed_store import Store
from phenoembed_store.errors import QueryError
from phenoembed_store.sql import locked, query_errors, read_rows, time_limit

ENDLESS = "SELECT sum(a.range * b.range) FROM range(1000000) a, range(1000000) b"


def test_the_views_are_there_before_anything_was_written(tmp_path: Path) -> None:
    empty = phenoembed_store.open(tmp_path / "s", create=True)
    for view, column in [
        ("images", "group_id"),
        ("groups", "embedding"),
        ("annotations", "compound"),
        ("predictions", "p_label"),
        ("rejected", "reason"),
    ]:
        assert empty.sql(f"SELECT count({column}) FROM {view}").fetchall() == [(0,)]


def test_views_hold_what_was_written(store: Store) -> None:
    assert store.sql("SELECT count(*), count(embedding), count(group_id) FROM images").fetchall() == [(72, 72, 72)]
    assert store.sql("SELECT sum(n_images) FROM groups").fetchall() == [(72,)]
    assert store.sql("SELECT DISTINCT len(embedding) FROM images").fetchall() == [(8,)]


def test_results_come_as_arrow_pandas_and_polars(shared_store: Store) -> None:
    query = "SELECT compound, time_h, embedding FROM images ORDER BY ALL"
    arrow = shared_store.sql(query).to_arrow_table()
    pandas, polars = shared_store.sql(query).df(), shared_store.sql(query).pl()
    assert shared_store.sql(query).arrow().read_all() == arrow
    assert polars.rows() == [tuple(row.values()) for row in arrow.to_pylist()]
    assert pandas["compound"].tolist() == arrow.column("compound").to_pylist()
    assert np.array_equal(np.stack(pandas["embedding"]), np.array(arrow.column("embedding").to_pylist()))


def test_a_view_named_in_pieces_is_there_too(shared_store: Store) -> None:
    assert shared_store.sql("SELECT count(*) FROM query_table('im' || 'ages')").fetchall() == [(72,)]
    assert shared_store.sql("SELECT count(*) FROM IMAGES JOIN Groups USING (group_id)").fetchall() == [(72,)]


def test_two_encoders_of_different_dimensions_share_the_view(store: Store) -> None:
    store.write_images(fake_rows(encoder="enc1", dim=5, seed=1))
    found = store.sql("SELECT encoder, any_value(len(embedding)) FROM images GROUP BY 1 ORDER BY 1").fetchall()
    assert found == [("enc0", 8), ("enc1", 5)]


ATTACKS = [
    "COPY images TO '{secret}.copy'",
    "COPY (SELECT 1) TO '{secret}'",
    "ATTACH '{secret}' AS other",
    "CREATE TABLE t AS SELECT 1",
    "CREATE VIEW v AS SELECT 1",
    "INSERT INTO images SELECT * FROM images",
    "DELETE FROM images",
    "DROP VIEW images",
    "PRAGMA database_list",
    "SET enable_external_access = true",
    "RESET lock_configuration",
    "INSTALL httpfs",
    "LOAD httpfs",
    "EXPORT DATABASE '{secret}'",
    "CALL pragma_version()",
    "EXPLAIN ANALYZE SELECT 1",
    "CHECKPOINT",
    "VACUUM",
    "BEGIN",
    "SELECT 1; SELECT 2",
    "SELECT * FROM read_csv('{secret}')",
    "SELECT * FROM read_text('{secret}')",
    "SELECT * FROM read_blob('{secret}')",
    "SELECT * FROM read_parquet('{secret}')",
    "SELECT * FROM read_json('{secret}')",
    "SELECT * FROM '{secret}'",
    "SELECT * FROM glob('/*')",
    "SELECT * FROM parquet_metadata('{secret}')",
    "SELECT * FROM sniff_csv('{secret}')",
    "SELECT * FROM read_csv('https://example.org/x.csv')",
    "SELECT * FROM query('COPY images TO ''{secret}''')",
    "SELECT getenv('HOME')",
    "SELECT * FROM secret_variable",
    "SELECT * FROM read_duckdb('{secret}')",
    "SELECT * FROM query_table('{secret}')",
    "SELECT * FROM json_execute_serialized_sql(json_serialize_sql('SELECT * FROM read_text(''{secret}'')'))",
    "WITH x AS MATERIALIZED (SELECT * FROM read_text('{secret}')) SELECT * FROM x",
    "WITH x AS (DELETE FROM images RETURNING *) SELECT * FROM x",
    "SELECT * FROM enable_logging(storage='file', storage_path='{secret}')",
    "SELECT * FROM enable_profiling(save_location='{secret}', format='json')",
    "SELECT * FROM duckdb_secrets()",
    "SELECT * FROM arrow_scan(1, 2, 3)",
    "EXECUTE parse('SELECT 1')",
    "",
    "   ",
    "nonsense",
]


@pytest.mark.parametrize("attack", ATTACKS)
def test_sql_can_read_the_views_and_reach_nothing_else(shared_store: Store, tmp_path: Path, attack: str) -> None:
    secret_variable = tmp_path / "secret.csv"
    secret_variable.write_text("a\nhidden\n")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(QueryError) as caught, query_errors():  # some functions open their file only when read
        shared_store.sql(attack.format(secret=secret_variable)).fetchall()
    assert "\n" not in str(caught.value)
    assert sorted(tmp_path.rglob("*")) == before
    assert secret_variable.read_text() == "a\nhidden\n"


def test_the_folder_that_duckdb_spills_to_is_out_of_reach(shared_store: Store) -> None:
    """DuckDB allows SQL to read its temporary folder, ``.tmp`` where the process was started, even when locked."""
    (folder,) = shared_store.sql("SELECT current_setting('temp_directory')").fetchall()[0]
    assert folder == ""
    assert shared_store.sql("SELECT current_setting('allowed_directories')").fetchall() == [([],)]


ESCAPES = [
    "true) OR (true",
    "1 = 1) UNION SELECT 1 --",
    "true UNION SELECT 1",
    "true; DROP VIEW images",
    "true GROUP BY plate",
    "true ORDER BY plate",
    "true LIMIT 1",
    "true QUALIFY true",
    "true HAVING true",
    "true WINDOW w AS ()",
    "true USING SAMPLE 1",
    "",
    " -- nothing",
    "/*",
    "SELECT 1",
    "count(*) > 1",
    "compound IN (SELECT * FROM read_csv('/etc/passwd'))",
    "(SELECT count(*) FROM glob('/*')) > 0",
    "nonsense",
    "compound = ",
    "compound = 'unclosed",
]


@pytest.mark.parametrize("where", ESCAPES)
def test_a_filter_is_one_expression(shared_store: Store, where: str) -> None:
    with pytest.raises(QueryError) as caught:
        shared_store.vectors(where)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("where", ["NOT " * 900 + "true", "abs(" * 900 + "field" + ")" * 900 + " > 0", "(" * 3000])
def test_a_filter_that_is_nested_too_deep_is_a_short_line(shared_store: Store, where: str) -> None:
    with pytest.raises(QueryError, match=r"the filter '.{200} \.\.\.'") as raised:
        shared_store.vectors(where)
    assert len(str(raised.value)) < 500


@pytest.mark.parametrize(
    "where",
    [
        "compound = 'it''s' OR concentration_um BETWEEN 1 AND 5",
        "concentration_um >= 5 -- the high doses",
        "compound IN (SELECT compound FROM images WHERE moa = 'tubulin')",
        "regexp_matches(well, '^A0[1-6]$') AND NOT (role = 'control')",
        "moa IS NULL",
        "group_id LIKE '%taxol%' AND configuration = 0",
    ],
)
def test_any_expression_is_a_filter(store: Store, where: str) -> None:
    expected = store.sql(f"SELECT count(*) FROM images WHERE ({where}\n)").fetchall()[0][0]
    assert len(store.vectors(where)[0]) == expected


def test_rows_are_read_by_pieces_as_all_at_once(store: Store) -> None:
    """An error among later rows is the line that it is among the first."""
    query = "SELECT range AS n, n % 7 AS m FROM range(200000) ORDER BY m, n"
    assert read_rows(store.sql(query)).equals(store.sql(query).to_arrow_table())
    assert read_rows(store.sql("SELECT compound FROM images WHERE false")).schema.names == ["compound"]
    with pytest.raises(QueryError, match=r"^Could not convert string 'a' to INT32$"):
        read_rows(store.sql("SELECT CASE WHEN range > 150000 THEN CAST('a' AS INT) ELSE 1 END FROM range(200000)"))


def test_ctrl_c_stops_a_large_result() -> None:
    """In a process of its own, as a person has it: within the suite's a signal may end up in others' callbacks. Not
    stopped, the result would come to an end after a gigabyte, and the process with another line."""
    script = """
import os, signal, threading
from phenoembed_store.sql import locked, read_rows, select
relation = select(locked({}), "SELECT md5(range::VARCHAR) FROM range(25_000_000)")
threading.Timer(0.3, os.kill, [os.getpid(), signal.SIGINT]).start()
try:
    read_rows(relation)
except KeyboardInterrupt:
    print("stopped")
else:
    print("read to the end")
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert (done.stdout, done.stderr) == ("stopped\n", "")


def test_an_error_names_the_columns_that_were_meant(store: Store) -> None:
    with pytest.raises(QueryError, match=r'"concentration" not found.*"concentration_um"'):
        store.sql("SELECT concentration FROM images")
    with pytest.raises(QueryError, match="only SELECT is allowed here, not DROP"):
        store.sql("DROP VIEW images")


def test_slips_are_answered_with_what_was_meant(shared_store: Store) -> None:
    with pytest.raises(QueryError, match="no view 'wells'; there are images, groups, annotations, predictions, reject"):
        shared_store.sql("SELECT * FROM wells")
    with pytest.raises(QueryError, match="a text is written in single quotes: 'treated'"):
        shared_store.vectors("role = treated")


@pytest.mark.parametrize("others", [(), (60.0,), (0.1, 60.0)])
def test_each_query_has_a_limit_of_its_own(others: tuple[float, ...]) -> None:
    """It is stopped at its own, whatever others there are; a limit that is over stops nothing that comes next."""
    connection = locked({})
    with ExitStack() as stack:
        for seconds in others:
            stack.enter_context(time_limit(locked({}), "another", seconds))
        stopped = pytest.raises(QueryError, match=r"^the sum was stopped after 0\.2 s$")
        with stopped, time_limit(connection, "the sum", 0.2), query_errors():
            connection.execute(ENDLESS)
    with time_limit(connection, "the sum", 0.2):
        pass
    start = time.monotonic()
    while time.monotonic() < start + 0.4:
        assert connection.execute("SELECT sum(range) FROM range(100000)").fetchall() == [(4999950000,)]
