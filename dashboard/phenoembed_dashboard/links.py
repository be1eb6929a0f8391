"""Widgets whose values live in the page's address: a view can be sent to a colleague, and Back goes back."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import streamlit as st

Value = TypeVar("Value")
PASSED_OVER = "_passed_over"


def adopt(key: str, options: Sequence[Any], *, many: bool = False, default: Any = None) -> None:
    """Before a widget is drawn: take its value from the address, where that says something new and possible.

    What is not possible is told (see ``passed_over``).
    """
    said, known = tuple(st.query_params.get_all(key)), f"_said:{key}"
    by_text = {str(option): option for option in options}
    if key not in st.session_state or (known in st.session_state and st.session_state[known] != said):
        found = [by_text[part] for part in said if part in by_text]
        st.session_state.setdefault(PASSED_OVER, []).extend(f"{key}={part}" for part in said if part not in by_text)
        st.session_state[key] = found if many else (found[0] if found else default)
    elif many:
        st.session_state[key] = [value for value in st.session_state[key] or () if str(value) in by_text]
    else:  # said anew, because Streamlit forgets what a widget of this name on another page held
        kept = st.session_state[key]
        st.session_state[key] = kept if str(kept) in by_text else default


def passed_over() -> list[str]:
    """What the address said that cannot be chosen here, each told once."""
    found: list[str] = st.session_state.pop(PASSED_OVER, [])
    return found


def publish(key: str, default: Any = None) -> None:
    """After a widget was drawn: write its value into the address; a default is not written."""
    value = st.session_state.get(key)
    parts = [str(part) for part in value] if isinstance(value, list | tuple) else [] if value is None else [str(value)]
    if value == default:
        parts = []
    if parts:
        if st.query_params.get_all(key) != parts:
            st.query_params[key] = parts
    elif key in st.query_params:
        del st.query_params[key]
    st.session_state[f"_said:{key}"] = tuple(parts)


def segmented(
    label: str,
    options: Sequence[Value],
    key: str,
    *,
    form: Callable[[Any], str] = str,
    default: Value | None = None,
    place: Any = st,
) -> Value:
    """One of a few, as buttons side by side; the first unless the address, or ``default``, says otherwise."""
    first = options[0] if default is None else default
    adopt(key, options, default=first)
    place.segmented_control(label, options, key=key, required=True, format_func=form)
    publish(key, first)
    chosen = st.session_state[key]
    return first if chosen is None else chosen


def select(
    label: str,
    options: Sequence[Value],
    key: str,
    *,
    form: Callable[[Any], str] = str,
    default: Value | None = None,
    always: bool = False,
    place: Any = st,
) -> Value:
    """One of many, typed or picked. ``always``: its value stands in the address even where it is the default."""
    first = options[0] if default is None else default
    adopt(key, options, default=first)
    chosen: Value = place.selectbox(label, options, key=key, format_func=form, filter_mode="contains")
    publish(key, None if always else first)
    return chosen
