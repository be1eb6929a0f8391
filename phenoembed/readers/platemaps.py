"""Layouts as laboratories write them, brought into our columns: plate maps, and the picklists of an Echo.

What comes out has ``well``, ``compound``, ``concentration_um``, and ``plate`` where the file tells plates apart; all
other columns stay. A concentration needs its unit: in the column's name, in a column of units, or in the cell.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import pyarrow as pa

from phenoembed.readers import cells
from phenoembed.readers.sheet import Faults, Sheet, as_text
from phenoembed_store.units import NUMBER, micromolar, split_amount, times, unit_of_column

NAMES = {
    "well_position": "well",
    "well_id": "well",
    "broad_sample": "compound",
    "assay_plate_barcode": "plate",
}
"""Columns of the Broad's plate maps that mean ours, as `columns` compares them."""

BROAD_DOSE = "mmoles per liter"
BROAD_NOTE = "mmoles_per_liter is read as micromolar, which the Broad's plate maps mean by it"
DOSES = ("concentration", "conc", "dose", "final concentration", "final conc", "compound concentration")
UNITS = ("concentration unit", "concentration units", "conc unit", "dose unit", "unit", "units")
PICKLIST = {"destination well"}
SAMPLE = ("sample name", "compound name", "compound", "sample id", "broad_sample")


def is_picklist(sheet: Sheet) -> bool:
    """Whether the sheet lists transfers of liquid: it names a destination well."""
    return set(_by_name(sheet)) >= PICKLIST


def in_our_columns(sheet: Sheet, mapping: Mapping[str, str]) -> Sheet:
    """The sheet with the columns of a plate map under our names; what ``mapping`` names stays under its own."""
    columns, notes = dict(sheet.columns), list(sheet.notes)
    kept = {*mapping, *(name.casefold() for name in columns)}
    for name in sheet.columns:
        ours = NAMES.get(name.casefold())
        if ours is not None and ours not in kept and name not in mapping.values():
            columns[ours] = as_text(columns[name]) if ours != "compound" else columns[name]
            kept.add(ours)
            if ours != "compound":  # which stays as an annotation too
                del columns[name]
    if "well" not in kept:
        columns = _with_well(columns)
    if "concentration_um" not in kept:
        columns, told = _with_dose(columns, sheet, mapping)
        notes += told
    elif "concentration_um" in columns:
        _refuse_another_dose(columns, sheet)
    return Sheet(columns, sheet.rows, sheet.faults, tuple(notes))


def _with_well(columns: dict[str, pa.Array]) -> dict[str, pa.Array]:
    """A row's and a column's cells are a well's; what is there stays where one of them is missing."""
    folded = {name.casefold(): name for name in columns}
    row, column = folded.get("row"), folded.get("column", folded.get("col"))
    if row is None or column is None:
        return columns
    pairs = zip(as_text(columns.pop(row)).to_pylist(), as_text(columns.pop(column)).to_pylist(), strict=True)
    wells = [None if None in pair else cells.well_of(*pair) for pair in pairs]
    return columns | {"well": pa.array(wells, pa.string())}


def _refuse_another_dose(columns: Mapping[str, pa.Array], sheet: Sheet) -> None:
    """Rows in which a column such as ``dose_nM`` says another concentration than ``concentration_um`` are faults."""
    ours = as_text(columns["concentration_um"]).to_pylist()
    for name, column in columns.items():
        said = unit_of_column(name) if name != "concentration_um" else None
        if said is None or said[0].casefold().replace("_", " ") not in DOSES:
            continue
        for row, first, other in zip(sheet.rows, ours, as_text(column).to_pylist(), strict=True):
            try:
                same = None in (first, other) or math.isclose(float(first), float(other) * said[1], rel_tol=1e-6)
            except ValueError:
                continue  # a cell that is no number is told when it is read
            if not same:
                sheet.faults.add(f"concentration_um is {first}, but {name} is {other}: leave one out", row)


