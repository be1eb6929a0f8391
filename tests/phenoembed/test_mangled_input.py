"""No input file, however mangled, gives a traceback: manifests, layouts and what instruments write, mutated."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from phenoembed.readers import read_screen
from phenoembed.readers.layout import read_layout
from phenoembed.screen import Screen
from tests.phenoembed.test_readers_cv8000 import export, record
from tests.phenoembed.test_readers_instruments import entry, header, index_file, touch
from tests.phenoembed.test_readers_ome import PLATE, ome_tiff, zarr_plate

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
    """A file to be mangled: how its surroundings are made, what reads it, and what puts mangled bytes in its place."""

    make: Callable[[Path], Path]
    read: Callable[[Path], object]
    write: Callable[[Path, bytes], object] = Path.write_bytes
    whole: Callable[[Path], bytes] = Path.read_bytes
    soak: int = 10_000


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


PIXELS = np.arange(2 * 2 * 1 * 12 * 12, dtype=np.uint16).reshape(2, 2, 1, 12, 12)  # t, c, z, y, x


def _zarr(version: int, name: str) -> Callable[[Path], Path]:
    return lambda folder: zarr_plate(folder, version, {"A/1": PIXELS, "P/24": PIXELS}) / name


def _ome_tiff(folder: Path) -> Path:
    return ome_tiff(folder / "w.ome.tif", PIXELS, PLATE)


def _ome_xml(path: Path) -> bytes:
    text = tifffile.tiffcomment(path)
    assert isinstance(text, str)
    return text.encode()


def _with_ome_xml(path: Path, text: bytes) -> None:
    tifffile.imwrite(path, PIXELS, photometric="minisblack", metadata=None, description="<OME " + "x" * 10 + "</OME>")
    tifffile.tiffcomment(path, text)


def _pattern(folder: Path) -> Path:
    """A pattern is no file of a screen; here it lies in one, which is read and given as the option."""
    touch(folder, "P1/A01_f1_w2_t1.tif", "P1/B02_f2_w2_t2.tif")
    (folder / "pattern").write_text(r"(?P<plate>.+)/(?P<well>[A-P]\d\d)_f(?P<field>\d+)_w\d_t(?P<time_point>\d)\.tif")
    return folder / "pattern"


def _by_pattern(path: Path) -> object:
    return read_screen(path.parent, pattern=path.read_bytes().decode("latin-1"), dry_run=True)


def _screen(**options: object) -> Callable[[Path], object]:
    return lambda path: read_screen(path.parent, **options)  # type: ignore[arg-type]


def _zarr_screen(path: Path) -> object:
    plate = next(above for above in path.parents if above.name == "MyPlate.ome.zarr")
    return read_screen(plate.parent, dry_run=True)


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
    "ome-tiff": Kind(_ome_tiff, _screen(dry_run=True, times={1: 24.0, 2: 48.0}), soak=2_000),
    "ome-xml": Kind(_ome_tiff, _screen(dry_run=True, times={1: 24.0, 2: 48.0}), _with_ome_xml, _ome_xml, soak=2_000),
    "zarr 0.4": Kind(_zarr(2, ".zattrs"), _zarr_screen, soak=1_000),
    "zarr 0.5": Kind(_zarr(3, "zarr.json"), _zarr_screen, soak=1_000),
    "zarr 0.4 well": Kind(_zarr(2, "A/1/.zattrs"), _zarr_screen, soak=1_000),
    "zarr 0.5 image": Kind(_zarr(3, "A/1/0/zarr.json"), _zarr_screen, soak=1_000),
    "zarr 0.4 array": Kind(_zarr(2, "A/1/0/0/.zarray"), _zarr_screen, soak=1_000),
    "zarr 0.5 array": Kind(_zarr(3, "A/1/0/0/zarr.json"), _zarr_screen, soak=1_000),
    "pattern": Kind(_pattern, _by_pattern),
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


def try_one(kind: Kind, path: Path, content: bytes) -> tuple[str, ...]:
    """Read a file with this content: it is read, or refused in words, a line each. The faults and reasons."""
    kind.write(path, content)
    told: list[str] = []
    try:
        found = kind.read(path)
        told += found.rejected.column("reason").to_pylist() if isinstance(found, Screen) else []
    except PhenoembedError as error:
        told += getattr(error, "faults", (str(error),))
        assert told
    except Exception as error:
        raise AssertionError(f"{error!r} of {content[:2000]!r}") from error
    assert not [line for line in told if len(line.splitlines()) != 1]
    return tuple(told)


def prepare(folder: Path, kind: Kind) -> tuple[Path, bytes]:
    folder.mkdir()
    path = kind.make(folder)
    whole = kind.whole(path)
    kind.read(path)
    return path, whole


@pytest.mark.parametrize("name", KINDS)
def test_mangled_files_are_read_or_refused_in_words(tmp_path: Path, name: str) -> None:
    """40 mutations of each kind of file; what hypothesis finds it makes small."""
    kind = KINDS[name]
    path, whole = prepare(tmp_path / "x", kind)
    refused: list[tuple[str, ...]] = []

    @settings(max_examples=40, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(st.randoms(use_true_random=False))
    def check(draw: random.Random) -> None:
        refused.append(try_one(kind, path, mangled(whole, draw)))

    check()
    assert any(refused) or name in ("mrf", "wpi"), "none of them was mangled"


@pytest.mark.soak
@pytest.mark.parametrize("name", KINDS)
def test_thousands_of_mangled_files(tmp_path: Path, name: str) -> None:
    """The same from seeds: 10,000 of each kind that is quick to read, 1,000 or 2,000 of the others."""
    kind = KINDS[name]
    path, whole = prepare(tmp_path / "x", kind)
    for seed in range(kind.soak):
        try_one(kind, path, mangled(whole, random.Random(seed)))
