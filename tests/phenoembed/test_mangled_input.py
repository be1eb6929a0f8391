"""No input file, however mangled, gives a traceback: manifests, layouts and what instruments write, mutated."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from phenoembed.readers import read_screen
from phenoembed.readers.layout import read_layout
from tests.phenoembed.test_readers_cv8000 import export, record
from tests.phenoembed.test_readers_instruments import entry, header, index_file, touch

from phenoembed_store.errors import PhenoembedError

MANIFEST = (
    "path,plate,well,field,time_h,compound,concentration_um,moa\n"
    "a.tif,P1,A01,1,24,DMSO,,\nb.tif,P1,A02,1,24,taxol,0.5,tubulin\nc.tif,P1,A03,1,24,taxol,5,tubulin\n"
)
PLATE_MAP = (
    "well_position\tbroad_sample\tconcentration\tplate\nA01\tBRD-1\t5 uM\tP1\nA02\t\t\tP1\nB03\tBRD-2\t21 nM\tP1\n"
)
PICKLIST = (
    "Source Well,Destination Plate Barcode,Destination Well,Transfer Volume,Sample Name,Destination Concentration,"
    "Destination Concentration Units\nA1,P1,B2,25,taxol,500,nM\nA2,P1,B3,25,DMSO,0,\n"
)
BARCODES = "Assay_Plate_Barcode,Plate_Map_Name\nP1,map\nP2,map\n"
LOADDATA = (
    "FileName_DNA,PathName_DNA,Metadata_Plate,Metadata_Well,Metadata_Site\na.tif,/x,P1,A01,1\nb.tif,/x,P1,A02,2\n"
)
WORDS = (
    b"", b"\0", b"\xff", b"\xef\xbb\xbf", b"\r", b"\n", b'"', b",", b";", b"\t", b"NaN", b"inf", b"-1", b"1e999",
    b"Z99", b"<", b"&", b"]]>", b"<!--", b"<!DOCTYPE x [<!ENTITY y 'z'>]>", b"TRUE", "µ".encode(), "\u2028".encode(),
    b"../..", b"9" * 400, b"#page=1", b"5 uM", b"path", b"well", b"time_h", b"plate", b"True", b"1_000", b"0x10",
    "\u0661".encode(), b"a" * 5000,
)  # fmt: skip


class Kind(NamedTuple):
    """A file to be mangled: how its surroundings are made, and what reads it."""

    make: Callable[[Path], Path]
    read: Callable[[Path], object]


def _text(name: str, content: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / name).write_text(content)
        touch(folder, "a.tif", "b.tif", "c.tif")
        (folder / "map.txt").write_text(PLATE_MAP)
        return folder / name

    return make


def _cv8000(name: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        export(folder, record("A01"), record("A02", time=2, hours=24), record("A03", Type="ERR", text="no focus"))
        return folder / name

    return make


def _phenix(folder: Path) -> Path:
    index_file(folder, entry(), entry(FieldID=4, URL="second.tiff"))
    return touch(folder, "r01c02f03p01-ch1sk1fk1fl1.tiff", "second.tiff") / "Index.idx.xml"


def _screen(**options: object) -> Callable[[Path], object]:
    return lambda path: read_screen(path.parent, **options)  # type: ignore[arg-type]


def _layout(path: Path) -> object:
    return read_layout(path, {})


KINDS = {
    "manifest": Kind(_text("manifest.csv", MANIFEST), _screen()),
    "loaddata": Kind(_text("load_data.csv", LOADDATA), _screen(dry_run=True, mapping={"time_h": "48 h"})),
    "layout": Kind(_text("layout.csv", "well,compound,concentration_um\nA01,taxol,1\nA02,DMSO,\n"), _layout),
    "plate map": Kind(_text("map.csv", PLATE_MAP), _layout),
    "picklist": Kind(_text("echo.csv", PICKLIST), _layout),
    "barcodes": Kind(_text("barcode_platemap.csv", BARCODES), _layout),
    "mlf": Kind(_cv8000("MeasurementData.mlf"), _screen(dry_run=True)),
    "mrf": Kind(_cv8000("MeasurementDetail.mrf"), _screen(dry_run=True)),
    "wpi": Kind(_cv8000("p.wpi"), _screen(dry_run=True)),
    "phenix": Kind(_phenix, _screen(dry_run=True)),
    "imagexpress": Kind(
        lambda folder: touch(header(folder, '"WellsSelection1", TRUE, FALSE'), "Exp1_A01_s1_w1.tif") / "Exp1.HTD",
        _screen(dry_run=True),
    ),
}  # fmt: skip


def mangled(content: bytes, draw: random.Random) -> bytes:
    """The content after one to four mutations: bytes and lines cut, doubled, swapped, replaced by what does harm."""
    for _ in range(draw.randint(1, 4)):
        start = draw.randint(0, len(content))
        end = min(len(content), start + draw.choice((0, 1, 3, 20, 200)))
        lines = content.split(b"\n")
        match draw.randint(0, 5):
            case 0:
                content = content[:start] + content[end:]
            case 1:
                content = content[:start] + draw.choice(WORDS) + content[end:]
            case 2:
                content = content[:end] + content[start:]
            case 3:
                content = content[:start]
            case 4:
                draw.shuffle(lines)
                content = b"\n".join(lines)
            case 5:
                line = draw.randrange(len(lines))
                cells = lines[line].split(b",")
                cells[draw.randrange(len(cells))] = draw.choice(WORDS)
                lines[line] = b",".join(cells)
                content = b"\n".join(lines)
    return content


def try_all(folder: Path, kind: Kind, n: int, seed: int) -> int:
    """Read ``n`` mutations: each is read, or refused in words, one line a fault. How many were refused."""
    draw, refused, told = random.Random(seed), 0, list[str]()
    folder.mkdir()
    path = kind.make(folder)
    whole = path.read_bytes()
    kind.read(path)
    for number in range(n):
        path.write_bytes(mangled(whole, draw))
        try:
            kind.read(path)
        except PhenoembedError as error:
            refused += 1
            told += getattr(error, "faults", (str(error),))
        except Exception as error:
            kept = path.read_bytes()
            raise AssertionError(f"mutation {number} of seed {seed} gives {error!r}: {kept[:2000]!r}") from error
    assert not [fault for fault in told if "\n" in fault]
    return refused


@pytest.mark.parametrize("name", KINDS)
def test_mangled_files_are_read_or_refused_in_words(tmp_path: Path, name: str) -> None:
    """60 mutations of each kind of file."""
    refused = try_all(tmp_path / "x", KINDS[name], 60, seed=0)
    assert refused > 0 or name in ("mrf", "wpi"), "none of them was mangled"


@pytest.mark.soak
@pytest.mark.parametrize("name", KINDS)
def test_ten_thousand_mangled_files(tmp_path: Path, name: str) -> None:
    try_all(tmp_path / "x", KINDS[name], 10_000, seed=1)
