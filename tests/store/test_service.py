"""The service: the command line's answers over HTTP, its refusals, and many callers at once."""

import json
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import numpy as np
import pyarrow as pa
import pytest
import uvicorn
from tests.store.fakes import fake_rows

import phenoembed_store
from phenoembed_store import Store, filters, service
from phenoembed_store.documents import search_document
from phenoembed_store.errors import ImageError, StoreError

Answer = tuple[int, Any]


class Client:
    """Asks the service at a port, a connection a request."""

    def __init__(self, port: int) -> None:
        self.port = port

    def get(self, path: str, **asked: Any) -> Answer:
        return self._ask("GET", f"{path}?{urlencode(asked, doseq=True)}", None)

    def post(self, path: str, **asked: Any) -> Answer:
        return self._ask("POST", path, json.dumps(asked).encode(), "application/json")

    def send(self, path: str, body: bytes) -> Answer:
        return self._ask("POST", path, body, "application/octet-stream")

    def _ask(self, method: str, path: str, body: bytes | None, kind: str = "") -> Answer:
        with closing(HTTPConnection("127.0.0.1", self.port, timeout=60)) as connection:
            connection.request(method, path, body, {"Content-Type": kind} if kind else {})
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())


def embed(path: Path, encoder: str) -> np.ndarray:
    """Stands for an encoder, which the store knows nothing of: the file's first eight bytes."""
    content = path.read_bytes()
    if len(content) < 8:
        raise ImageError(f"{path}: truncated")
    return np.frombuffer(content[:8], np.uint8).astype(np.float32)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Store, Client]]:
    """A store of 72 images and a client of its service, which runs in a thread."""
    store = phenoembed_store.open(tmp_path_factory.mktemp("served") / "store", create=True)
    store.write_images(fake_rows())
    with socket.create_server(("127.0.0.1", 0)) as taken:
        server = uvicorn.Server(uvicorn.Config(service.create_app(store, embed), log_level="warning"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [taken]})
        thread.start()
        while not server.started:
            time.sleep(0.01)
        yield store, Client(taken.getsockname()[1])
        server.should_exit = True
        thread.join()


def same(document: Any) -> Any:
    """As JSON brings it over."""
    return json.loads(json.dumps(document))


def test_the_root_says_what_the_store_holds(served: tuple[Store, Client]) -> None:
    store, client = served
    assert client.get("/") == (200, same(store.status()))


def test_a_named_search_answers_as_the_command_line_does(served: tuple[Store, Client]) -> None:
    """The document of `phenoembed search --json`, by GET and by POST."""
    store, client = served
    hits = store.search(compound="taxol", k=3, where="concentration_um > 1", not_same=["well", "field"])
    expected = (200, same(search_document(hits)))
    asked = {"compound": "taxol", "k": 3, "where": "concentration_um > 1", "not_same": ["well", "field"]}
    assert client.get("/search", **asked) == expected
    assert client.post("/search", **asked) == expected


def test_a_vector_finds_its_image(served: tuple[Store, Client]) -> None:
    store, client = served
    rows, vectors = store.vectors()
    _, found = client.post("/search", vector=vectors[5].tolist(), level="image", k=1)
    assert found["hits"][0]["path"] == rows.column("path")[5].as_py()


def test_an_image_is_encoded_and_searched(served: tuple[Store, Client]) -> None:
    """Its file is the body; options stand in the address."""
    store, client = served
    body = bytes(range(1, 9))
    hits = store.search(vector=np.frombuffer(body, np.uint8).astype(np.float32), k=2)
    assert client.send("/search/image?k=2", body) == (200, same(search_document(hits)))


