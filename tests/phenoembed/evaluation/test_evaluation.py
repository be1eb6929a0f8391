"""The paper's experiments on embeddings whose truth is drawn, against group-by-group arithmetic."""

import itertools
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from phenoembed.encoders import load_classifier
from phenoembed.evaluation.configurations import best_shares
from phenoembed.evaluation.duplicates import DOSES, FIELDS, UNEVEN, with_dmso_doses, with_other_fields
from phenoembed.evaluation.held_out import HeldOut, find_trials
from phenoembed.evaluation.network import compound_distances, read_links
from phenoembed.evaluation.outcome import Outcome, data_of
from phenoembed.evaluation.probed import probe_rows
from phenoembed.evaluation.tally import PAPER
from phenoembed.folds import SPLITS, TEST_NAMES, keep_back, make_fold
from phenoembed.heads import FitSettings
from phenoembed.settings import Settings
from phenoembed.tasks import JUMP_SCREEN
from sklearn.metrics import f1_score
from tests.phenoembed.evaluation.conftest import COMPOUNDS, Drawn, screen_table, train_on_drawn, write

import phenoembed_store
from phenoembed import outcomes
from phenoembed.evaluation import EXPERIMENTS, NAMES, evaluate
from phenoembed_store import Store
from phenoembed_store.errors import NotInStore, TrainingError

Key = tuple[str, Any, int]
PRODUCT: Key = ("product", "replicate", 0)


def logits_of(drawn: Drawn, key: Key) -> np.ndarray:
    """(images, classes) of the encoder's own classifier, from the network itself."""
    head = load_classifier(drawn.store.path, drawn.encoders[key])
    with torch.inference_mode():
        found: np.ndarray = head.classifier(torch.from_numpy(drawn.features)).double().numpy()
    return found


def places_of(drawn: Drawn, key: Key, ids: str = "test") -> list[int]:
    """Places of the treated groups of a fold's test."""
    places = drawn.groups.places(getattr(drawn.folds[key], ids))
    return [place for place in places if drawn.groups.roles[place] == "treated"]


def by_hand(drawn: Drawn, key: Key, score: Callable[[np.ndarray, int], np.ndarray], ids: str = "test") -> float:
    """Share of groups whose compound has the highest score; ``score(logits, place)`` of one group."""
    logits = logits_of(drawn, key)
    hits = [
        COMPOUNDS[int(score(logits, place).argmax())] == drawn.groups.compounds[place]
        for place in places_of(drawn, key, ids)
    ]
    return float(np.mean(hits))


def mean_of(rows: list[dict[str, Any]], figure: str = "top1", **kept: Any) -> float:
    """The mean of a figure in the one row of a document with these values."""
    (row,) = [row for row in rows if all(row[name] == value for name, value in kept.items())]
    return float(row["mean"][figure])


NEW = {"split": "replicate", "test": "new replicate"}


def test_methods_are_compared_on_groups_that_they_never_saw(drawn: Drawn) -> None:
    """Top-1 of two folds, new replicate and known wells, from summed logits group by group; what is missing is said."""
    found = evaluate(drawn.store, "methods")
    rows = found.document()["methods"]
    folds = [by_hand(drawn, ("product", "replicate", n), lambda z, p: z[drawn.groups.rows[p]].sum(0)) for n in (0, 1)]
    assert mean_of(rows, method="product", **NEW) == pytest.approx(np.mean(folds))
    known = [
        by_hand(drawn, ("product", "replicate", n), lambda z, p: z[drawn.groups.rows[p]].sum(0), "known_wells")
        for n in (0, 1)
    ]
    assert mean_of(rows, method="product", split="replicate", test="known wells") == pytest.approx(np.mean(known))
    assert {row["method"] for row in rows} == {"product", "balanced", "attention"}
    table = {row[:2]: row[2:] for row in found.tables[0].rows}
    assert table["baseline", "replicate split: new replicate"][0] == "not trained"
    assert table["balanced", "field split: known wells"][0] == "not trained"
    assert table["product", PAPER][:3] == ("49.98 ± 0.96", "72.84 ± 0.53", "81.84 ± 0.46")
    assert ("balanced", PAPER) not in table
    assert found.data == "simulated data (simulated-s)"


