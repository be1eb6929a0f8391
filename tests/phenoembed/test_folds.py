"""Which groups train and which test: every split, on screens of many shapes."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from phenoembed.encoders import load_fold
from phenoembed.folds import SPLITS, Fold, Split, count_folds, keep_back, make_fold
from phenoembed.groups import group_images
from tests.phenoembed.screens import image, layout, table_of

from phenoembed_store.errors import StoreError, TrainingError


def groups_of(rows: list[dict[str, Any]]) -> pa.Table:
    return group_images(table_of(rows)).table


def parts(fold: Fold) -> list[set[str]]:
    return [set(fold.train), set(fold.test), set(fold.known_wells)]


def column(groups: pa.Table, name: str) -> dict[str, Any]:
    """Group id -> the value of a column."""
    return dict(zip(groups.column("group_id").to_pylist(), groups.column(name).to_pylist(), strict=True))


SCREENS = {
    "plain": layout(),
    "sets": layout(wells=3, controls=10),
    "a plate a time": layout(plate_a_time=True),
    "mechanisms": layout(compounds=9, moa=3),
    "no controls": layout(controls=0),
}


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("name", SCREENS)
def test_parts_are_disjoint_and_cover_every_group(split: Split, name: str) -> None:
    """Every group is in exactly one part of every fold, and tested in exactly one fold."""
    groups = groups_of(SCREENS[name])
    everything = set(groups.column("group_id").to_pylist())
    tested: Counter[str] = Counter()
    for index in range(count_folds(groups, split)):
        fold = make_fold(groups, split, index)
        assert sum(map(len, parts(fold))) == len(everything)
        assert set().union(*parts(fold)) == everything
        assert fold.train
        assert fold.test
        tested.update(fold.test)
    assert tested == Counter(everything)


def test_folds_of_the_field_split_are_stratified() -> None:
    """Each compound's groups are dealt out over six folds as evenly as whole groups can be."""
    groups = groups_of(layout(compounds=5, fields=4))  # 12 groups a compound
    compound = column(groups, "compound")
    for index in range(count_folds(groups, "field")):
        counts = Counter(compound[key] for key in make_fold(groups, "field", index).test)
        assert {counts[f"c{i}"] for i in range(5)} == {2}


def test_the_field_split_has_as_many_folds_as_the_rarest_compound_has_groups() -> None:
    """Six folds need six groups of each compound; with fewer groups there are fewer folds."""
    assert count_folds(groups_of(layout(replicates=1, fields=4)), "field") == 4
    assert count_folds(groups_of(layout(replicates=3, fields=4)), "field") == 6


def test_a_replicate_is_held_out_whole() -> None:
    """The test groups are all groups of one replicate, and only they."""
    groups = groups_of(layout(fields=4))
    replicate = column(groups, "replicate")
    for index in range(3):
        fold = make_fold(groups, "replicate", index)
        assert {replicate[key] for key in fold.test} == {str(index + 1)}
        assert str(index + 1) not in {replicate[key] for key in (*fold.train, *fold.known_wells)}
        assert fold.held_out == f"s/{index + 1}"


def test_a_sixth_of_the_other_groups_is_set_aside() -> None:
    """Known wells take a sixth of each compound's groups of the other replicates."""
    groups = groups_of(layout(compounds=5, fields=6))  # 12 groups a compound in the two other replicates
    compound = column(groups, "compound")
    fold = make_fold(groups, "replicate", 1)
    counts = Counter(compound[key] for key in fold.known_wells)
    assert {counts[f"c{i}"] for i in range(5)} == {2}


def test_known_wells_share_wells_with_training_and_the_new_replicate_never_does() -> None:
    """That is the difference between the two figures of one training."""
    rows = layout(fields=4)
    found = group_images(table_of(rows))
    fold = make_fold(found.table, "replicate", 0)

    def wells(ids: tuple[str, ...]) -> set[tuple[str, str]]:
        images = [rows[row] for place in found.places(ids) for row in found.rows[place]]
        return {(row["plate"], row["well"]) for row in images}

    assert not wells(fold.test) & wells(fold.train)
    assert not wells(fold.test) & wells(fold.known_wells)
    assert wells(fold.known_wells) <= wells(fold.train)


def test_the_compound_split_shares_no_compound() -> None:
    """A compound stands on one side only; controls are split by whole sets of wells."""
    groups = groups_of(layout(compounds=9, moa=3, controls=12))
    compound, role, number, replicate = (column(groups, n) for n in ("compound", "role", "set", "replicate"))
    for index in range(count_folds(groups, "compound")):
        fold = make_fold(groups, "compound", index)
        train, test = (
            {compound[key] if role[key] == "treated" else (replicate[key], number[key]) for key in part}
            for part in (fold.train, fold.test)
        )
        assert not train & test
        assert any(role[key] == "treated" for key in fold.test)


def test_the_compound_split_spreads_mechanisms() -> None:
    """A mechanism of six compounds or more is tested in every fold, and always trained on."""
    groups = groups_of(layout(compounds=14, moa=2, fields=1))
    moa = column(groups, "moa")
    for index in range(6):
        fold = make_fold(groups, "compound", index)
        assert {moa[key] for key in fold.test} - {None} == {"m0", "m1"}
        assert {moa[key] for key in fold.train} - {None} == {"m0", "m1"}


