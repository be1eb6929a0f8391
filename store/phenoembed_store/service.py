"""The store over HTTP: what the command line answers, as JSON. FastAPI stands here alone, over public calls.

A request only reads. Errors are one line, ``{"error": "..."}``: 404 for what the store does not hold or the service has
no address for, 405 for another method, 422 for a request that does not fit its form, 400 for the rest that a caller can
mend, 500 for a fault of ours.
"""

import json
import socket
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import uvicorn
from fastapi import Body, Depends, FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from phenoembed_store.aggregate import Floats
from phenoembed_store.documents import plain, posterior_document, search_document
from phenoembed_store.errors import ImageError, NotInStore, PhenoembedError, StoreError, one_line
from phenoembed_store.sql import query_errors, select, time_limit
from phenoembed_store.store import Store

MAX_HITS = 10_000
MAX_ROWS = 100_000
MAX_IMAGE_BYTES = 256 * 2**20
REPEATABLE = ("not_same",)
"""Parameters of an address that may be given several times."""
QUERY_SECONDS = 30.0
"""A query of SQL that takes longer is stopped, so that nobody's cross join keeps the others waiting."""

Embed = Callable[[Path, str], Floats]
"""An image file and an encoder's id -> its embedding, (dim,)."""


class _Asked(BaseModel):
    model_config = ConfigDict(extra="forbid")  # a misspelt name must not be passed over


class Candidates(_Asked):
    """What a search compares with: the options of `phenoembed search` by the same names."""

    level: Literal["image", "group", "treatment", "compound"] = "compound"
    k: Annotated[int, Field(ge=1, le=MAX_HITS)] = 10
    where: str | None = None
    not_same: tuple[str, ...] = ()
    include_self: bool = False
    encoder: str | None = None
    exact: bool = False


class Named(Candidates):
    """A search by something the store holds: exactly one of compound, well and group."""

    compound: str | None = None
    concentration_um: float | None = None
    well: str | None = None
    group: str | None = None


class Search(Named):
    """A search by name or by a vector of the embeddings' length."""

    vector: tuple[float, ...] | None = None


class Posterior(_Asked):
    """Images that pass ``where`` are one group, or one for each value of ``by``."""

    head: str
    where: str | None = None
    by: tuple[str, ...] = ()
    top: Annotated[int, Field(ge=1)] = 10


class Refused(BaseModel):
    """What is wrong, on one line."""

    error: str


class Sql(_Asked):
    """One SELECT over images, groups, annotations, predictions and rejected."""

    sql: str
    limit: Annotated[int, Field(ge=1, le=MAX_ROWS)] = 1000


def create_app(store: Store, embed: Embed | None = None) -> FastAPI:
    """The service of one store. ``embed`` makes searches by an image possible; without it they are refused."""
    # the pages that would show the interface load scripts from elsewhere: a laboratory's network may have no elsewhere
    app = FastAPI(
        title="phenoembed",
        version=version("phenoembed"),
        docs_url=None,
        redoc_url=None,
        default_response_class=_Json,
        dependencies=[Depends(_refuse_repeated)],
        responses={status: {"model": Refused} for status in (400, 404, 422, 500)},
    )
    app.add_exception_handler(PhenoembedError, _refuse)
    app.add_exception_handler(RequestValidationError, _refuse_form)
    app.add_exception_handler(HTTPException, _refuse_address)
    app.add_exception_handler(Exception, _fail)

    @app.get("/")
    def status() -> Any:
        """What the store holds."""
        return store.status()

    @app.get("/search")
    def search_named(asked: Annotated[Named, Query()]) -> Any:
        """The nearest neighbours of a compound, a well or a group."""
        return search_document(store.search(**asked.model_dump()))

    @app.post("/search")
    def search(asked: Search) -> Any:
        """The nearest neighbours of a compound, a well, a group or a vector."""
        return search_document(store.search(**asked.model_dump()))

    @app.post("/search/image")
    def search_image(
        asked: Annotated[Candidates, Query()], image: Annotated[bytes, Body(media_type="application/octet-stream")]
    ) -> Any:
        """The nearest neighbours of an image: its file is the body of the request."""
        if embed is None:
            raise ImageError("this service encodes no images: it was started without an encoder")
        encoder = store.resolve_encoder(asked.encoder)  # once: another may be trained while this one encodes
        vector = _encode(embed, image, encoder)
        return search_document(store.search(vector=vector, **{**asked.model_dump(), "encoder": encoder}))

    @app.post("/posterior")
    def posterior(asked: Posterior) -> Any:
        """Class probabilities of any group of images, from stored embeddings."""
        return posterior_document(store.posterior(asked.head, asked.where, asked.by), asked.top)

    @app.post("/query")
    def query(asked: Sql) -> Any:
        """Rows of a SELECT, as lists in the order of ``columns``."""
        return _select(store, asked)

    return app


