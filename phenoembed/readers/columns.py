"""Which column of somebody's table is which of ours: by name, by the field's names, or as the user maps them."""

import difflib
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pyarrow as pa

from phenoembed.readers.sheet import Faults, Sheet
from phenoembed.screen import READING_COLUMNS
from phenoembed_store.columns import in_micromolar, renaming
from phenoembed_store.errors import one_line
from phenoembed_store.schema import RESERVED, SCREEN_SCHEMA
from phenoembed_store.units import constant

OPTIONAL = ("screen", "channel", "z", "replicate", "role")
REQUIRED = tuple(name for name in SCREEN_SCHEMA.names if name not in OPTIONAL)

FIELD_NAMES = {f"metadata_{name}": name for name in SCREEN_SCHEMA.names} | {
    "metadata_site": "field",
    "metadata_concentration": "concentration_um",
    "metadata_time": "time_h",
}
"""The field's names (pycytominer's), in lower case, that mean the same as ours and are read without a map."""

SYNONYMS = {
    "path": "file filename filepath imagepath image filelocation url pathname",
    "plate": "plateid platename barcode platebarcode assayplatebarcode assayplate",
    "well": "wellid wellname wellposition wellpos welllocation",
    "field": "site siteid fov fieldid fieldindex fieldofview position imagenumber",
    "time_h": "time timeh timepoint timepointh hours hour hour s timehours timehr hpt duration",
    "compound": "compoundname compoundid broadsample broadid treatment drug perturbation pertiname pertid chemical",
    "concentration_um": (
        "dose doseum dosemicromolar conc concum concentration concentrationmicromolar finalconc finalconcum "
        "mmolesperliter"
    ),
    "channel": "channelindex channelid channelname wavelength",
}
"""Names that probably mean a column of ours, letters and digits only: suggested, never taken unasked (units differ)."""

ANNOTATIONS = {"inchikey": "inchikey", "metadata_inchikey": "inchikey"}
"""An annotation that tables are joined on is called alike everywhere."""

TAKEN = RESERVED | {*READING_COLUMNS}
"""Names that reading, grouping, searching and the store give columns of their own."""


def name_columns(
    names: Sequence[str], mapping: Mapping[str, str], faults: Faults, required: Sequence[str]
) -> dict[str, str]:
    """Our names, each with the column of the file that it is: ``mapping`` first, then our own and the field's names.

    Columns that are none of ours follow under their own names; one that gives way to a mapped column is kept as
    ``original_...``. Missing ones, ambiguous ones, and names that are the store's own are faults.
    """
    chosen: dict[str, str] = {}
    for ours, theirs in mapping.items():
        if theirs in names and ours:
            chosen[ours] = theirs
        else:
            faults.add(f"--map {ours}={theirs}: the file has no column '{theirs}'{_did_you_mean(theirs, names)}")
    known = _known_names(names)
    chosen |= {ours: known[ours] for ours in SCREEN_SCHEMA.names if ours in known and ours not in mapping}
    for ours in required:
        if ours not in chosen and ours not in mapping:
            faults.add(_missing(ours, [name for name in names if name not in chosen.values()], names))
    for name in names:
        if name not in chosen.values():
            named = ANNOTATIONS.get(name.casefold(), name)
            chosen[f"original_{name}" if named in chosen else named] = name
    _refuse_clashes(chosen, faults)
    return chosen


def as_mapped(sheet: Sheet, mapping: Mapping[str, str]) -> Sheet:
    """The sheet as ``mapping`` reads it: a dose whose column has a unit in its name is micromolar (``dose_nM``).

    A value that it gives every row (``concentration_um="5 uM"``) has a column.
    """
    dose = mapping.get("concentration_um")
    if dose in sheet.columns:
        sheet = replace(sheet, columns=sheet.columns | {dose: in_micromolar(sheet.columns[dose], dose)})
    values = {text: constant(ours, text) for ours, text in mapping.items() if text not in sheet.columns}
    n = len(sheet.rows)
    added = {text: pa.repeat(pa.scalar(value), n) for text, value in values.items() if value is not None}
    return replace(sheet, columns=sheet.columns | added)


def _known_names(names: Sequence[str]) -> dict[str, str]:
    """Columns of ours that the file has under our name or the field's, in any case; our exact name wins."""
    known: dict[str, str] = {}
    for name in names:
        folded = name.casefold()
        ours = FIELD_NAMES.get(folded, folded)
        if ours in SCREEN_SCHEMA.names and (ours not in known or name == ours):
            known[ours] = name
    return known


def _missing(ours: str, left: Sequence[str], names: Sequence[str]) -> str:
    likely = SYNONYMS.get(ours, "").split()
    found = next((name for name in left if re.sub("[^a-z0-9]", "", name.casefold()) in likely), None)
    found = found or next(iter(difflib.get_close_matches(ours, left, n=1, cutoff=0.75)), None)
    if found is not None:
        return f"column '{ours}' is missing; the file has '{found}': --map {ours}={found}"
    if ours == "compound":
        return "column 'compound' is missing; --layout FILE says what is in the wells, or --map compound=THEIRS"
    same = {"concentration_um": "5 uM", "time_h": "48 h"}.get(ours)
    hint = f'; --map "{ours}={same}" gives all rows one' if same else ""
    return f"column '{ours}' is missing; the file has {', '.join(map(repr, names))}{hint}"


def _did_you_mean(name: str, names: Sequence[str]) -> str:
    folded = {each.casefold(): each for each in names}
    close = difflib.get_close_matches(name.casefold(), list(folded), n=3)
    listed = ", ".join(repr(folded[each]) for each in close)
    return f"; did you mean {listed}?" if close else f"; it has {', '.join(map(repr, names))}"


def _refuse_clashes(chosen: Mapping[str, str], faults: Faults) -> None:
    for ours, theirs in chosen.items():
        if '"' in ours or not ours.isprintable():
            faults.add(f"a column cannot be called {one_line(ours)!r}: {renaming(theirs)}")
        if ours.casefold() in TAKEN:
            faults.add(f"column '{ours}' has a name the store gives a column of its own: --map my_{ours}={theirs}")
    for folded, count in Counter(ours.casefold() for ours in chosen).items():
        if count > 1:  # SQL does not tell them apart
            same = [ours for ours in chosen if ours.casefold() == folded]
            faults.add(f"columns {' and '.join(map(repr, same))} differ only in case")
