"""What the pages compute, against independent oracles and without a browser."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, balanced_accuracy_score, f1_score, roc_auc_score
from tests.dashboard.conftest import HOSTILE, save_head
from tests.store.fakes import fake_rows

from phenoembed_dashboard import catalogue as catalogue_module
from phenoembed_dashboard import palette
from phenoembed_dashboard.catalogue import open_catalogue, stamp
from phenoembed_dashboard.downloads import to_csv
from phenoembed_dashboard.effect import Effects, effects
from phenoembed_dashboard.evidence import group_choices, group_evidence
from phenoembed_dashboard.figures import histogram, plate_map
from phenoembed_dashboard.maps import _umap_in_child, colouring, make_map, principal_components
from phenoembed_dashboard.markup import strip_html, text
from phenoembed_dashboard.neighbours import Filters, Query, find_neighbours, where
from phenoembed_dashboard.probing import (
    class_scores,
    confusions,
    f1_by_class,
    figure_of,
    pr_points,
    prediction_rows,
    roc_points,
    top_k_rows,
)
from phenoembed_dashboard.strips import compound_strip, control_strip, dose_label, spread
from phenoembed_dashboard.support import replicates, support
from phenoembed_store import Store
from phenoembed_store.errors import NotInStore, StoreError


def test_a_catalogue_follows_the_store(store_maker: Callable[..., Store]) -> None:
    """A new version is read, an unchanged one is not read again."""
    store = store_maker()
    first = open_catalogue(store.path)
    assert open_catalogue(store.path) is first
    before = stamp(store.path)
    store.write_images(fake_rows(["newcomer"], times=(24.0,)))
    assert stamp(store.path) != before
    assert "newcomer" in open_catalogue(store.path).compounds
    with pytest.raises(NotInStore):
        first.rows_of("newcomer")


def test_what_one_visitor_chose_is_not_another_s_default(store_maker: Callable[..., Store]) -> None:
    store = store_maker()
    store.write_images(fake_rows(encoder="enc1"))
    default = open_catalogue(store.path).encoder
    (other,) = {"enc0", "enc1"} - {default}
    assert open_catalogue(store.path, other).encoder == other
    assert open_catalogue(store.path).encoder == default
    again = open_catalogue(store.path)
    assert open_catalogue(store.path, default) is again


def test_two_encoders_do_not_evict_each_other_where_both_fit(
    store_maker: Callable[..., Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ones asked for last stay, as many bytes as may be held; a new version lets all older ones go."""
    store = store_maker()
    for encoder in ("enc1", "enc2"):
        store.write_images(fake_rows(encoder=encoder))
    monkeypatch.setattr(catalogue_module, "_HELD", {})
    one, two = (open_catalogue(store.path, encoder) for encoder in ("enc0", "enc1"))
    assert open_catalogue(store.path, "enc0") is one
    assert open_catalogue(store.path, "enc1") is two
    assert two.n_bytes >= two.vectors.nbytes + two.table.nbytes
    monkeypatch.setattr(catalogue_module, "HELD_BYTES", 2 * (two.n_bytes + 1))
    three = open_catalogue(store.path, "enc2")  # room for one beside it: the last asked for
    assert open_catalogue(store.path, "enc1") is two
    assert open_catalogue(store.path, "enc2") is three
    assert open_catalogue(store.path, "enc0") is not one
    monkeypatch.setattr(catalogue_module, "HELD_BYTES", 0)
    assert open_catalogue(store.path, "enc1") is open_catalogue(store.path, "enc1")  # one, whatever its size
    store.write_images(fake_rows(["newcomer"], times=(24.0,)))
    open_catalogue(store.path, "enc0")
    assert len(catalogue_module._HELD) == 1


def test_neighbours_are_those_of_the_store(shared_store: Store) -> None:
    catalogue = open_catalogue(shared_store.path)
    found = find_neighbours(shared_store, catalogue, Query(compound="taxol"), Filters(), 5)
    hits = shared_store.search(compound="taxol", k=5)
    assert [hit.compound for hit in found.neighbours] == hits.column("compound").to_pylist()
    assert [hit.similarity for hit in found.neighbours] == hits.column("score").to_pylist()
    assert all(hit.same_plate for hit in found.neighbours)


