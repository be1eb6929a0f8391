"""Each page's script, run by Streamlit's AppTest: what it shows for whole, poor, hostile and broken stores."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from streamlit.testing.v1 import AppTest
from tests.buckets import new_bucket
from tests.dashboard.conftest import HOSTILE, reject_one, save_head
from tests.store.fakes import fake_rows

import phenoembed_store
from phenoembed_dashboard.navigation import PAGES
from phenoembed_store import Store


def script(page: str) -> None:
    """What app.py does, with the page named instead of chosen in the sidebar."""
    from importlib import import_module

    import streamlit

    from phenoembed_dashboard.navigation import PAGES, page_of
    from phenoembed_dashboard.opened import choose_encoder, guarded, say_simulated, the_store

    streamlit.navigation([page_of(name) for name in PAGES])
    opened = False
    with guarded():
        the_store()
        choose_encoder()
        opened = True
    if opened:
        say_simulated()
        import_module(f"phenoembed_dashboard.views.{page}").page()


@pytest.fixture
def visit(monkeypatch: pytest.MonkeyPatch) -> Callable[..., AppTest]:
    """Open a page of a store, with what its address says."""

    def open_page(store: Store | Path, page: str, **query: str) -> AppTest:
        monkeypatch.setenv("PHENOEMBED_STORE", str(store.path if isinstance(store, Store) else store))
        test = AppTest.from_function(script, default_timeout=30, kwargs={"page": page})
        for name, value in query.items():
            test.query_params[name] = value
        test.run()
        assert not test.exception
        return test

    return open_page


def words(test: AppTest) -> str:
    """Everything a page says, HTML included."""
    parts = [
        str(element.proto) for kind in ("markdown", "caption", "info", "error", "code") for element in test.get(kind)
    ]
    return "\n".join([*parts, *(element.proto.body for element in test.get("html"))])


@pytest.fixture
def distant(
    shared_store: Store,
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    """A copy of the store at s3://, as ``--store`` names it."""
    pytest.importorskip("moto", reason="moto is not installed: pip install 'moto[s3,server]'")
    request.getfixturevalue("server")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.setattr("phenoembed_dashboard.catalogue.REMOTE_SECONDS", 1e-6)
    return Path(new_bucket().fill(shared_store.path, "lab"))


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")  # botocore's own
def test_a_store_in_object_storage_is_shown_as_it_is_now(
    distant: Path, visit: Callable[..., AppTest], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pictures too; and what another machine writes there meanwhile, its heads as well."""
    for page in ("compound", "map", "probes"):
        assert not visit(distant, page).error, page
    assert "data:image/webp" in words(visit(distant, "compound"))
    with monkeypatch.context() as elsewhere:
        elsewhere.setenv("XDG_CACHE_HOME", str(tmp_path))
        other = phenoembed_store.open(distant)
        other.delete_images("compound = 'aspirin'")
        save_head(other, ["taxol", "nocodazole", "staurosporine"])
    assert "aspirin" not in words(visit(distant, "compound"))
    heads = next(table.value for table in visit(distant, "store").dataframe if "classes" in table.value)
    assert heads["classes"].tolist().count(3) == 1


@pytest.mark.parametrize("page", PAGES)
def test_every_page_shows_a_whole_store(shared_store: Store, visit: Callable[..., AppTest], page: str) -> None:
    test = visit(shared_store, page)
    assert not test.error
    assert page in ("map",) or not test.info


def test_simulated_images_are_called_so(shared_store: Store, tmp_path: Path, visit: Callable[..., AppTest]) -> None:
    rows = fake_rows(["DMSO", "taxol"])
    at = rows.schema.get_field_index("screen")
    rows = rows.set_column(at, rows.schema.field(at), pa.array(["simulated-1"] * len(rows), rows.schema.types[at]))
    store = phenoembed_store.open(tmp_path / "store", create=True)
    store.write_images(rows)
    assert "Simulated data" in words(visit(store, "plate"))
    assert "Simulated data" not in words(visit(shared_store, "plate"))


def test_a_compound_and_its_filters_come_from_the_address(shared_store: Store, visit: Callable[..., AppTest]) -> None:
    """The view that a colleague sent opens as it was."""
    test = visit(shared_store, "compound", compound="staurosporine", time="72.0", apart="True", k="12")
    assert test.selectbox(key="compound").value == "staurosporine"
    assert test.multiselect(key="time").value == [72.0]
    assert test.toggle(key="apart").value is True
    assert "across plates only" in words(test)


def test_an_address_that_names_nothing_there_opens_the_first_compound(
    shared_store: Store, visit: Callable[..., AppTest]
) -> None:
    """And says so, once, whatever part of it that is."""
    test = visit(shared_store, "compound", compound="no such thing", time="1e9", k="-1", encoder="gone")
    assert test.selectbox(key="compound").value == "aspirin"
    assert not test.error
    said = "".join(warning.value for warning in test.warning).replace("\\", "")
    assert all(part in said for part in ("encoder=gone", "compound=no such thing", "time=1e9", "k=-1"))
    assert not test.run().warning
    assert not visit(shared_store, "compound", compound="taxol", time="72.0").warning
    assert len(visit(shared_store, "compound", compound=10_000 * "x").warning[0].value) < 200


def test_the_address_names_the_encoder_unless_it_is_the_first(
    store_maker: Callable[..., Store], visit: Callable[..., AppTest]
) -> None:
    """The one that is shown without an address; imported ones are called what people called them."""
    store = store_maker()
    for name in ("profiles_2025", "profiles_2026"):
        store.write_images(fake_rows(encoder=name))
    test = visit(store, "compound")
    box = test.selectbox(key="encoder")
    assert box.value == "enc0"
    assert box.options == ["enc0 · product · replicate fold 0", "profiles_2025 · imported", "profiles_2026 · imported"]
    assert "encoder" not in test.query_params
    test.selectbox(key="encoder").select("profiles_2026").run()
    assert test.query_params["encoder"] == "profiles_2026"
    test.selectbox(key="encoder").select("enc0").run()
    assert "encoder" not in test.query_params


def test_choices_are_written_into_the_address(shared_store: Store, visit: Callable[..., AppTest]) -> None:
    test = visit(shared_store, "compound")
    test.selectbox(key="compound").select("taxol").run()
    assert test.query_params["compound"] == "taxol"
    test.multiselect(key="dose").select(5.0).run()
    assert test.query_params["dose"] == "5.0"
    test.multiselect(key="dose").unselect(5.0).run()
    assert "dose" not in test.query_params


def test_a_neighbour_can_be_looked_from(shared_store: Store, visit: Callable[..., AppTest]) -> None:
    test = visit(shared_store, "compound", compound="taxol")
    nearest = shared_store.search(compound="taxol", k=1).column("compound")[0].as_py()
    test.button(key="go1").click().run()
    assert test.selectbox(key="compound").value == nearest
    assert test.query_params["compound"] == nearest


def test_a_well_can_be_the_query(shared_store: Store, visit: Callable[..., AppTest]) -> None:
    test = visit(shared_store, "compound", by="Well", plate="P2", well="A05")
    assert "P2 · A05" in words(test)
    assert not test.error


def test_switching_a_dose_off_changes_the_call(shared_store: Store, visit: Callable[..., AppTest]) -> None:
    test = visit(shared_store, "evidence", compound="taxol")
    assert "left on" not in words(test)
    pills = next(group for group in test.get("pills") if group.label == "Doses in use")
    pills.unselect(20.0).run()
    assert "4 left on" in words(test)
    pills = next(group for group in test.get("pills") if group.label == "Doses in use")
    pills.set_value([]).run()
    assert "nothing is known" in words(test)
    assert not test.exception


def test_evidence_of_controls_speaks_of_wells(shared_store: Store, visit: Callable[..., AppTest]) -> None:
    """They have no doses to switch off."""
    test = visit(shared_store, "evidence", compound="DMSO")
    assert [group.label for group in test.get("pills")] == ["Wells in use", "Times in use"]
    assert "What each well and time says" in words(test)


def test_hostile_names_are_shown_as_text(store_maker: Callable[..., Store], visit: Callable[..., AppTest]) -> None:
    store = store_maker(compounds=HOSTILE)
    visits = [("compound", name) for name in HOSTILE] + [(page, HOSTILE[0]) for page in PAGES if page != "compound"]
    for page, name in visits:
        test = visit(store, page, compound=name)
        assert not test.error
        bodies = "\n".join(element.proto.body for element in test.get("html"))
        assert "<script" not in bodies
        assert "onerror=alert(1)>" not in bodies


POOR: dict[str, dict[str, Any]] = {
    "no MoA": {"moa": False},
    "one plate": {"replicates": 1},
    "one compound": {"compounds": ["only"], "replicates": 1},
    "no predictions": {"probed": False},
    "no files": {},
    "no controls": {},
}


@pytest.mark.parametrize("poor", POOR)
def test_a_poor_store_is_no_error(store_maker: Callable[..., Store], visit: Callable[..., AppTest], poor: str) -> None:
    store = store_maker(**POOR[poor])
    if poor == "no files":
        shutil.rmtree(store.path.parent / "plates")
    if poor == "no controls":
        store.delete_images("role = 'control'")
    for page in PAGES:
        test = visit(store, page)
        assert not test.error, page
        if poor == "no files" and page == "compound":
            assert "no<br>file<span" in words(test)  # what is known of it without its picture
            said = test.info[0].value.replace("\\", "")
            assert said.startswith("None of these images can be shown")
            assert str(store.path.parent / "plates") in said
        if poor == "no predictions" and page in ("probes", "evidence"):
            assert "phenoembed probe --task compound" in test.code[0].value


def test_profiles_without_images_are_shown_by_their_effects(tmp_path: Path, visit: Callable[..., AppTest]) -> None:
    """Imported embeddings: no page asks for image files, nor for a probe that cannot be made of them."""
    rows = fake_rows(replicates=3, fields=1)
    columns = ["plate", "well", "compound", "concentration_um", "role", "moa"]
    draw = np.random.default_rng(0).normal(size=(len(rows), 4))
    profiles = pa.table({name: rows.column(name) for name in columns} | {f"f{i}": draw[:, i] for i in range(4)})
    store = phenoembed_store.open(tmp_path / "imported", create=True)
    store.import_profiles(profiles, embedding=["f0", "f1", "f2", "f3"])
    for page in PAGES:
        test = visit(store, page)
        assert not test.error, page
        said = words(test)
        assert "no<br>file" not in said
        assert "probe --task" not in said
        assert '<span class="l">0 h' not in said
    assert "×</div>" in words(visit(store, "compound"))
    assert "×</div>" in words(visit(store, "map", compound="taxol"))
    asked = visit(store, "compound", by="Image file")
    assert "an image needs an encoder that was trained here" in words(asked).replace("\\", "")
    assert not asked.get("file_uploader")
    assert "were imported" in words(visit(store, "evidence"))


def test_a_store_without_images_says_what_to_run(tmp_path: Path, visit: Callable[..., AppTest]) -> None:
    store = phenoembed_store.open(tmp_path / "empty", create=True)
    for page in PAGES:
        test = visit(store, page)
        assert not test.error
        assert "phenoembed train PLATES" in words(test)
        assert len(test.code) == 1
        assert "every image that was found" not in words(test)


def test_the_store_page_follows_the_indexes(
    store_maker: Callable[..., Store], visit: Callable[..., AppTest], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Looked at again when a search made one anew, though the tables' version stays what it was."""
    store, whole, looks = store_maker(), Store.status, []
    monkeypatch.setattr(Store, "status", lambda self: looks.append(self) or whole(self))
    for _ in range(2):
        visit(store, "store")
        assert len(looks) == 1
    (store.path / "indexes" / "enc0-8").mkdir(parents=True)
    visit(store, "store")
    assert len(looks) == 2


def test_no_store_says_what_to_run(tmp_path: Path, visit: Callable[..., AppTest]) -> None:
    test = visit(tmp_path / "nowhere", "compound")
    assert test.code[0].value.startswith("phenoembed train PLATES")


def test_a_store_that_is_written_meanwhile_is_followed(
    store_maker: Callable[..., Store], visit: Callable[..., AppTest]
) -> None:
    store = store_maker()
    test = visit(store, "compound", compound="taxol")
    store.write_images(fake_rows(["newcomer"], times=(24.0,)))
    test.run()
    assert "newcomer" in [option.split("  ·  ")[0] for option in test.selectbox(key="compound").options]
    store.delete_images("compound = 'taxol'")
    test.run()
    assert test.selectbox(key="compound").value != "taxol"
    assert not test.exception
    assert not test.error


WRITER = """
import sys, time, phenoembed_store
from tests.store.fakes import fake_rows
store = phenoembed_store.open(sys.argv[1])
print("writing", flush=True)
for i in range(1000):
    store.write_images(fake_rows([f"late {i % 7}"], times=(24.0,), seed=i))
    time.sleep(0.05)
    if i % 5 == 4:
        store.delete_images(f"compound = 'late {i % 7}'")
"""


def test_pages_hold_while_another_process_writes(
    store_maker: Callable[..., Store], visit: Callable[..., AppTest]
) -> None:
    """Every page, opened again and again between and within writes, is whole."""
    store = store_maker()
    command = [sys.executable, "-c", WRITER, str(store.path)]
    with subprocess.Popen(command, cwd=Path(__file__).parents[2], stdout=subprocess.PIPE, text=True) as writer:
        try:
            assert writer.stdout is not None
            assert writer.stdout.readline() == "writing\n"
            first = store.version
            for page in PAGES:
                assert not visit(store, page).error, page
            assert writer.poll() is None
            assert store.version > first
        finally:
            writer.kill()


def test_a_structure_is_drawn_where_smiles_are_known(
    store_maker: Callable[..., Store], visit: Callable[..., AppTest]
) -> None:
    """With RDKit; a SMILES that cannot be read is no error."""
    pytest.importorskip("rdkit", reason="rdkit is not installed")
    store = store_maker()
    smiles = {"compound": ["aspirin", "taxol"], "smiles": ["CC(=O)Oc1ccccc1C(=O)O", "not a molecule"]}
    store.annotate(pa.table(smiles))
    assert "data:image/svg+xml" in words(visit(store, "compound", compound="aspirin"))
    assert "data:image/svg+xml" not in words(visit(store, "compound", compound="taxol"))


def test_a_compound_is_found_by_its_synonyms(store_maker: Callable[..., Store], visit: Callable[..., AppTest]) -> None:
    """The choice can be typed as name, mechanism, synonym or InChIKey."""
    store = store_maker()
    known = {"compound": ["aspirin"], "synonyms": ["acetylsalicylic acid"], "inchikey": ["BSYNRYMUTXBXSQ-UHFFFAOYSA-N"]}
    store.annotate(pa.table(known))
    options = visit(store, "compound").selectbox(key="compound").options
    assert "aspirin  ·  acetylsalicylic acid  ·  BSYNRYMUTXBXSQ-UHFFFAOYSA-N" in options


def test_neighbours_may_be_kept_to_other_plates(shared_store: Store, visit: Callable[..., AppTest]) -> None:
    """Where all compounds share plates it is said once, not on every card."""
    said = words(visit(shared_store, "compound", compound="taxol"))
    assert "All of these share a plate" in said
    assert "shares a plate<" not in said


def test_a_plate_of_two_screens_is_shown_of_one(
    store_maker: Callable[..., Store], visit: Callable[..., AppTest]
) -> None:
    """Only where there is a choice is one asked for; the address keeps it."""
    store = store_maker()
    assert [box.label for box in visit(store, "plate").selectbox] == ["Plate", "Colour wells by", "Well"]
    rows = fake_rows(["DMSO", "elsewhere"])
    names = pa.array(["another screen"] * len(rows))
    store.write_images(rows.set_column(rows.column_names.index("screen"), "screen", names))
    test = visit(store, "plate", plate="P1 (another screen)", colour="compound")
    assert test.selectbox(key="plate").value == "P1 (another screen)"
    assert "elsewhere" in words(test) or "DMSO" in words(test)
    assert "taxol" not in words(test)
    test = visit(store, "compound", by="Well", plate="P1 (another screen)", well="A04")
    assert "P1 (another screen) · A04" in words(test)
    assert '"compound in this well"><bdi>elsewhere</bdi>' in words(test)
    assert "another screen, P1, field 1" in "".join(visit(store, "evidence", compound="DMSO").selectbox[1].options)


def test_evidence_of_a_head_that_does_not_add_says_so(
    store_maker: Callable[..., Store], visit: Callable[..., AppTest]
) -> None:
    """And its posterior follows when a dose is switched off."""
    store = store_maker()
    save_head(store, ("nocodazole", "taxol", "aspirin"), method="attention")
    test = visit(store, "evidence", compound="taxol")
    assert "evidence does not add" in words(test)
    pills = next(group for group in test.get("pills") if group.label == "Doses in use")
    pills.unselect(20.0).run()
    assert "4 left on" in words(test)
    assert not test.exception


def test_doses_that_the_head_never_saw_are_named(
    store_maker: Callable[..., Store], visit: Callable[..., AppTest]
) -> None:
    store = store_maker()
    save_head(store, ("nocodazole", "taxol"), method="balanced", configurations=[[1.0, 24.0], [1.0, 72.0], [5.0, 24.0]])
    said = words(visit(store, "evidence", compound="taxol"))
    assert "Doubted, for no training group had this dose and time: 5 µM, 72 h; 20 µM, 24 h; 20 µM, 72 h." in said


def test_a_damaged_store_shows_an_error_and_its_remedy(
    store_maker: Callable[..., Store], visit: Callable[..., AppTest]
) -> None:
    store = store_maker()
    for file in (store.path / "images").glob("*.parquet"):
        file.write_bytes(b"PAR1 damaged")
    for page in PAGES:
        test = visit(store, page)
        assert test.error, page
        assert "Traceback" not in words(test)


def test_rejected_images_are_listed_with_their_reasons(
    store_maker: Callable[..., Store], visit: Callable[..., AppTest]
) -> None:
    store = store_maker()
    reject_one(store)
    test = visit(store, "store")
    reasons = next(frame.value for frame in test.dataframe if "images" in frame.value.columns)
    assert reasons.to_dict("records") == [{"reason": "truncated", "images": 1}]