def test_doses_use_the_images_of_one_concentration(drawn: Drawn) -> None:
    """As if the others had never been taken; the more a dose shows, the better it does."""
    rows = evaluate(drawn.store, "doses", encoder=drawn.encoders[PRODUCT]).document()["doses"]
    concentration = drawn.table.column("concentration_um").to_numpy()

    def only(dose: float) -> Callable[[np.ndarray, int], np.ndarray]:
        return lambda z, p: z[[row for row in drawn.groups.rows[p] if concentration[row] == dose]].sum(0)

    found = {}
    for dose in (0.5, 5.0, 50.0):
        folds = [by_hand(drawn, ("product", "replicate", n), only(dose)) for n in (0, 1)]
        found[dose] = mean_of(rows, method="product", variant=dose, **NEW)
        assert found[dose] == pytest.approx(np.mean(folds))
    assert found[0.5] < found[5.0] < found[50.0]


def test_cytotoxicity_gives_the_other_compounds_probability_zero(drawn: Drawn) -> None:
    """The best of the classes of the same kind, for the groups of that kind; F1 of all compounds for Fig. 7."""
    document = evaluate(drawn.store, "cytotoxicity").document()
    for flag, first in ((True, 0), (False, 1)):
        allowed = np.arange(first, 8, 2)
        folds = []
        for n in (0, 1):
            logits = logits_of(drawn, ("product", "replicate", n))
            mine = [p for p in places_of(drawn, ("product", "replicate", n)) if drawn.groups.compounds[p] in
                    [COMPOUNDS[i] for i in allowed]]  # fmt: skip
            best = [allowed[logits[drawn.groups.rows[p]].sum(0)[allowed].argmax()] for p in mine]
            folds.append(np.mean([COMPOUNDS[b] == drawn.groups.compounds[p] for b, p in zip(best, mine, strict=True)]))
        variant = {"concentration_um": "all", "cytotoxic": flag}
        assert mean_of(document["cytotoxicity"], method="product", variant=variant, **NEW) == pytest.approx(
            np.mean(folds)
        )
    points = {row["compound"]: row for row in document["compounds"][0]["f1"]}
    assert points["c4"]["viability_lfc"] == -3.0
    assert points["c7"]["viability_lfc"] is None


def test_a_cytotoxicity_that_is_neither_true_nor_false_is_named(writable: Store) -> None:
    writable.annotate(pa.table({"compound": COMPOUNDS, "cytotoxic": ["maybe"] * 8}))
    with pytest.raises(TrainingError, match="cytotoxic is 'maybe'; true or false is expected"):
        evaluate(writable, "cytotoxicity")


def test_folds_that_know_other_compounds_are_brought_together(drawn: Drawn, writable: Store, tmp_path: Path) -> None:
    """A fold whose training groups lack a compound: the other compounds' F1 are over all three folds, by name."""
    fold = keep_back(make_fold(drawn.groups.table, "replicate", 2), drawn.groups.table)
    settings = Settings("product", "replicate", 2, epochs=1)
    third = train_on_drawn(writable, drawn.groups, drawn.features, fold, settings, COMPOUNDS[1:])
    write(writable, third, drawn.table, drawn.features)
    for name in ("methods", "cytotoxicity", "configurations"):
        found = evaluate(writable, name, encoder=drawn.encoders[PRODUCT])
        found.save_figure(tmp_path / "figure.png")
    (test,) = [one for one in found.document()["configurations"] if one["test"] == "new replicate"]
    named, true = [], []
    for held in find_trials(writable, drawn.encoders[PRODUCT]).held_out(None, ["product"]):
        if held.test == "new replicate":
            named += [held.head.classes[i] for i in held.scores().argmax(1)]
            true += held.compounds.tolist()
    assert true.count("c0") == 6
    assert true.count("c1") == 9
    expected = f1_score(true, named, labels=COMPOUNDS, average=None, zero_division=0.0)
    assert [row["group"] for row in test["f1"]] == pytest.approx(expected.tolist())


