"""Tables as CSV files."""

import csv
import io
import json
from collections.abc import Sequence
from typing import Any

import streamlit as st


def csv_button(rows: Sequence[dict[str, Any]], file: str, label: str = "Table as CSV") -> None:
    """A download of these rows, written when it is asked for; nothing where there are none."""
    if rows:
        st.download_button(
            label, lambda: to_csv(rows), file, "text/csv", icon=":material/download:", type="tertiary",
            key=f"csv:{file}", on_click="ignore",
        )  # fmt: skip


def to_csv(rows: Sequence[dict[str, Any]]) -> str:
    """Lists, which CSV does not know, as JSON."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    names = list(rows[0])
    writer.writerow(names)
    for row in rows:
        values = [row.get(name) for name in names]
        writer.writerow([json.dumps(value) if isinstance(value, list | dict) else value for value in values])
    return buffer.getvalue()
