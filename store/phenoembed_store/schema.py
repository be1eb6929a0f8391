"""The columns of a screen and of the store's tables. Everything that reads or writes them starts here."""

from collections.abc import Iterable

import pyarrow as pa

from phenoembed_store.errors import StoreError

IMAGE_KEY = ("screen", "plate", "well", "field", "time_h", "channel", "z")
"""What makes two rows the same image. In the ``images`` table the encoder's id is part of the key too."""

ROLES = ("treated", "control", "empty")
CONTROL_COMPOUND = "DMSO"

SCREEN_SCHEMA = pa.schema(
    [
        ("path", pa.string()),
        ("screen", pa.string()),
        ("plate", pa.string()),
        ("well", pa.string()),  # row letters and two digits: A01 .. P24 (384), AF48 (1536)
        ("field", pa.int32()),
        ("time_h", pa.float64()),  # hours after the compound was added
        ("channel", pa.string()),
        ("z", pa.int32()),  # 0: a projection, or the only plane
        ("replicate", pa.string()),
        ("compound", pa.string()),  # "DMSO" for every control well
        ("concentration_um", pa.float64()),  # micromolar; 0 for controls
        ("role", pa.string()),  # one of ROLES
    ]
)
"""One row an image, as a screen's manifest describes it. Annotation columns may follow."""

INTENSITY_STATISTICS = (
    "intensity_mean",
    "intensity_sd",
    "intensity_skewness",
    "intensity_kurtosis",
    "intensity_p01",
    "intensity_p25",
    "intensity_p75",
    "intensity_p99",
)
"""Statistics of an image's raw pixels, stored at indexing: the features of the simplest baseline."""

QUALITY = ("focus", "saturation", "emptiness", "confluence")
"""Quality of an image's pixels, stored at indexing; images indexed without them have none."""

JUDGED = ("focus", "saturation", "confluence")
"""Those without which nothing is flagged; stores of before have no emptiness."""

Z_STACK = "z_stack"
"""The files of an image that is a z-stack and how they are projected, as JSON; null where it has one plane."""

QUALITY_FLAG = "quality_flag"
"""Worked out from QUALITY when it is asked for: what is unusual of an image on its plate; null where nothing is."""

FILE_SCHEMA = pa.schema(
    [
        ("content_hash", pa.string()),  # of the file's bytes
        ("file_bytes", pa.int64()),
        ("file_mtime_ns", pa.int64()),
        *((name, pa.float32()) for name in INTENSITY_STATISTICS),
    ]
)

IMAGES_SCHEMA = pa.schema(
    [
        *SCREEN_SCHEMA,
        *FILE_SCHEMA,
        ("encoder", pa.string()),
        ("embedding", pa.list_(pa.float32())),
    ]
)
"""The ``images`` table, the truth: a row an image and encoder. Annotation columns of the manifest follow."""

REJECTED_SCHEMA = pa.schema([*SCREEN_SCHEMA, ("reason", pa.string()), ("encoder", pa.string())])

GROUPS_SCHEMA = pa.schema(
    [
        ("group_id", pa.string()),
        ("screen", pa.string()),
        ("compound", pa.string()),
        ("replicate", pa.string()),
        ("set", pa.int32()),
        ("field", pa.int32()),
        ("role", pa.string()),
        ("n_images", pa.int32()),
        ("n_configurations", pa.int32()),
        ("plates", pa.list_(pa.string())),
        ("wells", pa.list_(pa.string())),
        ("encoder", pa.string()),
        ("embedding", pa.list_(pa.float32())),
    ]
)

HIT_COLUMNS = ("rank", "score", "n_images", "p_value", "q_value", "same_plate")
"""What a search says of a hit, beside what is known of it."""

RESERVED = frozenset(
    {"group_id", "set", "configuration", "joined_on", Z_STACK, *QUALITY, QUALITY_FLAG, *HIT_COLUMNS}
    | ({*IMAGES_SCHEMA.names, *REJECTED_SCHEMA.names} - {*SCREEN_SCHEMA.names})
)
"""Names that grouping, searching and the store give columns of their own; a user's column needs another."""

PREDICTIONS_SCHEMA = pa.schema(
    [
        ("task", pa.string()),  # compound | moa | treatment | jump
        ("split", pa.string()),  # replicate | field | compound
        ("fold", pa.int32()),
        ("test", pa.string()),  # "new replicate" | "known wells" | "new compound"
        ("features", pa.string()),  # encoder | untrained | intensity
        ("encoder", pa.string()),
        ("head", pa.string()),
        ("group_id", pa.string()),
        ("compound", pa.string()),
        ("replicate", pa.string()),
        ("label", pa.string()),
        ("predicted", pa.string()),
        ("p_label", pa.float32()),
        ("p_predicted", pa.float32()),
        ("rank_label", pa.int32()),  # 1: the label was the most probable class
        ("top_classes", pa.list_(pa.string())),
        ("top_probabilities", pa.list_(pa.float32())),
    ]
)
"""Out-of-fold predictions of probes: a row a tested group."""


def as_called(table: pa.Table, known: Iterable[str]) -> pa.Table:
    """The table, its columns called as known ones where nothing but case differs: SQL takes both for one.

    Raises StoreError where two of its columns then have one name.
    """
    ours = {name.casefold(): name for name in known}
    names = [ours.get(name.casefold(), name) for name in table.column_names]
    for place, name in enumerate(names):
        if name.casefold() in map(str.casefold, names[:place]):
            raise StoreError(f"there are two columns for '{name}' (capitals do not count): leave one out, or rename it")
    return table.rename_columns(names)


def kept_type(name: str, kind: pa.DataType) -> pa.DataType:
    """The type in which the store keeps a user's column of this type. Raises StoreError where it has none."""
    if pa.types.is_dictionary(kind):
        return kept_type(name, kind.value_type)
    if pa.types.is_null(kind) or pa.types.is_large_string(kind) or kind == pa.string_view():
        return pa.string()
    if pa.types.is_unsigned_integer(kind):
        return pa.int64()
    if pa.types.is_nested(kind) or pa.types.is_time(kind) or pa.types.is_duration(kind) or pa.types.is_interval(kind):
        raise StoreError(f"column '{name}' holds {kind}, which the store cannot keep: make it text or numbers")
    return pa.float32() if pa.types.is_float16(kind) else kind