def test_configurations_are_judged_by_single_images(drawn: Drawn) -> None:
    """F1 of a compound at a dose and time is scikit-learn's over the single images of all folds together."""
    document = evaluate(drawn.store, "configurations", encoder=drawn.encoders[PRODUCT]).document()
    (test,) = [one for one in document["configurations"] if one["test"] == "new replicate"]
    dose, time = (drawn.table.column(name).to_numpy() for name in ("concentration_um", "time_h"))
    predicted, labels, group_predicted, group_labels = [], [], [], []
    for n in (0, 1):
        logits = logits_of(drawn, ("product", "replicate", n))
        for place in places_of(drawn, ("product", "replicate", n)):
            rows = drawn.groups.rows[place]
            one = [row for row in rows if (dose[row], time[row]) == (5.0, 72.0)]
            predicted += [COMPOUNDS[i] for i in logits[one].argmax(1)]
            labels += [drawn.groups.compounds[place]] * len(one)
            group_predicted.append(COMPOUNDS[int(logits[rows].sum(0).argmax())])
            group_labels.append(drawn.groups.compounds[place])
    expected = f1_score(labels, predicted, labels=COMPOUNDS, average=None, zero_division=0.0)
    whole = f1_score(group_labels, group_predicted, labels=COMPOUNDS, average=None, zero_division=0.0)
    for i, row in enumerate(test["f1"]):
        at = {(c["concentration_um"], c["time_h"]): c["f1"] for c in row["configurations"]}
        assert at[5.0, 72.0] == pytest.approx(expected[i])
        assert row["group"] == pytest.approx(whole[i])
    assert [row["compound"] for row in test["f1"]] == COMPOUNDS
    shares = {(s["concentration_um"], s["time_h"]): s["share"] for s in test["share_best"]}
    assert sum(shares.values()) == pytest.approx(1)
    assert shares[50.0, 24.0] + shares[50.0, 72.0] > 0.5


def test_equally_good_configurations_share_a_compound() -> None:
    """And a compound that none recognises has no best one."""
    f1: Any = {
        (1.0, 24.0): np.array([0.9, 0.5, 0.0, 0.2]),
        (5.0, 24.0): np.array([0.1, 0.5, 0.0, 0.3]),
        None: np.ones(4),
    }
    assert best_shares(f1) == {(1.0, 24.0): pytest.approx(1.5 / 3), (5.0, 24.0): pytest.approx(1.5 / 3)}


def test_copies_add_to_the_product_and_not_to_balanced(drawn: Drawn) -> None:
    """Each copy adds the logits of the lowest dose's early image once more; balanced scores stay, to the last digit."""
    rows = evaluate(drawn.store, "duplicates").document()["duplicates"]
    for n in (1, 6):
        folds = [
            by_hand(
                drawn,
                ("product", "replicate", fold),
                lambda z, p: z[drawn.groups.rows[p]].sum(0) + n * z[drawn.groups.rows[p][0]],  # noqa: B023
            )
            for fold in (0, 1)
        ]
        assert mean_of(rows, method="product", variant=n, **NEW) == pytest.approx(np.mean(folds))
    original = mean_of(rows, method="balanced", variant=0, **NEW)
    assert all(mean_of(rows, method="balanced", variant=n, **NEW) == original for n in range(1, 7))
    assert mean_of(rows, "kept", method="balanced", variant=6, **NEW) == 1
    for trained, rule in (("product", "balanced"), ("balanced", "product")):
        same = [mean_of(rows, method=name, variant=0, **NEW) for name in (trained, f"{trained} read as {rule}")]
        assert same[0] == same[1], "with one image a dose and time the rules are one"
    immune = mean_of(rows, "kept", method="product read as balanced", variant=6, **NEW)
    assert immune == 1 > mean_of(rows, "kept", method="product", variant=6, **NEW)


@pytest.fixture(scope="module")
def held(drawn: Drawn) -> HeldOut:
    trials = find_trials(drawn.store, drawn.encoders[PRODUCT])
    return next(one for one in trials.held_out() if one.test == "new replicate" and one.fold == 0)


def added(held: HeldOut, more: HeldOut) -> list[tuple[dict[str, Any], str, int]]:
    """The images that were put in: their columns, the group and its configuration."""
    n = len(held.rows)
    assert (more.rows[:n] == held.rows).all()
    images = held.images.take(pa.array(more.rows[n:])).to_pylist()
    return [
        (image, held.group_ids[group], configuration)
        for image, group, configuration in zip(images, more.group[n:], more.configuration[n:].tolist(), strict=True)
    ]


