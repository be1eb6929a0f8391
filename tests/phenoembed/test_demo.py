"""The demo end to end on a tiny scale, its report, and going on after an interruption."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from phenoembed.demo import STAGES, Demo, Scale, run_demo
from phenoembed.progress import Progress
from phenoembed.report import draw, shown_compounds, write_text
from PIL import Image

TINY = Scale(compounds=12, replicates=2, fields=2, size=32, epochs=1, batch_groups=6)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Demo, list[str]]:
    """A tiny demo, and the stages it went through."""
    entered: list[str] = []

    @contextmanager
    def stage(name: str) -> Iterator[Progress]:
        entered.append(name)
        yield lambda _done, _total: None

    return run_demo(tmp_path_factory.mktemp("demo"), seed=3, scale=TINY, stage=stage), entered


def test_stages(done: tuple[Demo, list[str]]) -> None:
    """The stages come in their order, each once."""
    assert done[1] == list(STAGES)


def test_document(done: tuple[Demo, list[str]]) -> None:
    """The JSON document says that the data is simulated, and holds a probe a task beside the baselines."""
    document = json.loads(json.dumps(done[0].document()))
    assert document["simulated"] is True
    assert set(document["probes"]) == {"compound", "moa", "treatment"}
    for probe in document["probes"].values():
        assert probe["simulated"] is True
        assert 0 <= probe["mean"]["top1"] <= 1
        assert set(probe["baselines"]) == {"untrained", "intensity"}
        assert all(probe["baselines"].values())
    assert 0 <= document["five_nearest_share_mechanism"]["share"] <= 1


def test_report(done: tuple[Demo, list[str]], tmp_path: Path) -> None:
    """The text names every neighbour that the search gives; the picture is a picture; both say 'simulated'."""
    demo = done[0]
    text = write_text(demo, tmp_path / "report.txt")
    assert (tmp_path / "report.txt").read_text() == text + "\n"
    assert "simulated" in text
    for compound, moa in shown_compounds(demo.screen.table):
        assert f"Nearest to {compound} ({moa})" in text
        for name in demo.store.search(compound=compound, k=5, encoder=demo.encoder).column("compound").to_pylist():
            assert name in text
    draw(demo, tmp_path / "report.png")
    with Image.open(tmp_path / "report.png") as picture:
        assert picture.width > 1000
        assert len(set(picture.convert("L").resize((64, 64)).get_flattened_data())) > 10


def test_run_again(done: tuple[Demo, list[str]]) -> None:
    """A demo that is run again trains nothing and encodes nothing, and finds the same."""
    first = done[0]
    again = run_demo(first.folder, seed=3, scale=TINY)
    assert again.encoder == first.encoder
    assert again.indexed.indexed == 0
    assert again.indexed.unchanged == first.screen.n_images
    assert again.agreement == first.agreement