def _with_dose(
    columns: dict[str, pa.Array], sheet: Sheet, mapping: Mapping[str, str]
) -> tuple[dict[str, pa.Array], list[str]]:
    """Add ``concentration_um``, of a column with a unit in its name, units in its cells, or from the compounds."""
    folded = {name.casefold().replace("_", " "): name for name in columns if name not in mapping.values()}
    if BROAD_DOSE in folded:
        name = folded[BROAD_DOSE]
        return {key if key != name else "concentration_um": column for key, column in columns.items()}, [BROAD_NOTE]
    for name in folded.values():
        said = unit_of_column(name)
        if said is not None and said[0].casefold().replace("_", " ") in DOSES:
            scaled = _each(columns.pop(name), name, sheet, partial(_times, factor=said[1]))
            return columns | {"concentration_um": scaled}, []
    plain = next((folded[name] for name in DOSES if name in folded), None)
    unit = next((folded[name] for name in UNITS if name in folded), None)
    if plain is not None:
        dose = columns.pop(plain)
        if unit is not None:
            dose = _joined(dose, columns.pop(unit))
        return columns | {"concentration_um": _each(dose, plain, sheet, lambda text: repr(micromolar(text)))}, []
    compound = next(
        (name for name in columns if name.casefold() == mapping.get("compound", "compound").casefold()), None
    )
    if compound is None:
        return columns, []
    split = [(None, None) if text is None else split_amount(text) for text in as_text(columns[compound]).to_pylist()]
    if not any(dose for _, dose in split):
        return columns, []
    named = pa.array([name for name, _ in split], pa.string())
    doses = pa.array([None if dose is None else repr(dose) for _, dose in split], pa.string())
    return columns | {compound: named, "concentration_um": doses}, []


def _each(column: pa.Array, name: str, sheet: Sheet, convert: Callable[[str], str]) -> pa.Array:
    values: list[str | None] = []
    for row, text in zip(sheet.rows, as_text(column).to_pylist(), strict=True):
        try:
            values.append(None if text is None else convert(text))
        except ValueError as error:
            sheet.faults.add(f"column '{name}': {error}", row)
            values.append("0")
    return pa.array(values, pa.string())


def _times(text: str, factor: float) -> str:
    return repr(times(cells.number(text, "concentration", "a number"), factor))


def _joined(doses: pa.Array, units: pa.Array) -> pa.Array:
    """``5`` and ``uM`` are ``5 uM``."""
    pairs = zip(as_text(doses).to_pylist(), as_text(units).to_pylist(), strict=True)
    return pa.array([None if dose is None else f"{dose} {unit or ''}".strip() for dose, unit in pairs], pa.string())


def read_picklist(sheet: Sheet) -> Sheet:
    """One row a destination well: the compound that was transferred, and its concentration there.

    The concentration is the list's own (``Destination Concentration``, with its unit), or follows from ``Source
    Concentration`` (with its unit), ``Transfer Volume`` (nanolitres, as an Echo counts) and ``Final Volume (uL)``.
    Solvent beside a compound is no treatment. Two compounds in one well are a fault.
    """
    found = _by_name(sheet)
    plate = next(
        (found[name] for name in ("destination plate barcode", "destination plate name") if name in found), None
    )
    sample = next((found[name] for name in SAMPLE if name in found), None)
    if sample is None:
        sheet.faults.add(f"the picklist names no compound; it needs one of the columns {', '.join(SAMPLE)}")
        return Sheet({}, [], sheet.faults)
    texts = {name: as_text(column).to_pylist() for name, column in sheet.columns.items()}
    doses = _doses(found, texts, sheet)
    wells: dict[tuple[str | None, str | None], dict[str | None, list[tuple[int, float | None]]]] = {}
    for i, compound in enumerate(texts[sample]):
        key = (texts[plate][i] if plate else None, texts[found["destination well"]][i])
        name = None if cells.is_vehicle(compound) else compound
        wells.setdefault(key, defaultdict(list))[name].append((sheet.rows[i], doses[i]))
    return _one_row_a_well(wells, plate is not None, sheet.faults)


