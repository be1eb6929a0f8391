"""What every page starts with: the store, its catalogue, and a guard that turns errors into what to do about them."""

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import streamlit as st

from phenoembed_dashboard.catalogue import Catalogue, Stamp, open_catalogue, open_store, stamp
from phenoembed_dashboard.links import adopt, passed_over, publish, select
from phenoembed_dashboard.markup import shortened
from phenoembed_store import EncoderInfo, Store
from phenoembed_store.errors import NotInStore, PhenoembedError
from phenoembed_store.remote import as_typed

STORE_VARIABLE = "PHENOEMBED_STORE"
log = logging.getLogger("phenoembed")


def store_path() -> Path:
    return Path(os.environ.get(STORE_VARIABLE, "phenoembed-store"))


def store_address() -> str:
    """As a person names it to ``--store``."""
    return as_typed(store_path())


def the_store() -> Store:
    return open_store(store_path())


def the_stamp() -> Stamp:
    return stamp(store_path())


def the_catalogue() -> Catalogue:
    """The catalogue of the encoder that the visitor chose, or of the newest one."""
    return open_catalogue(store_path(), st.session_state.get("_encoder"))


def choose_encoder() -> None:
    """In the sidebar, where there is a choice."""
    described = {info.id: _described(info) for info in the_store().encoders() if not info.untrained}
    names = list(described)
    if len(names) < 2:
        adopt("encoder", names)  # an address may name one that is gone
        return
    first = remembered("first encoder")  # what an address without one shows
    if first not in names:
        first = open_catalogue(store_path()).encoder
        remember("first encoder", first)
    adopt("encoder", names, default=first)
    chosen = st.sidebar.selectbox("Encoder", names, key="encoder", format_func=described.__getitem__)
    publish("encoder", first)
    st.session_state["_encoder"] = chosen


def _described(info: EncoderInfo) -> str:
    """An id that people gave whole, one that is a hash by its beginning."""
    fold = f" · {info.split} fold {info.fold}" if info.split else ""
    return f"{info.id if info.imported else info.id[:8]} · {info.method}{fold}"


def say_simulated() -> None:
    """In the sidebar of every page, where images are simulated. What is wrong with the store the page says."""
    with suppress(PhenoembedError):
        if the_catalogue().simulated:
            st.sidebar.caption("**Simulated data**: they say nothing of real compounds.")


@contextmanager
def guarded() -> Iterator[None]:
    """No visitor sees a traceback: a known error says its fix, an unknown one is logged and named.

    What the address asked for in vain is said above everything else.
    """
    top = st.container()
    try:
        yield
    except NotInStore as error:
        nothing(str(error))
    except PhenoembedError as error:
        st.error(plain(str(error)), icon=":material/error:")
    except Exception as error:  # the page of a store that is written, deleted or damaged meanwhile
        log.exception("a page failed")
        st.error(
            plain(f"This could not be shown ({type(error).__name__}: {first_line(error)})."), icon=":material/error:"
        )
        st.caption("If the store is being written, wait a moment and press R. Otherwise run this:")
        st.code(f"phenoembed verify --store {store_address()}", language=None)
    if vain := ", ".join(shortened(one, 80) for one in passed_over()):
        top.warning(plain(f"The address asks for {vain}: there is no such thing here, so it was left out."))


def nothing(why: str, command: str | None = None) -> None:
    """An empty state: what is missing, and the command that makes it."""
    if command is None:
        for opening in ("run: ", "run `"):
            before, found, after = why.partition(opening)
            if found:
                why, command = before.strip(" ;:,"), after.split("`")[0].split(", or")[0].strip()
                break
    st.info(plain(why[:1].upper() + why[1:]) + (". Run this:" if command else ""), icon=":material/info:")
    if command:
        command += "" if "--store" in command or not command.startswith("phenoembed") else f" --store {store_address()}"
        st.code(command, language=None)


def choose_compound(catalogue: Catalogue, label: str, form: Callable[[str], str], place: Any) -> str:
    """The one that was looked at last on any page, unless the address says otherwise; else the first treated one."""
    names, kept = list(catalogue.compounds), remembered("compound")
    default = kept if kept in catalogue.compounds else (catalogue.treated or names)[0]
    chosen: str = select(label, names, "compound", form=form, default=default, always=True, place=place)
    remember("compound", chosen)
    return chosen


def is_imported(catalogue: Catalogue) -> bool:
    """Whether these embeddings were made elsewhere."""
    return any(info.imported and info.id == catalogue.encoder for info in the_store().encoders())


def no_probe(catalogue: Catalogue, why: str) -> None:
    """The empty state of what needs a probe; which needs an encoder that was trained here."""
    if is_imported(catalogue):
        why += ": these embeddings were imported, and probes need an encoder that was trained here on images"
        nothing(why, "phenoembed train PLATES")
    else:
        nothing(why, "phenoembed probe --task compound")


def plain(message: str) -> str:
    """A message whose characters Markdown shall leave alone."""
    return "".join(f"\\{letter}" if letter in "\\`*_{}[]()#+-!|<>:$~&" else letter for letter in message)


def first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:300] if lines else "no message"


def remember(key: str, value: Any) -> None:
    """Keep a choice for the next page; widgets forget theirs when they are not drawn."""
    st.session_state[f"_kept:{key}"] = value


def remembered(key: str) -> Any:
    return st.session_state.get(f"_kept:{key}")


def cached(function: Callable[..., Any], **arguments: Any) -> Any:
    """Computed once for each version of the store and encoder: ``function(store, catalogue, **arguments)``.

    Visitors share the result, so nobody may change it.
    """
    version = the_stamp()  # before anything is read: what is written meanwhile may be in the result, never missing
    catalogue, name = the_catalogue(), f"{function.__module__}.{function.__qualname__}"
    return _cached(store_address(), name, catalogue.encoder, version, arguments, function, catalogue)


@st.cache_resource(max_entries=256, show_spinner=False)
def _cached(
    store: str,
    name: str,
    encoder: str,
    version: Stamp,
    arguments: dict[str, Any],
    _function: Callable[..., Any],
    _catalogue: Catalogue,
) -> Any:
    return _function(the_store(), _catalogue, **arguments)