def test_filters_become_one_condition(store_maker: Callable[..., Store]) -> None:
    """Names with quotes stay names; a mechanism filter keeps the query's own images."""
    store = store_maker(compounds=HOSTILE)
    catalogue = open_catalogue(store.path)
    filters = Filters(doses=(1.0, 5.0), times=(24.0,), plates=("P1",), moas=("it's",))
    for name in HOSTILE:
        rows = shared = store.vectors(where(catalogue, filters, Query(compound=name)))[0]
        assert set(shared.column("compound").to_pylist()) <= {name, "DMSO"}
        assert len(rows) == 4
        assert find_neighbours(store, catalogue, Query(compound=name), Filters(times=(24.0,)), 3).neighbours


@pytest.mark.parametrize("method", ["product", "baseline", "balanced", "attention", "embedding-mean", "instance-lse"])
def test_evidence_is_the_store_s_posterior(store_maker: Callable[..., Store], method: str) -> None:
    """With images switched off too, and for a head of any method: the store's posterior of the group without them."""
    store = store_maker()
    head = store.head(save_head(store, ("a", "b", "c"), method=method, temperature=1.7))
    catalogue = open_catalogue(store.path)
    group = group_choices(store, catalogue, "taxol")[0]
    evidence = group_evidence(catalogue, head, group.group_id, "taxol")
    mine = f"group_id = '{group.group_id}'"
    for condition, kept in (
        (mine, np.ones(6, np.bool_)),
        (f"{mine} AND concentration_um > 1", np.array([r["concentration_um"] > 1 for r in evidence.records])),
        (f"{mine} AND time_h = 72", np.array([r["time_h"] == 72 for r in evidence.records])),
    ):
        expected = store.posterior(head, condition).column("probabilities")[0].as_py()
        np.testing.assert_allclose(evidence.posterior(kept), expected, rtol=1e-5)
    assert evidence.posterior(np.zeros(6, np.bool_)) == pytest.approx(np.full(3, 1 / 3))
    assert evidence.adds == (method in ("product", "baseline", "balanced"))


def test_evidence_doubts_doses_that_the_head_never_saw(store_maker: Callable[..., Store]) -> None:
    """As the store's posterior does; and otherwise than if it had seen all of them."""
    store = store_maker()
    catalogue = open_catalogue(store.path)
    group = group_choices(store, catalogue, "taxol")[0]
    table, _ = store.vectors(f"group_id = '{group.group_id}'")
    seen = [
        list(pair) for pair in zip(*(table.column(c).to_pylist() for c in ("concentration_um", "time_h")), strict=True)
    ]
    found = []
    for known in (seen[1:], seen):
        head = store.head(save_head(store, ("a", "b", "c"), method="balanced", configurations=known))
        evidence = group_evidence(catalogue, head, group.group_id, "taxol")
        assert evidence.new.sum() == len(seen) - len(known)
        expected = store.posterior(head, f"group_id = '{group.group_id}'").column("probabilities")[0].as_py()
        np.testing.assert_allclose(evidence.posterior(), expected, rtol=1e-5)
        found.append(evidence.posterior())
    assert not np.allclose(*found)


def test_what_images_do_sums_to_the_log_odds(shared_store: Store) -> None:
    """Where evidence adds, the images' shares of it add up to that of the group."""
    catalogue = open_catalogue(shared_store.path)
    group = group_choices(shared_store, catalogue, "taxol")[0]
    evidence = group_evidence(catalogue, shared_store.head("compound"), group.group_id, "taxol")
    posterior = evidence.posterior()
    assert evidence.log_odds(0, 1).sum() == pytest.approx(np.log(posterior[0] / posterior[1]))
    kept = np.array([True, False, True, True, True, True])
    assert evidence.log_odds(0, 1, kept)[1] == 0
    np.testing.assert_allclose(evidence.log_odds(0, 1, kept)[kept], evidence.log_odds(0, 1)[kept], atol=1e-5)