def test_other_fields_are_of_the_same_well(held: HeldOut) -> None:
    """The two other fields of each group's lowest dose at the earliest time, in its first configuration."""
    found = added(held, with_other_fields(held, lowest_only=True))
    assert Counter(group for _, group, _ in found) == dict.fromkeys(held.group_ids, 2)
    for image, group, configuration in found:
        assert (image["concentration_um"], image["time_h"], configuration) == (0.5, 24.0, 0)
        compound, replicate, number = (group.split("/")[i] for i in (1, 2, 4))
        assert (image["compound"], image["replicate"]) == (compound, replicate)
        assert image["field"] != int(number)


def test_uneven_fields_stand_beside_their_own_well(held: HeldOut) -> None:
    """Each added image is another field of a well of the group, once, in that well's configuration."""
    found = added(held, with_other_fields(held, lowest_only=False))
    place = {pair: i for i, pair in enumerate(itertools.product((0.5, 5.0, 50.0), (24.0, 72.0)))}
    assert len({(group, image["path"]) for image, group, _ in found}) == len(found)
    for image, group, configuration in found:
        assert place[image["concentration_um"], image["time_h"]] == configuration
        assert image["compound"] == group.split("/")[1]
        assert image["group_id"] != group
    assert 0 < len(found) < 2 * len(held.rows)


def test_doses_of_dmso_are_new_configurations(held: HeldOut) -> None:
    """As many as the group has, at its times and of its replicate; no configuration of the group's own is touched."""
    found = added(held, with_dmso_doses(held))
    assert Counter(group for _, group, _ in found) == dict.fromkeys(held.group_ids, 6)
    for image, group, configuration in found:
        assert (image["role"], image["replicate"]) == ("control", group.split("/")[2])
        assert configuration > 5
    assert {UNEVEN, FIELDS, DOSES} < {
        row["variant"] for row in evaluate_cached(held).document()["duplicates"]
    }  # fmt: skip


def test_what_a_screen_has_no_images_for_is_left_empty(held: HeldOut, tmp_path: Path) -> None:
    """Without DMSO nothing can be put in, and nothing is said of what is kept."""
    roles = held.images.column("role").to_pylist()
    place = held.images.column_names.index("role")
    images = held.images.set_column(place, "role", pa.array([role.replace("control", "empty") for role in roles]))
    found = evaluate_cached(replace(held, images=images))
    variants = {row["variant"] for row in found.document()["duplicates"]}
    assert FIELDS in variants
    assert DOSES not in variants
    found.save_figure(tmp_path / "figure.png")


def evaluate_cached(held: HeldOut) -> Outcome:
    from phenoembed.evaluation.duplicates import compare_duplicates
    from phenoembed.evaluation.held_out import Trials

    class One(Trials):
        def held_out(self, *_arguments: Any, **_options: Any) -> Any:
            yield held

    trials = One(None, held.encoder, (), ())  # type: ignore[arg-type]
    return compare_duplicates(trials, lambda _done, _total: None)


@pytest.mark.parametrize("name", [name for name in EXPERIMENTS if name not in ("moa", "treatment", "jump")])
@pytest.mark.parametrize("where", ["compound = 'nothing'", "role = 'control'"])
def test_nothing_to_test_is_an_error_line(drawn: Drawn, name: str, where: str) -> None:
    with pytest.raises(NotInStore, match=f"no treated group where {where} is among"):
        evaluate(drawn.store, name, where=where)


# On probes


