"""The reader of Yokogawa CV7000 and CV8000 exports: every ``MeasurementData.mlf`` in a folder's tree is a plate.

Where an image stands (well, field, time point, plane, channel) is what its record says, never its file's name.
"""

import os
from pathlib import Path

from phenoembed.readers.bts import DATA, read_export, stray_record
from phenoembed.readers.exports import Export, Record, assemble
from phenoembed.readers.options import Options
from phenoembed.readers.sheet import Faults
from phenoembed.readers.tree import Tree, folders_with
from phenoembed.screen import Screen


def is_cv8000(tree: Tree) -> bool:
    return bool(folders_with(tree, DATA.__eq__))


def read_cv8000(folder: Path, tree: Tree, options: Options) -> Screen:
    """Read every export at or below a folder as one screen. Raises ``ManifestError`` with all of its faults."""
    faults = Faults(str(folder))
    exports = [read_export(each.folder, faults) for each in folders_with(tree, DATA.__eq__)]
    if not exports:
        faults.add(f"there is no {DATA}")
    if options.check_files:
        exports = [each._replace(records=[*each.records, *_strays(each)]) for each in exports]
    return assemble(folder, "cv8000", exports, options, faults)


def _strays(export: Export) -> list[Record]:
    """Image files that no record lists."""
    listed = {record.file for record in export.records if record.file is not None}
    found = (stray_record(name) for name in sorted({*os.listdir(export.folder)} - listed))
    return [record for record in found if record is not None]