def test_groups_that_the_encoder_never_saw_come_first(shared_store: Store) -> None:
    choices = group_choices(shared_store, open_catalogue(shared_store.path), "taxol")
    assert [choice.unseen for choice in choices] == ["new replicate"] * 2 + ["known wells"] * 2


def test_probe_figures_agree_with_scikit_learn(shared_store: Store) -> None:
    rows = prediction_rows(shared_store, open_catalogue(shared_store.path))
    truth, called = [row["label"] for row in rows], [row["predicted"] for row in rows]
    assert figure_of(rows, "balanced") == pytest.approx(balanced_accuracy_score(truth, called))
    assert figure_of(rows, "f1") == pytest.approx(f1_score(truth, called, average="macro"))
    labels = sorted(set(truth))
    assert list(f1_by_class(rows).values()) == pytest.approx(f1_score(truth, called, average=None, labels=labels))
    is_taxol, scores = class_scores(rows, "taxol")
    assert roc_points(is_taxol, scores)[1] == pytest.approx(roc_auc_score(is_taxol, scores))
    assert pr_points(is_taxol, scores)[1] == pytest.approx(average_precision_score(is_taxol, scores))


def test_curves_count_ties_as_ties() -> None:
    draw = np.random.default_rng(0)
    truth, scores = draw.random(80) < 0.4, draw.integers(0, 5, 80) / 4
    assert roc_points(truth, scores)[1] == pytest.approx(roc_auc_score(truth, scores))
    assert pr_points(truth, scores)[1] == pytest.approx(average_precision_score(truth, scores))


def test_confusions_are_counted_most_frequent_first(shared_store: Store) -> None:
    rows = prediction_rows(shared_store, open_catalogue(shared_store.path))
    pairs = confusions(rows)
    assert sum(pair.n for pair in pairs) == sum(row["label"] != row["predicted"] for row in rows)
    assert [pair.n for pair in pairs] == sorted((pair.n for pair in pairs), reverse=True)
    assert {row["y"] for row in top_k_rows(rows, 5) if row["x"] == 5} == {1.0}


def test_features_have_one_colour_in_all_figures(shared_store: Store) -> None:
    """Further tests of the trained encoder have colours of their own, chance that of its tick."""
    rows = prediction_rows(shared_store, open_catalogue(shared_store.path))
    colours = {row["series"]: row["colour"] for row in top_k_rows(rows, 5)}
    assert colours["trained encoder: new replicate"] == palette.FEATURES["trained encoder"]
    assert colours["chance"] == palette.ORANGE
    assert len(set(colours.values())) == len(colours)


def test_a_histogram_counts_in_whole_numbers() -> None:
    def ticks(values: list[float]) -> list[int]:
        found: list[int] = histogram(values, "F1").to_dict()["encoding"]["y"]["axis"]["values"]
        return found

    assert ticks([0.05, 0.05, 0.35]) == [0, 1, 2]
    assert ticks([0.5] * 40) == [0, 7, 14, 21, 28, 35]


def test_strips_keep_to_a_field_and_say_what_they_leave_out(shared_store: Store) -> None:
    catalogue = open_catalogue(shared_store.path)
    strip = compound_strip(catalogue, catalogue.rows_of("taxol"), field=2, plates=(catalogue.plates["P2"].code,))
    assert strip.columns == ("1 µM", "5 µM", "20 µM")
    assert strip.lines == ("24 h", "72 h")
    assert {(r["field"], r["plate"]) for r in strip.records()} == {(2, "P2")}
    controls = control_strip(catalogue, like=strip, field=2)
    assert {(r["role"], r["plate"], r["field"]) for r in controls.records()} == {("control", "P2", 2)}
    assert spread(range(10), 4) == [0, 3, 6, 9]


def test_doses_are_written_as_people_write_them() -> None:
    assert [dose_label(x) for x in (0.5, 10.0, 0.001, 1234.0, float("nan"))] == [
        "0.5 µM",
        "10 µM",
        "1 nM",
        "1234 µM",
        "no dose",
    ]


def test_no_name_becomes_markup(store_maker: Callable[..., Store]) -> None:
    store = store_maker(compounds=HOSTILE)
    catalogue = open_catalogue(store.path)
    drawn = strip_html(compound_strip(catalogue, catalogue.rows_of(HOSTILE[0])), lambda _: None)
    assert "<script" not in drawn
    assert "<img" not in drawn
    assert text(HOSTILE[1]).count("&quot;") == 2