def test_the_papers_figures_stand_in_the_row_of_its_split_trained_or_not() -> None:
    """Known wells of the field split; none beside another split's."""
    tested = [outcomes.Tested(split, 0, TEST_NAMES[split], "encoder", {"top1": 0.5}, 2, 0.5) for split in SPLITS]
    for there in (tested, tested[:1]):
        report = outcomes.Report("moa", None, True, tuple(there))
        rows = {row[0]: row for row in probe_rows(report, lambda _split, _test: ("ours", 1), ["theirs"])}
        assert {len(row) for row in rows.values()} == {5}
        assert {split: row[-1] for split, row in rows.items()} == {"replicate": "", "field": "theirs", "compound": ""}
        assert rows["field"][2] == ("ours" if len(there) == 3 else "not trained")


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Heads are fitted for fewer epochs."""
    import phenoembed.heads

    monkeypatch.setattr(phenoembed.heads, "FitSettings", lambda: FitSettings(epochs=5))


@pytest.mark.usefixtures("quick")
def test_treatment_counts_false_negatives(drawn: Drawn, writable: Store) -> None:
    """From the predictions in the store, compound by compound; those of another method are not among them."""
    other = evaluate(writable, "treatment", encoder=drawn.encoders["balanced", "replicate", 0])
    found = evaluate(writable, "treatment", encoder=drawn.encoders[PRODUCT])
    assert {part["split"] for part in other.document()["false_negatives"]} == {"replicate"}
    rows = writable.sql(
        "SELECT * FROM predictions WHERE task = 'treatment' AND features = 'encoder' AND encoder IN ("
        + ", ".join(f"'{name}'" for key, name in drawn.encoders.items() if key[0] == "product")
        + ")"
    ).to_arrow_table()
    for part in found.document()["false_negatives"]:
        mine = [r for r in rows.to_pylist() if (r["split"], r["test"]) == (part["split"], part["test"])]
        for compound, count in part["compounds"].items():
            called = [r["predicted"] for r in mine if r["compound"] == compound and r["label"] == "treated"]
            assert called.count("control") == count
    assert set(found.document()["treatment"]) == {"replicate", "field"}


@pytest.mark.usefixtures("quick")
def test_moa_stands_beside_a_compound_head(writable: Store) -> None:
    """The probe's own figures, the class sizes, and the splits that are not trained."""
    found = evaluate(writable, "moa")
    document = found.document()
    assert document["compounds_a_mechanism"] == {"m0": 3, "m1": 3, "m2": 2}
    assert document["moa"]["field"]["compound_head"]["mean"]["n_test"] == document["moa"]["field"]["mean"]["n_test"]
    assert found.tables[0].rows[-1][:3] == ("compound", "", "not trained")


@pytest.mark.usefixtures("quick")
def test_jump_trains_a_head_on_a_screen_the_encoder_never_saw(drawn: Drawn, writable: Store, tmp_path: Path) -> None:
    """Every group of it is tested once in each split; DMSO is a class; the encoder's own screen is refused.

    The network of confused pairs is then that screen's, and says so.
    """
    encoder = drawn.encoders[PRODUCT]
    with pytest.raises(NotInStore, match=f"encoder {encoder} has no image where screen = 'JUMP-Target'"):
        evaluate(writable, "jump", encoder=encoder)
    table, features = screen_table("JUMP-Target", seed=3)
    write(writable, encoder, table, features)
    found = evaluate(writable, "jump", encoder=encoder)
    document = found.document()["jump"]
    assert document["field"]["classes"] == 9
    rows = writable.sql("SELECT * FROM predictions WHERE features = 'encoder'").to_arrow_table().to_pylist()
    for split, n_folds in (("replicate", 3), ("field", 6)):
        mine = [r["group_id"] for r in rows if (r["split"], r["test"] == "known wells") == (split, split == "field")]
        assert len(set(mine)) == len(mine) == 3 * 3 * (8 + 3 * 0) + sum("DMSO" in name for name in mine)
        assert len(document[split]["folds"]) == n_folds
        assert any(r["label"] == "DMSO" for r in rows)
    assert document["field"]["mean"]["top1"] > 0.5
    (tmp_path / "links.tsv").write_text(LINKS)
    network = evaluate(writable, "network", links=tmp_path / "links.tsv")
    assert found.data == network.data == "other data (JUMP-Target)"
    with pytest.raises(TrainingError, match="was trained on screen 'simulated-s'"):
        evaluate(writable, "jump", encoder=encoder, where="screen = 'simulated-s'")
    assert JUMP_SCREEN == "screen = 'JUMP-Target'"


LINKS = "#node1\tnode2\tcoexpression\tcombined_score\n" + "".join(
    f"G{i}\tG{i + 1}\t{0.8 if i == 2 else 0.1}\t0.95\n" for i in range(4)
) + "G5\tG9\t0\t0.99\nG0\tG4\t0\t0.4\n"  # fmt: skip


