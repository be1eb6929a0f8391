"""What other people's columns mean: CellProfiler's, pycytominer's and plain names, recognised as ours."""

import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

import pyarrow as pa

from phenoembed_store.plate_layout import well_name
from phenoembed_store.units import NUMBER, times, unit_of_column

NAMES: dict[str, tuple[str, ...]] = {
    "screen": ("screen", "study", "dataset"),
    "plate": ("plate", "plate_id", "plate_name", "assay_plate_barcode", "barcode"),
    "well": ("well", "well_id", "well_name", "well_position", "pert_well"),
    "field": ("field", "site", "fov", "field_id"),
    "time_h": ("time_h", "time", "timepoint", "time_point", "treatment_time_h", "hours"),
    "channel": ("channel",),
    "z": ("z",),
    "replicate": ("replicate", "replicate_id"),
    "compound": (
        "compound",
        "compound_name",
        "pert_iname",
        "pert_name",
        "treatment",
        "drug",
        "broad_sample",
        "pert_id",
        "broad_id",
    ),
    "concentration_um": (
        "concentration_um",
        "concentration",
        "compound_concentration_micromolar",
        "concentration_micromolar",
        "dose_um",
        "dose",
        "pert_dose",
        "mmoles_per_liter",  # so named by pycytominer's authors, but micromolar
    ),
    "role": ("role", "control_type", "pert_type", "broad_sample_type"),
    "path": ("path",),
    "smiles": ("smiles", "compound_smiles"),
    "inchikey": ("inchikey", "compound_inchikey"),
    "moa": ("moa", "mechanism", "mechanism_of_action"),
}
"""Our column -> what it may be called once prefixes, units' brackets and capitals are gone; the likeliest first."""

CONTROL_WORDS = frozenset(
    (
        "control",
        "negative",
        "negcon",
        "negative control",
        "solvent control",
        "vehicle",
        "dmso",
        "trt_ctl",
        "ctl_vehicle",
    )
)
CONTROL_COMPOUNDS = frozenset(("dmso", "dimethyl sulfoxide", "control", "vehicle", ""))
EMPTY_WORDS = frozenset(("empty", "no cells", "blank"))
COMPARTMENTS = ("Cells_", "Cytoplasm_", "Nuclei_")
NAMELESS = re.compile(r"unnamed_\d+|Unnamed: \d+|__index_level_\d+__")
"""What stands for the name of a column without one: ours, and pandas' (of which most number the rows)."""
_PREFIXES = re.compile(r"^(Image_)?(Metadata_)?(Experimental Condition|Characteristics)?", re.IGNORECASE)
_CHANNEL = re.compile(r"_(dapi|tubulin|actin|dna|er|rna|agp|mito)$")


@dataclass(frozen=True)
class Matched:
    """Which of a table's columns mean what. ``ours``: our name -> theirs; ``others``: metadata kept under its name.

    ``constants``: what every row has, as the user says.
    """

    ours: Mapping[str, str]
    features: tuple[str, ...]
    others: tuple[str, ...]
    constants: Mapping[str, float] = field(default_factory=dict)


def plain_name(name: str) -> str:
    """``Experimental Condition [Treatment time (h)]`` -> ``treatment_time_h``."""
    short = _PREFIXES.sub("", name)
    return re.sub(r"[^a-z0-9]+", "_", short.lower()).strip("_")


def recognise(names: Iterable[str]) -> dict[str, str]:
    """Our name -> the column that means it, for those that are recognised."""
    by_plain: dict[str, str] = {}
    for name in names:
        plain = plain_name(name)
        by_plain.setdefault(plain, name)
        by_plain.setdefault(_CHANNEL.sub("", plain), name)  # Image_Metadata_Plate_DAPI: the plate, per channel
    found = {}
    for ours, candidates in NAMES.items():
        theirs = next((by_plain[name] for name in candidates if name in by_plain), None)
        if theirs is not None:
            found[ours] = theirs
    if "concentration_um" not in found:
        doses = filter(_names_a_dose, by_plain.values())
        if (dose := next(doses, None)) is not None:
            found["concentration_um"] = dose
    return found