def test_principal_components_are_scikit_learn_s() -> None:
    from sklearn.decomposition import PCA

    vectors = np.random.default_rng(0).normal(size=(60, 7)).astype(np.float32) * np.arange(1, 8, dtype=np.float32)
    points, shares = principal_components(vectors)
    model = PCA(2).fit(vectors)
    np.testing.assert_allclose(np.abs(points), np.abs(model.transform(vectors)), rtol=1e-3, atol=1e-3)
    assert shares == pytest.approx(model.explained_variance_ratio_.tolist(), rel=1e-4)


def test_no_colour_stands_for_two_categories() -> None:
    """On maps and plates: the most frequent have one each, the others are called so; "unknown" is no other."""
    rows = [{"value": f"drug {i % 30:02d}", "row": "A", "column": i + 1, "says": ""} for i in range(48)]
    values, order, palette = colouring(rows, "value")
    assert len(order) == len(palette) == len(set(palette)) == 8
    assert set(values) == set(order)
    assert order[-1] == "other"
    drawn = plate_map(
        [{**r, "colour": v} for r, v in zip(rows, values, strict=True)], (["A"], [1]), "x", order, palette
    )
    scale = drawn.to_dict()["layer"][1]["encoding"]["color"]["scale"]
    assert (scale["domain"], scale["range"]) == (order, palette)
    seven = [{"value": f"drug {i}"} for i in range(7)]
    assert colouring([*seven, {"value": None}], "value")[1][-1] == "unknown"
    assert colouring([*seven, {"value": "drug 7"}, {"value": None}], "value")[1][-1] == "other"


def test_a_map_is_kept_in_the_store_and_made_anew_when_damaged(store_maker: Callable[..., Store]) -> None:
    store = store_maker()
    catalogue = open_catalogue(store.path)
    made = make_map(store, catalogue, "PCA", "group")
    (file,) = (store.path / "maps").glob("*.npz")
    assert len(made.rows) == made.n == len(store.groups())
    for damaged in (b"damaged", file.read_bytes()[:200], b""):
        file.write_bytes(damaged)
        assert make_map(store, catalogue, "PCA", "group") == made


