"""Concentrations with their units, as people write them. A unit is read, never guessed."""

import math
import re

NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
MICROMOLAR = {"M": 1e6, "mM": 1e3, "uM": 1.0, "nM": 1e-3, "pM": 1e-6}
"""Micromolar in one of each unit. ``mM`` is written so: ``MM`` and ``um`` are other things."""

_UNIT = r"(?P<unit>[mupn]?M|[munp]?mol/[lL])(?![A-Za-z])"
_VALUE = rf"(?P<value>{NUMBER.pattern})"
_BEFORE = re.compile(rf"{_VALUE}\s*{_UNIT}\s+(?:of\s+)?(?P<name>.+)")
_AFTER = re.compile(rf"(?P<name>.+?)[\s,(]+{_VALUE}\s*{_UNIT}\)?")
_ALONE = re.compile(rf"{_VALUE}\s*{_UNIT}")
_HEADER = re.compile(r"(?P<name>.+?)[\s_.(\[]+(?P<unit>[mupn]?M|[unp]m)[)\]]?")
_HOURS = re.compile(rf"{_VALUE}\s*(?:h|hours?)")
_MU = str.maketrans("µμ", "uu")  # the micro sign and the Greek letter


def micromolar(text: str) -> float:
    """``21 nM`` is 0.021. Raises ValueError where there is no number with a unit."""
    match = _ALONE.fullmatch(text.strip().translate(_MU))
    if match is None:
        if NUMBER.fullmatch(text.strip()) is None:
            raise ValueError(f"concentration '{text}' is not a number with a unit (M, mM, uM, nM, pM)")
        fix = f"write '{text.strip()} uM', or name the column concentration_um (--map) if it is micromolar"
        raise ValueError(f"concentration '{text}' has no unit; {fix}")
    return _scaled(match["value"], match["unit"])


def split_amount(text: str) -> tuple[str, float | None]:
    """``21 nM bortezomib`` and ``bortezomib (21 nM)`` are ('bortezomib', 0.021); else the text and None."""
    said = text.strip()
    plain = said.translate(_MU)  # as long as what it is made of
    match = _BEFORE.fullmatch(plain) or _AFTER.fullmatch(plain)
    return (said[slice(*match.span("name"))].strip(), _scaled(match["value"], match["unit"])) if match else (text, None)


def unit_of_column(name: str) -> tuple[str, float] | None:
    """``Concentration (nM)`` and ``conc_nM`` are (name, micromolar in one of them); None for a name without a unit."""
    match = _HEADER.fullmatch(name.strip().translate(_MU))
    if match is None:
        return None
    unit = match["unit"]
    return match["name"].strip(), MICROMOLAR[unit[:-1] + "M" if unit.endswith("m") else unit]


def constant(name: str, text: str) -> str | None:
    """What ``--map concentration_um="5 uM"`` or ``--map time_h="48 h"`` gives to every row, as a cell of the column."""
    if name == "concentration_um":
        match = _ALONE.fullmatch(text.strip().translate(_MU))
        return None if match is None else repr(_scaled(match["value"], match["unit"]))
    hours = _HOURS.fullmatch(text.strip()) if name == "time_h" else None
    return hours["value"] if hours else None


def times(value: float, factor: float) -> float:
    """The product, without the digits that binary fractions would add."""
    return float(f"{value * factor:.12g}")


def _scaled(value: str, unit: str) -> float:
    """Micromolar."""
    factor = MICROMOLAR[f"{unit[: -len('mol/l')]}M" if "/" in unit else unit]
    if not math.isfinite(float(value)):
        raise ValueError(f"concentration '{value}' is out of range")
    return times(float(value), factor)