def run(store: Store, host: str, port: int, embed: Embed | None = None) -> None:
    """Serve until Ctrl-C. Raises StoreError where the address cannot be had."""
    try:
        taken = socket.create_server((host, port), backlog=512)
    except OSError as error:
        raise StoreError(f"cannot listen at {host}:{port} ({error.strerror}); choose with --host and --port") from error
    with taken:
        server = uvicorn.Server(uvicorn.Config(create_app(store, embed), log_level="warning"))
        server.run(sockets=[taken])


class _Json(JSONResponse):
    def render(self, content: Any) -> bytes:
        return json.dumps(plain(content), ensure_ascii=False, allow_nan=False, default=str).encode()


def _refuse(_request: Request, error: Exception) -> Response:
    return _Json({"error": str(error)}, status_code=404 if isinstance(error, NotInStore) else 400)


def _refuse_repeated(request: Request) -> None:
    """Of a parameter that is given twice FastAPI would take the last."""
    names = [name for name, _ in request.query_params.multi_items() if name not in REPEATABLE]
    twice = [name for name, times in Counter(names).items() if times > 1]
    if twice:
        raise RequestValidationError([{"type": "repeated", "loc": ("query", twice[0]), "msg": "given more than once"}])


def _refuse_form(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    body = "the image" if request.url.path.endswith("/image") else "the body"
    return _Json({"error": "; ".join(_fault(fault, body) for fault in error.errors())}, status_code=422)


def _fault(fault: Mapping[str, Any], body: str) -> str:
    kind, place = fault["type"], tuple(fault["loc"])
    if kind == "json_invalid":
        return f"{body} is no JSON ({fault['ctx']['error']} at character {place[-1]})"
    if place == ("body",):
        return f"{body} is empty" if kind == "missing" else f"{body} is no JSON object; send application/json"
    if kind == "extra_forbidden" and place[-1] == "by":
        return "by: Extra inputs are not permitted; here it is called level"
    return f"{'.'.join(str(part) for part in place[1:])}: {fault['msg']}"


def _refuse_address(request: Request, error: Exception) -> Response:
    """What Starlette and FastAPI refuse before any of our functions is asked."""
    assert isinstance(error, HTTPException)
    said = {
        400: "the body is no JSON that can be read",
        404: f"nothing is at '{request.url.path}'; /openapi.json lists what there is",
        405: f"'{request.url.path}' does not take {request.method}; /openapi.json lists what it takes",
    }
    message = said.get(error.status_code, error.detail)
    return _Json({"error": one_line(message)}, status_code=error.status_code, headers=error.headers)


def _fail(_request: Request, _error: Exception) -> Response:
    return _Json({"error": "the service failed; what it printed says why"}, status_code=500)


def _encode(embed: Embed, image: bytes, encoder: str) -> Floats:
    if len(image) > MAX_IMAGE_BYTES:
        raise ImageError(f"the image has {len(image):,} bytes; {MAX_IMAGE_BYTES:,} are the most")
    with tempfile.NamedTemporaryFile(suffix=".image") as file:
        file.write(image)
        file.flush()
        try:
            return np.asarray(embed(Path(file.name), encoder), np.float32)
        except ImageError as error:  # the caller knows nothing of our file's name
            raise ImageError(str(error).replace(file.name, "the image")) from error


def _select(store: Store, asked: Sql) -> dict[str, Any]:
    connection = store.connect(asked.sql)
    try:
        with time_limit(connection, "the query", QUERY_SECONDS), query_errors():
            found = select(connection, asked.sql).limit(asked.limit + 1).to_arrow_table()
    finally:
        connection.close()
    rows = [list(row) for row in zip(*(column.to_pylist() for column in found.columns), strict=True)]
    shown = plain(rows[: asked.limit])  # FastAPI would make text of decimals and bytes first
    return {"columns": found.column_names, "rows": shown, "complete": len(rows) <= asked.limit}