def test_maps_of_two_encoders_stay_and_those_of_older_versions_go(
    store_maker: Callable[..., Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = store_maker()
    store.write_images(fake_rows(encoder="enc1"))
    for encoder in ("enc0", "enc1", "enc0"):
        make_map(store, open_catalogue(store.path, encoder), "PCA", "group")
    first = set((store.path / "maps").iterdir())
    assert len(first) == 2
    earlier, other = (store.path / "maps" / f"{method}-group-0123456789abcdef.npz" for method in ("pca", "umap"))
    for name in (earlier, other):  # as maps were called before the encoder's hash stood in their names
        name.write_bytes(b"")
    store.write_images(fake_rows(["newcomer"], times=(24.0,), encoder="enc1"))
    make_map(store, open_catalogue(store.path, "enc1"), "PCA", "group")
    assert len(first & set((store.path / "maps").iterdir())) == 1
    assert not earlier.exists()
    other.unlink()  # of another method: not superseded
    assert len(list((store.path / "maps").iterdir())) == 2

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    assert make_map(store, open_catalogue(store.path, "enc1"), "PCA", "dose").n
    assert len(list((store.path / "maps").iterdir())) == 2  # nothing half written


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("raise ValueError('n_neighbors must be greater than 1')", "ValueError: n_neighbors must be greater than 1"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "killed by signal 9, for memory perhaps"),
        ("import os; os._exit(3)", "it ended early"),
    ],
)
def test_a_umap_that_fails_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, says: str) -> None:
    """The library's own words; memory only where the system killed it."""
    (tmp_path / "umap.py").write_text(f"class UMAP:\n    def __init__(self, **_):\n        {line}\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(StoreError, match=re.escape(f"UMAP failed ({says}); choose PCA")):
        _umap_in_child(np.eye(4, dtype=np.float32))


def test_tables_become_csv() -> None:
    assert to_csv([{"a": 'x"y', "b": [1, 2]}, {"a": None, "b": []}]) == 'a,b\n"x""y","[1, 2]"\n,[]\n'


def test_support_counts_replicates_in_which_a_neighbour_comes_out_again(store_maker: Callable[..., Store]) -> None:
    """Against plain loops over the groups; filtered that lets everything pass, the same."""
    store = store_maker(replicates=3)
    catalogue, groups = open_catalogue(store.path), store.groups("enc0").to_pylist()
    found = support(replicates(store, catalogue, Filters()), "taxol")
    assert support(replicates(store, catalogue, Filters(times=(24.0, 72.0))), "taxol") == found
    times: dict[str, int] = {}
    for replicate in ("P1", "P2", "P3"):
        mine = np.sum([g["embedding"] for g in groups if (g["compound"], g["replicate"]) == ("taxol", replicate)], 0)
        scores = {}
        for name in {g["compound"] for g in groups} - {"taxol"}:
            theirs = np.sum(
                [g["embedding"] for g in groups if g["compound"] == name and g["replicate"] != replicate], 0
            )
            scores[name] = mine @ theirs / np.linalg.norm(mine) / np.linalg.norm(theirs)
        nearest = max(scores, key=lambda name: scores[name])
        times[nearest] = times.get(nearest, 0) + 1
    assert {name: n for name, n in found.found_in.items() if n} == times
    assert (found.replicates, found.nearest) == (3, 1)


def test_effects_are_one_for_untreated_wells_and_large_for_what_lies_far(store_maker: Callable[..., Store]) -> None:
    """In units of the spread among DMSO wells, per dose and time, by plain loops."""
    store = store_maker(replicates=1)
    catalogue = open_catalogue(store.path)
    found = effects(catalogue, catalogue.rows_of("taxol"))
    table, vectors = store.vectors()
    rows = table.to_pylist()
    at = [i for i, row in enumerate(rows) if row["role"] == "control" and row["time_h"] == 24]
    far = []
    for i in at:
        others = np.mean([vectors[j] for j in at if rows[j]["well"] != rows[i]["well"]], axis=0)
        far.append(np.linalg.norm(vectors[i] - others))
    centre = np.mean(vectors[at], axis=0)
    mine = [
        np.linalg.norm(vectors[i] - centre)
        for i, row in enumerate(rows)
        if (row["compound"], row["concentration_um"], row["time_h"]) == ("taxol", 5.0, 24.0)
    ]
    assert found.of[5.0, 24.0] == pytest.approx(np.median(mine) / np.median(far), rel=1e-5)
    assert "Differs from untreated cells" in found.sentence(True)
    assert effects(catalogue, catalogue.control_rows).clear() == []


def test_only_effects_beyond_the_usual_are_coloured() -> None:
    """Those that 95% of untreated wells stay below are not, on pictures and on profiles without."""
    found = Effects({(1.0, 24.0): 1.5, (5.0, 24.0): 2.5}, usual=2.0)
    weak, strong = (found.note({"role": "treated", "concentration_um": dose, "time_h": 24.0}) for dose in (1.0, 5.0))
    assert weak is not None
    assert strong is not None
    assert (weak.text, weak.hot, weak.strength) == ("1.5×", False, 0.0)
    assert (strong.text, strong.hot, strong.strength) == ("2.5×", True, 0.5)
    assert found.note({"role": "control", "concentration_um": 0.0, "time_h": 24.0}) is None
    weak_alone = Effects({(1.0, 0.0): 1.5}, usual=2.0)
    assert "at every dose (at most 1.5×" in weak_alone.sentence(timed=False)
    assert "at every dose and time (at most 1.5×" in weak_alone.sentence(timed=True)


def test_effects_need_three_control_wells(store_maker: Callable[..., Store]) -> None:
    store = store_maker()
    store.delete_images("role = 'control' AND well > 'A02'")
    catalogue = open_catalogue(store.path)
    found = effects(catalogue, catalogue.rows_of("taxol"))
    assert found.of == {}
    assert "Too few DMSO wells" in found.sentence(True)