@given(st.randoms(use_true_random=False), st.sampled_from(SPLITS), st.sampled_from(sorted(SCREENS)))
@settings(max_examples=25)
def test_the_order_of_groups_does_not_matter(random: Any, split: Split, name: str) -> None:
    """The same groups in another order make the same fold."""
    groups = groups_of(SCREENS[name])
    order = random.sample(range(groups.num_rows), groups.num_rows)
    assert make_fold(groups.take(pa.array(order)), split, 1) == make_fold(groups, split, 1)


def test_the_seed_draws_another_fold() -> None:
    """Seeds decide the random part of a fold, and nothing else does."""
    groups = groups_of(layout(fields=6))
    assert make_fold(groups, "field", 0, seed=1) != make_fold(groups, "field", 0, seed=2)
    assert make_fold(groups, "field", 0, seed=1) == make_fold(groups, "field", 0, seed=1)


def test_a_rare_compound_is_no_obstacle() -> None:
    """A compound with a single group is trained on or tested, without a warning, in the replicate split."""
    groups = groups_of([*layout(fields=6), image(compound="rare", well="P24", replicate="2", plate="P2")])
    fold = make_fold(groups, "replicate", 0)
    assert sum("rare" in key for key in (*fold.train, *fold.known_wells)) == 1


@pytest.mark.parametrize("split", SPLITS)
def test_a_twelfth_of_the_training_groups_is_kept_back(split: Split) -> None:
    """One in twelve of each compound's training groups; the tests stay as they are, and nothing is lost."""
    groups = groups_of(layout(compounds=14, fields=12, moa=2))
    compound = column(groups, "compound")
    whole = make_fold(groups, split, 1)
    fold = keep_back(whole, groups, seed=3)
    assert set(fold.train) | set(fold.calibration) == set(whole.train)
    assert (fold.test, fold.known_wells) == (whole.test, whole.known_wells)
    before, back = (Counter(compound[key] for key in part) for part in (whole.train, fold.calibration))
    assert all(abs(back[name] - before[name] / 12) < 1 for name in before)
    assert keep_back(whole, groups, seed=3) == fold != keep_back(whole, groups, seed=4)


def test_the_only_training_group_of_a_compound_is_not_kept_back() -> None:
    """Whatever the seed: without it the compound were no class."""
    groups = groups_of(layout(compounds=30, replicates=2, fields=1))
    whole = make_fold(groups, "replicate", 0)
    counts = Counter(column(groups, "compound")[key] for key in whole.train)
    for seed in range(5):
        back = [column(groups, "compound")[key] for key in keep_back(whole, groups, seed=seed).calibration]
        assert all(counts[name] > 1 for name in back)


@pytest.mark.parametrize("split", SPLITS)
def test_a_fold_comes_back_from_json(split: Split, tmp_path: Path) -> None:
    """Saved and loaded, a fold is equal, names of any letters included."""
    rows = [row | {"compound": row["compound"].replace("c", 'µ"/')} for row in layout()]
    groups = groups_of(rows)
    fold = keep_back(make_fold(groups, split, 0), groups)
    fold.save(tmp_path / "fold.json")
    assert Fold.load(tmp_path / "fold.json") == fold


@pytest.mark.parametrize(
    ("rows", "split", "index", "said"),
    [
        (layout(), "replicate", 3, "fold 3 of the replicate split does not exist: it has folds 0 to 2"),
        (layout(), "plate", 0, "split 'plate' is not one of replicate, field, compound"),
        (layout(replicates=1), "replicate", 0, "needs two replicates or more; this screen has one"),
        (layout(replicates=1, fields=1), "field", 0, "two groups of every compound; 'c0' has one"),
        (layout(compounds=1), "compound", 0, "needs two compounds or more"),
    ],
)
def test_what_cannot_be_split_is_said_in_a_line(rows: list[dict[str, Any]], split: Any, index: int, said: str) -> None:
    """The error names the value, and what would do."""
    with pytest.raises(TrainingError, match=said) as raised:
        make_fold(groups_of(rows), split, index)
    assert "\n" not in str(raised.value)


def test_replicates_that_share_no_compound_cannot_be_split() -> None:
    """Holding a replicate out needs compounds that are in another one too."""
    rows = [image(compound=f"{c}{r}", replicate=r, plate=r, well=w, field=f)
            for r in "12" for c, w in (("a", "A01"), ("b", "A02")) for f in range(1, 7)]  # fmt: skip
    with pytest.raises(TrainingError, match="no compound of replicate 's/1' is in another replicate"):
        make_fold(groups_of(rows), "replicate", 0)


def test_every_compound_of_a_fold_that_can_be_is_trained_on() -> None:
    """A compound with two groups or more outside the held-out replicate keeps one for training."""
    groups = groups_of(layout(compounds=20, replicates=3, fields=1))
    compound = column(groups, "compound")
    for seed in range(5):
        fold = make_fold(groups, "replicate", 0, seed=seed)
        assert {compound[key] for key in fold.test} <= {compound[key] for key in fold.train}
        share = len(fold.known_wells) / (len(fold.known_wells) + len(fold.train))
        assert 0.02 < share < 0.4
        assert np.isfinite(share)


@pytest.mark.parametrize("content", ["{", "[]", '{"colour": 1}', None])
def test_a_damaged_fold_of_an_encoder_is_named(tmp_path: Path, content: str | None) -> None:
    """No fold is made of what is left."""
    folder = tmp_path / "encoders" / "abc"
    folder.mkdir(parents=True)
    if content is not None:
        (folder / "fold.json").write_text(content)
    with pytest.raises(StoreError, match=f"'{folder}/fold.json' cannot be read .*; restore it from a backup, or train"):
        load_fold(tmp_path, "abc")