def test_an_image_is_compared_with_the_embeddings_of_the_encoder_that_embedded_it(
    served: tuple[Store, Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another encoder that becomes the default while the image is encoded changes nothing."""
    store, client = served
    mine = store.resolve_encoder(None)
    answers = iter([mine])  # then: no such encoder
    monkeypatch.setattr(store._reader, "default_encoder", lambda: next(answers))
    monkeypatch.setattr(store._reader, "_default_at", lambda _version: "newer")
    status, found = client.send("/search/image?k=2", bytes(range(1, 9)))
    assert (status, found["query"]["encoder"]) == (200, mine)


def test_sql_says_whether_more_rows_were_left(served: tuple[Store, Client]) -> None:
    _, client = served
    status, found = client.post("/query", sql="SELECT compound, count(*) FROM images GROUP BY 1 ORDER BY 1", limit=2)
    assert (status, found) == (
        200,
        {"columns": ["compound", "count_star()"], "rows": [["DMSO", 12], ["aspirin", 12]], "complete": False},
    )
    assert client.post("/query", sql="SELECT 1 AS a, 2 AS a")[1]["rows"] == [[1, 2]]
    assert client.post("/query", sql="SELECT sum(field), 0.5, 'a'::BLOB FROM images")[1]["rows"] == [[108, 0.5, "YQ=="]]
    assert client.post("/query", sql="SELECT 'nan'::FLOAT AS a")[1]["rows"] == [[None]]


@pytest.mark.parametrize(
    ("method", "path", "asked", "status", "message"),
    [
        ("get", "/search", {"compound": "taxoll"}, 404, "did you mean 'taxol'"),
        ("get", "/search", {}, 400, "one of compound, well, group or vector"),
        ("get", "/search", {"compound": "taxol", "colour": "red"}, 422, "colour: Extra inputs are not permitted"),
        ("get", "/search", {"compound": "taxol", "k": 0}, 422, "k: Input should be greater than or equal to 1"),
        ("get", "/search", {"compound": "taxol", "by": "image"}, 422, "by: Extra inputs are not permitted; here it is"),
        ("get", "/search", {"compound": ["taxol", "aspirin"]}, 422, "compound: given more than once"),
        ("get", "/nowhere", {}, 404, "nothing is at '/nowhere'; /openapi.json lists"),
        ("get", "/query", {}, 405, "'/query' does not take GET"),
        ("post", "/search", {"compound": "taxol", "by": "image"}, 422, "here it is called level"),
        ("post", "/search", {"vector": [1, 2]}, 400, "the embeddings have 8 numbers"),
        ("post", "/search", {"compound": "taxol", "where": "true; DROP"}, 400, "the filter 'true; DROP'"),
        ("post", "/posterior", {"head": "moa"}, 404, "moa"),
        ("post", "/query", {"sql": "SELECT * FROM read_csv('/etc/passwd')"}, 400, "out of reach"),
        ("post", "/query", {"sql": "DROP VIEW images"}, 400, "only SELECT"),
    ],
)
def test_a_refusal_is_one_line(
    served: tuple[Store, Client], method: str, path: str, asked: dict[str, Any], status: int, message: str
) -> None:
    """404 for what is not there, 422 for a request of another form, 400 for the rest."""
    found, document = getattr(served[1], method)(path, **asked)
    assert (found, list(document)) == (status, ["error"])
    assert message in document["error"]
    assert "\n" not in document["error"]


@pytest.mark.parametrize(
    ("path", "kind", "body", "status", "message"),
    [
        ("/query", "application/json", b"{", 422, "the body is no JSON (Expecting property name enclosed"),
        ("/query", "application/json", b"", 422, "the body is empty"),
        ("/query", "application/json", b"[" * 100_000, 400, "the body is no JSON that can be read"),
        ("/query", "application/json", b"\xff\xfe{", 400, "the body is no JSON that can be read"),
        ("/query", "application/json", b"[1]", 422, "the body is no JSON object"),
        ("/query", "text/plain", b'{"sql": "SELECT 1"}', 422, "send application/json"),
        ("/search/image", "application/octet-stream", b"", 422, "the image is empty"),
        ("/search/image?k=1&k=2", "application/octet-stream", b"12345678", 422, "k: given more than once"),
    ],
)
def test_a_body_of_another_form_is_refused_in_the_same_shape(
    served: tuple[Store, Client], path: str, kind: str, body: bytes, status: int, message: str
) -> None:
    """Each says what is wrong with it; none is FastAPI's own ``detail``."""
    found, document = served[1]._ask("POST", path, body, kind)
    assert (found, list(document)) == (status, ["error"])
    assert message in document["error"]


def test_the_description_tells_documents_and_refusals_as_they_come(served: tuple[Store, Client]) -> None:
    """Of what is found it says no type that it has not; a refusal is ``{"error": text}`` everywhere."""
    status, described = served[1].get("/openapi.json")
    assert status == 200
    for operations in described["paths"].values():
        for operation in operations.values():
            told = {status: answer["content"]["application/json"] for status, answer in operation["responses"].items()}
            assert "type" not in told.pop("200")["schema"]
            assert {one["schema"]["$ref"] for one in told.values()} == {"#/components/schemas/Refused"}
            assert set(told) == {"400", "404", "422", "500"}
    assert described["components"]["schemas"]["Refused"]["required"] == ["error"]


def test_a_fault_of_ours_has_that_shape_too(served: tuple[Store, Client], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(served[0], "status", lambda: 1 / 0)
    assert served[1].get("/") == (500, {"error": "the service failed; what it printed says why"})


def test_a_bad_image_is_refused_without_our_file_s_name(served: tuple[Store, Client]) -> None:
    assert served[1].send("/search/image", b"abc") == (400, {"error": "the image: truncated"})


def test_a_query_that_takes_too_long_is_stopped(served: tuple[Store, Client], monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends, says why, and the service answers on."""
    _, client = served
    monkeypatch.setattr(service, "QUERY_SECONDS", 0.3)
    status, found = client.post("/query", sql="SELECT sum(a.range * b.range) FROM range(1000000) a, range(1000000) b")
    assert (status, found) == (400, {"error": "the query was stopped after 0.3 s"})
    assert client.get("/")[0] == 200


def test_a_filter_that_takes_too_long_is_stopped(served: tuple[Store, Client], monkeypatch: pytest.MonkeyPatch) -> None:
    """Who filters the same images waits for it, and must not wait for ever."""
    _, client = served
    monkeypatch.setattr(filters, "FILTER_SECONDS", 0.3)
    endless = "(SELECT sum(a.range * b.range) FROM range(1000000) a, range(1000000) b) > 0"
    found = client.post("/search", compound="nocodazole", where=endless)
    assert found == (400, {"error": "the filter was stopped after 0.3 s"})
    assert client.post("/search", compound="nocodazole", where="role = 'treated'")[0] == 200


def test_many_callers_get_what_one_gets(served: tuple[Store, Client]) -> None:
    """Sixteen at once, of every kind, with a caller among them whose requests fail."""
    _, client = served
    kinds = [
        lambda: client.get("/search", compound="taxol", k=3),
        lambda: client.get("/search", compound="aspirin", where="concentration_um > 1", level="group"),
        lambda: client.post("/query", sql="SELECT count(*) FROM images"),
        lambda: client.post("/search", vector=[1.0] * 8, level="image"),
        lambda: client.get("/search", compound="nothing"),
    ]
    alone = [ask() for ask in kinds]
    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda i: kinds[i % len(kinds)](), range(200)))
    assert found == [alone[i % len(kinds)] for i in range(200)]


def test_the_service_sees_what_was_written_since(tmp_path: Path) -> None:
    """Many callers while images come: every answer is of one version, the last of the newest."""
    store = phenoembed_store.open(tmp_path / "store", create=True)
    store.write_images(fake_rows(["DMSO", "taxol"]))
    app = service.create_app(store)
    ask = next(route.endpoint for route in app.routes if getattr(route, "path", "") == "/query")
    counting = service.Sql(sql="SELECT count(*) FROM images")

    def write() -> None:
        for number in range(4):
            rows = fake_rows([f"late {number}"])
            screen = pa.array([f"screen {number}"] * len(rows))
            rows = rows.set_column(rows.column_names.index("screen"), "screen", screen)
            phenoembed_store.open(store.path).write_images(rows)

    writer = threading.Thread(target=write)
    writer.start()
    with ThreadPoolExecutor(8) as pool:
        counts = {row["rows"][0][0] for row in pool.map(lambda _: ask(counting), range(60))}
    writer.join()
    assert counts <= {24, 36, 48, 60, 72}
    assert ask(counting)["rows"] == [[72]]


def test_a_taken_port_is_named(tmp_path: Path, store: Store) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(StoreError, match=rf"cannot listen at 127\.0\.0\.1:{port} .*--port"):
            service.run(store, "127.0.0.1", port)
