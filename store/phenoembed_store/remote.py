"""Object storage: everything that lies at ``s3://bucket/...`` is looked at, read and written here.

A path there is an ordinary ``Path`` whose first part is ``s3:`` (pathlib makes one slash of two). It is a name: nothing
but these functions opens it. Credentials, region and endpoint are those of the environment and of AWS's own files
(``AWS_PROFILE``, ``~/.aws``, ``AWS_ENDPOINT_URL``), as for every tool that speaks to S3.
"""

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple
from uuid import uuid4

from phenoembed_store.errors import MissingExtra, StoreError

_REMOTE = re.compile(r"s3:/{1,2}(?=[^/])")


class Entry(NamedTuple):
    """One object: its size in bytes, and when it was written."""

    n_bytes: int
    mtime_ns: int


def url_of(path: str | Path) -> str | None:
    """``s3://bucket/key`` of a path in object storage; None for a path of this machine."""
    text = str(path)
    match = _REMOTE.match(text)
    return "s3://" + text[match.end() :].rstrip("/") if match else None


def check_written_here(path: Path) -> None:
    """Raise StoreError for an address in object storage where a file or folder of this machine is written."""
    if (url := url_of(path)) is not None:
        raise StoreError(f"'{url}' is in object storage, and files are written on this machine: write one, and copy it")


def as_typed(path: str | Path) -> str:
    """A path as a person writes it, with both slashes of an address."""
    return url_of(path) or str(path)


def absolute(path: Path) -> str:
    """The path by which a file can be opened from anywhere."""
    return url_of(path) or os.path.realpath(path)


def listing(url: str) -> dict[str, Entry]:
    """Every object below a prefix, by its name from there. Raises StoreError."""
    with _errors(url):
        found = _files().find(url, detail=True, refresh=True)
    start = len(url.removeprefix("s3://")) + 1
    return {key[start:]: _entry(facts) for key, facts in found.items() if key[start:]}


def exists(url: str) -> bool:
    """Whether there is such an object. Raises StoreError."""
    with _errors(url):
        try:
            _files().info(url, refresh=True)
        except FileNotFoundError:
            return False
        return True


def entry(path: Path) -> Entry:
    """Size and time of an object; its folder is listed once, until ``forget``. Raises FileNotFoundError, StoreError."""
    url = url_of(path) or ""
    folder, _, name = url.rpartition("/")
    found = _folder(folder).get(name)
    if found is None:
        raise FileNotFoundError(2, "No such file or directory", url)
    return found


def forget() -> None:
    """Look at folders anew when they are next asked for."""
    _folder.cache_clear()


def read_bytes(path: Path) -> bytes:
    """A file's content, wherever it lies. Raises OSError, StoreError."""
    url = url_of(path)
    if url is None:
        return path.read_bytes()
    with _errors(url, missing=False):
        content: bytes = _files().cat_file(url)
        return content


def open_file(path: Path) -> BinaryIO:
    """A file to read from at any place, wherever it lies. Raises OSError, StoreError."""
    url = url_of(path)
    if url is None:
        return path.open("rb")
    with _errors(url, missing=False):
        opened: BinaryIO = _files().open(url, "rb")
        return opened


def download(url: str, names: Sequence[str], folder: Path) -> None:
    """Copy objects below a prefix into a folder, under the same names. Each appears there whole. Raises StoreError."""
    beside = [folder / f"{name}.{uuid4().hex[:8]}.part" for name in names]
    for path in beside:
        path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with _errors(url):
            if names:
                _files().get([f"{url}/{name}" for name in names], [str(path) for path in beside])
        for name, path in zip(names, beside, strict=True):
            path.replace(folder / name)
    finally:
        for path in beside:
            path.unlink(missing_ok=True)  # where it was broken off


def upload(folder: Path, names: Sequence[str], url: str) -> None:
    """Copy files of a folder below a prefix, one after the other in this order. Raises StoreError."""
    with _errors(url):
        for name in names:
            _files().put_file(str(folder / name), f"{url}/{name}")


def remove(url: str, names: Sequence[str]) -> None:
    """Remove objects below a prefix. Raises StoreError."""
    with _errors(url):
        if names:
            _files().rm([f"{url}/{name}" for name in names])


def delta_options() -> dict[str, str]:
    """What the Delta library, which knows the environment alone, has to be told of AWS's own files."""
    with _errors("s3://"):
        import botocore.session

        session = botocore.session.get_session()
        credentials, region = session.get_credentials(), session.get_config_variable("region")
        endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
        said = {"AWS_REGION": region or "us-east-1"}  # the Delta library asks for one; S3's own default
        if credentials is not None:
            frozen = credentials.get_frozen_credentials()
            token = {"AWS_SESSION_TOKEN": frozen.token} if frozen.token else {}
            said |= {"AWS_ACCESS_KEY_ID": frozen.access_key, "AWS_SECRET_ACCESS_KEY": frozen.secret_key, **token}
        else:
            said["AWS_SKIP_SIGNATURE"] = "true"  # a public bucket
        if endpoint:
            said |= {"AWS_ENDPOINT_URL": endpoint, "AWS_ALLOW_HTTP": str(endpoint.startswith("http:")).lower()}
        return said


@lru_cache(maxsize=256)
def _folder(url: str) -> dict[str, Entry]:
    with _errors(url):
        found = _files().ls(url, detail=True, refresh=True)
    return {facts["name"].rpartition("/")[2]: _entry(facts) for facts in found if facts["type"] == "file"}


def _entry(facts: dict[str, Any]) -> Entry:
    return Entry(int(facts["size"]), int(facts["LastModified"].timestamp() * 1e9))


@cache
def _files() -> Any:
    try:
        import s3fs
    except ImportError as error:
        raise MissingExtra("s3fs", "s3") from error
    return s3fs.S3FileSystem()


@contextmanager
def _errors(url: str, *, missing: bool = True) -> Iterator[None]:
    """What S3 and its library complain of, as one line; a missing object too, unless it is the caller's to judge."""
    try:
        from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError
    except ImportError as error:
        raise MissingExtra("s3fs", "s3") from error
    try:
        yield
    except NoCredentialsError as error:
        raise StoreError(
            f"no credentials for '{url}': set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
        ) from error
    except PermissionError as error:
        raise StoreError(
            f"'{url}' is refused ({_first_line(error)}): look at the credentials and the policy"
        ) from error
    except FileNotFoundError as error:
        if not missing:
            raise
        raise StoreError(f"nothing at '{url}' ({_first_line(error)}): look at the bucket's name") from error
    except (BotoCoreError, ClientError, TimeoutError, ConnectionError) as error:
        raise StoreError(f"'{url}' cannot be reached: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