@pytest.mark.usefixtures("quick")
def test_network_distances_of_confused_pairs(drawn: Drawn, writable: Store, tmp_path: Path) -> None:
    """A chain of genes: the distance of c_i and c_j is |i - j|; confused pairs are among them; weak links are none."""
    from phenoembed.probes import probe

    path = tmp_path / "links.tsv"
    path.write_text(LINKS)
    encoder = drawn.encoders["balanced", "replicate", 0]
    with pytest.raises(NotInStore, match=f"there are no predictions of encoder {encoder} and its family yet"):
        evaluate(writable, "network", encoder=encoder, links=path)
    probe(writable, "compound", encoder=encoder)
    found = evaluate(writable, "network", encoder=encoder, links=path).document()
    with pytest.raises(NotInStore, match="there are no predictions of encoder"):
        evaluate(writable, "network", links=path)  # of product
    assert found["task"] == "compound"
    assert found["distances"]["combined"]["all"] == sorted(j - i for i in range(5) for j in range(i + 1, 5))
    assert found["distances"]["co-expression"]["all"] == [1]
    assert not Counter(found["distances"]["combined"]["confused"]) - Counter(found["distances"]["combined"]["all"])
    with pytest.raises(TrainingError, match="--links FILE"):
        evaluate(writable, "network")


def test_scores_of_the_whole_download_are_thousandths(tmp_path: Path) -> None:
    """protein1 protein2 ... combined_score, 0 to 1000: above 700; a table of something else is refused."""
    path = tmp_path / "links.tsv"
    rows = "protein1\tprotein2\texperimental\tcombined_score\nA\tB\t701\t800\nB\tC\t700\t701\nC\tD\t\t3\n"
    for said in (rows, rows.replace("\t\t", '\t""\t').replace("\t", " ")):  # STRING's own files have blanks
        path.write_text(said)
        assert read_links(path) == {"experimental": [("A", "B")], "combined": [("A", "B"), ("B", "C")]}
    path.write_text("a\tb\n1\t2\n")
    with pytest.raises(TrainingError, match="is no table of STRING's links"):
        read_links(path)


def test_the_distance_of_compounds_is_the_least_of_their_targets() -> None:
    """A shared target is 0 edges; without a path, or with targets nobody knows, a pair is left out."""
    import networkx

    graph = networkx.Graph([("A", "B"), ("B", "C"), ("X", "Y")])
    targets = {"p": frozenset("A"), "q": frozenset("CX"), "r": frozenset("Z"), "s": frozenset("AY")}
    assert compound_distances(graph, targets) == {("p", "q"): 2, ("p", "s"): 0, ("q", "s"): 1}


# All of them


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("name", sorted(set(EXPERIMENTS) - {"jump", "blur", "noise"}))
def test_every_experiment_draws_its_figure(writable: Store, tmp_path: Path, name: str) -> None:
    """A PNG of some size, tables whose rows fit their columns, a document that JSON takes."""
    found = evaluate(writable, name)
    found.save_figure(tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 10_000
    for table in found.tables:
        assert {len(row) for row in table.rows} == {len(table.columns)}, table.title
    assert json.loads(json.dumps(found.document()))["experiment"] == name


def test_what_cannot_be_evaluated_is_said(drawn: Drawn, tmp_path: Path) -> None:
    """An experiment that is none, and a store without encoders."""
    with pytest.raises(TrainingError, match="experiment 'table1' is not one of methods"):
        evaluate(drawn.store, "table1")
    with pytest.raises(NotInStore, match="no trained encoder"):
        evaluate(phenoembed_store.open(tmp_path / "empty", create=True), "methods")
    assert set(NAMES) == {*EXPERIMENTS, "network"}


def test_data_are_called_by_their_name() -> None:
    """Nobody takes simulated figures for the paper's."""
    assert data_of(["simulated-epithelial-0"]) == "simulated data (simulated-epithelial-0)"
    assert data_of(["LOPAC", "LOPAC"]) == "LOPAC data (LOPAC)"
    assert data_of(["a549", "simulated-x"]) == "other and simulated data (a549, simulated-x)"
