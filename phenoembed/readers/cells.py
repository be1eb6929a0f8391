"""What one cell means: a well, a number, a treatment. Each function takes text; ``ValueError`` is the fault."""

import math
import re
from functools import lru_cache

from phenoembed_store.plate_layout import row_name, well_name
from phenoembed_store.schema import CONTROL_COMPOUND, ROLES
from phenoembed_store.units import NUMBER

INT32_MAX = 2**31 - 1


def well(text: str) -> str:
    """``a1``, ``A-1`` and ``R01C01`` are ``A01``; rows A-AF, columns 1-48."""
    name = well_name(text)
    if name is None:
        raise ValueError(f"well '{text}' is no well (rows A-AF, columns 1-48)")
    return name


def number(text: str, name: str, unit: str) -> float:
    """A finite number; a unit is never guessed from the text."""
    if NUMBER.fullmatch(text) is None or not math.isfinite(float(text)):
        hint = " with a decimal point" if re.fullmatch(r"\d+,\d+", text) else ""
        raise ValueError(f"{name} '{text}' is not a number; write {unit}{hint}, without a unit")
    return float(text) + 0.0  # -0 is 0


def whole(text: str, name: str) -> int:
    """A whole number from 0; ``3.0`` is one, as pandas writes a column that has gaps."""
    if NUMBER.fullmatch(text) is None or not float(text).is_integer() or not 0 <= float(text) <= INT32_MAX:
        raise ValueError(f"{name} '{text}' is not a whole number from 0")
    return int(float(text))


_cached_whole = lru_cache(maxsize=4096)(whole)  # an export has a million records of few values


def known_whole(text: str | None, name: str, reasons: list[str]) -> int | None:
    """A whole number of a record; None, with a reason, where it has none."""
    try:
        return _cached_whole("" if text is None else text.strip(), name)
    except ValueError as error:
        reasons.append(str(error) if text else f"the record has no {name}")
        return None


def well_of(row: str, column: str) -> str:
    """The text of a well: ``2`` and ``3``, or ``B`` and ``3``, are ``B3``."""
    return f"{row_name(int(row)) if row.isdecimal() and 1 <= int(row) <= 32 else row}{column}"


def well_at(row: int | None, column: int | None, reasons: list[str]) -> str | None:
    """The well of a row and column, from 1; None, with a reason, where no plate has one."""
    if row is None or column is None:
        return None
    if not (1 <= row <= 32 and 1 <= column <= 48):
        reasons.append(f"row {row}, column {column} is no well (rows 1-32, columns 1-48)")
        return None
    return f"{row_name(row)}{column:02d}"


def channel(text: str) -> str:
    """A channel's name; ``4.0`` is ``4``."""
    return re.sub(r"(?<=\d)\.0$", "", text)


def concentration(text: str | None) -> float:
    """Micromolar, from 0."""
    if text is None:
        raise ValueError("concentration_um is empty; a treated well needs micromolar")
    value = number(text, "concentration_um", "micromolar")
    if value < 0:
        raise ValueError(f"concentration_um '{text}' is negative")
    return value


def is_vehicle(compound: str | None) -> bool:
    """Whether a well with this compound got none: DMSO (in any case), 'vehicle', or an empty cell."""
    return compound is None or compound.casefold() in {CONTROL_COMPOUND.casefold(), "vehicle"}


def treatment(compound: str | None, dose: str | None, role: str | None) -> tuple[str, float, str]:
    """(compound, concentration_um, role) of a row, from its three cells; an empty cell is None.

    A control is ('DMSO', 0, 'control'): by its role, or, without one, by its compound. A positive control is a treated
    well. An empty well keeps what it says; nothing said is ('', 0, 'empty').
    """
    named = role.casefold() if role is not None else ("control" if is_vehicle(compound) else "treated")
    if named not in ROLES:
        raise ValueError(f"role '{role}' is none of {', '.join(ROLES)}")
    if named == "empty":
        return compound or "", concentration(dose) if compound and dose else 0.0, named
    if named == "control":
        if not is_vehicle(compound) and _is_positive(dose):
            raise ValueError(
                f"role is 'control' but compound is '{compound}' at {dose} micromolar; a positive control is 'treated'"
            )
        return CONTROL_COMPOUND, 0.0, named
    if compound is None or is_vehicle(compound):
        raise ValueError(f"role is 'treated' but compound is {repr(compound) if compound else 'empty'}, a control")
    return compound, concentration(dose), named


def _is_positive(dose: str | None) -> bool:
    return dose is not None and NUMBER.fullmatch(dose) is not None and float(dose) > 0