def _one_row_a_well(
    wells: Mapping[tuple[str | None, str | None], Mapping[str | None, Sequence[tuple[int, float | None]]]],
    plates: bool,
    faults: Faults,
) -> Sheet:
    rows: list[int] = []
    columns: dict[str, list[str | None]] = {"plate": [], "well": [], "compound": [], "concentration_um": []}
    for (plate, well), transfers in wells.items():
        compounds = [name for name in transfers if name is not None]
        chosen = compounds[0] if compounds else None
        row = transfers[chosen][0][0]
        if len(compounds) > 1:
            faults.add(f"well {well} gets {' and '.join(map(repr, compounds))}; a well has one compound", row)
        amounts = [dose for _, dose in transfers[chosen]]
        total = sum(dose for dose in amounts if dose is not None)
        rows.append(row)
        known = chosen is not None and None not in amounts
        values = (plate, well, chosen, repr(float(f"{total:.12g}")) if known else None)
        for name, value in zip(columns, values, strict=True):
            columns[name].append(value)
    arrays = {name: pa.array(values, pa.string()) for name, values in columns.items() if plates or name != "plate"}
    return Sheet(arrays, rows, faults)


def _doses(found: Mapping[str, str], texts: Mapping[str, list[str | None]], sheet: Sheet) -> list[float | None]:
    """Micromolar that each transfer brings into its well; None where the list does not say."""
    final_dose = _amounts("destination concentration", found, texts, sheet)
    if final_dose is not None:
        return final_dose
    stock = _amounts("source concentration", found, texts, sheet)
    volume = _volumes("transfer volume", "nl", found, texts, sheet)
    final = _volumes("final volume", None, found, texts, sheet)
    if stock is None or volume is None or final is None:
        sheet.faults.add(
            "the picklist does not tell final concentrations; it needs 'Destination Concentration' and 'Destination "
            "Concentration Units', or 'Source Concentration' with units, 'Transfer Volume' and 'Final Volume (uL)'"
        )
        return [None] * len(sheet.rows)
    return [
        None if a is None or v is None or not f else a * v / f for a, v, f in zip(stock, volume, final, strict=True)
    ]


def _amounts(
    kind: str, found: Mapping[str, str], texts: Mapping[str, list[str | None]], sheet: Sheet
) -> list[float | None] | None:
    name = next((found[each] for each in found if each == kind or each.startswith(f"{kind} (")), None)
    if name is None:
        return None
    said, units = unit_of_column(name), found.get(f"{kind} units", found.get(f"{kind} unit"))
    values: list[float | None] = []
    for i, text in enumerate(texts[name]):
        unit = texts[units][i] if units is not None else None
        try:
            if text is None or (NUMBER.fullmatch(text) and float(text) == 0):
                values.append(None if text is None else 0.0)
            elif said is not None:
                values.append(cells.number(text, name, "a number") * said[1])
            else:
                values.append(micromolar(f"{text} {unit}" if unit else text))
        except ValueError as error:
            sheet.faults.add(str(error), sheet.rows[i])
            values.append(0.0)
    return values


LITRES = {"nl": 1e-9, "ul": 1e-6, "ml": 1e-3}


def _volumes(
    kind: str, unit: str | None, found: Mapping[str, str], texts: Mapping[str, list[str | None]], sheet: Sheet
) -> list[float | None] | None:
    """Litres; ``unit`` is what a column without one means."""
    for each, name in found.items():
        told = (
            each.removeprefix(kind).strip(" _()[]").replace("µ", "u").replace("μ", "u")
            if each.startswith(kind)
            else None
        )
        factor = None if told is None else LITRES.get(told or (unit or ""))
        if factor is not None:
            values: list[float | None] = []
            for i, text in enumerate(texts[name]):
                try:
                    values.append(None if text is None else cells.number(text, name, "a number") * factor)
                except ValueError as error:
                    sheet.faults.add(str(error), sheet.rows[i])
                    values.append(None)
            return values
    return None


def _by_name(sheet: Sheet) -> dict[str, str]:
    return {" ".join(name.casefold().replace("_", " ").split()): name for name in sheet.columns}