def _names_a_dose(name: str) -> bool:
    """``dose_nM`` and ``Final Conc. (mM)`` are concentrations; their unit is read (see ``under_our_names``)."""
    said = unit_of_column(_PREFIXES.sub("", name).strip("_ []"))
    return said is not None and re.sub("^final_", "", plain_name(said[0])) in (*NAMES["concentration_um"], "conc")


def as_wells(column: pa.ChunkedArray) -> pa.Array:
    """``a1``, ``A-1`` and ``R01C01`` are ``A01``, as images have it; what is no well stays."""
    said = column.to_pylist()
    return pa.array([(isinstance(one, str) and well_name(one.strip())) or one for one in said], column.type)


def under_our_names(table: pa.Table, ours: Mapping[str, str]) -> dict[str, pa.Array | pa.ChunkedArray]:
    """The columns of a table that are ours (our name -> theirs)."""
    columns = {name: table.column(theirs) for name, theirs in ours.items()}
    if "well" in ours:
        columns["well"] = as_wells(columns["well"])
    if "concentration_um" in ours:
        columns["concentration_um"] = in_micromolar(columns["concentration_um"], ours["concentration_um"])
    return columns


def in_micromolar(doses: pa.Array | pa.ChunkedArray, name: str) -> pa.Array | pa.ChunkedArray:
    """Doses of a column whose name may have a unit: ``dose_nM`` is multiplied by 0.001, and then is text."""
    said = unit_of_column(name)
    if said is None or said[1] == 1:
        return doses
    scaled = [_times(dose, said[1]) for dose in doses.cast(pa.string()).to_pylist()]
    return pa.array(scaled, pa.string())


def _times(text: str | None, factor: float) -> str | None:
    """A number multiplied, as text; what is no number stays, for whoever wants one to refuse."""
    return text if text is None or NUMBER.fullmatch(text.strip()) is None else repr(times(float(text), factor))


def match_columns(
    names: Sequence[str],
    numeric: frozenset[str],
    given: Mapping[str, str],
    constants: Mapping[str, float] = MappingProxyType({}),
) -> Matched:
    """Tell keys, features and other metadata apart. ``given``: ours -> theirs, where the user says so.

    Features are the columns of CellProfiler's compartments where there are any; else the numeric ones that have a name
    and that no ``Metadata_`` prefix and no recognised name claims.
    """
    ours = {**recognise(name for name in names if not is_compartment(name)), **given}
    claimed = set(ours.values())
    ours = {name: theirs for name, theirs in ours.items() if name not in constants}
    features = [name for name in names if is_compartment(name) and name in numeric]
    if not features:
        features = [
            name
            for name in names
            if name in numeric
            and name not in claimed
            and not (name.startswith("Metadata_") or NAMELESS.fullmatch(name))
        ]
    others = [name for name in names if name not in ours.values() and name not in set(features)]
    return Matched(ours, tuple(features), tuple(others), constants)


def is_compartment(name: str) -> bool:
    return name.startswith(COMPARTMENTS)


def role_of(compound: str | None, word: str | None) -> str:
    """``control`` or ``empty`` where the compound or the word for its role says so, else ``treated``."""
    said = (word or "").strip().casefold()
    if said in ("treated", "control", "empty"):
        return said
    if said in EMPTY_WORDS:
        return "empty"
    if said in CONTROL_WORDS or (compound or "").strip().casefold() in CONTROL_COMPOUNDS:
        return "control"
    return "treated"


def renaming(name: str) -> str:
    """How a column whose name the store cannot take gets another: what to type, where its name can be typed."""
    if not name.isprintable():
        return "rename it in the file"
    ours = re.sub("[^A-Za-z0-9]+", "_", name).strip("_") or "column"
    return f"--map {shlex.quote(f'{ours}={name}')}"
