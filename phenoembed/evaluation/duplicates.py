"""Table 5: what is left of the accuracy when uninformative images are put into the groups.

The paper repeats one image, that of the lowest dose and earliest time. A screen has no exact copies, but it has more
fields of one well than of another, and doses too low to show anything: those are here too.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from phenoembed.evaluation.held_out import READ_AS, Cell, HeldOut, Rows, Trials
from phenoembed.evaluation.outcome import Outcome, Table, data_of
from phenoembed.evaluation.paper import TABLE_5
from phenoembed.evaluation.tally import Tally, method_rows
from phenoembed.metrics import multiclass_metrics
from phenoembed.progress import Progress

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INSERTED = range(7)  # copies; 0: the groups as they are
WELL = ("screen", "plate", "well", "time_h")
FIELDS, UNEVEN, DOSES = "other fields, lowest dose", "uneven fields", "doses of DMSO"
VARIANTS = (FIELDS, UNEVEN, DOSES)


def compare_duplicates(trials: Trials, progress: Progress) -> Outcome:
    """Top-1 accuracy of every method with one to six copies, with other fields, and with doses that do nothing."""
    tally = Tally()
    for held in _by_every_rule(trials.held_out(progress)):
        changed: dict[Any, HeldOut] = {n: with_copies(held, n) for n in INSERTED}
        changed[FIELDS] = with_other_fields(held, lowest_only=True)
        changed[UNEVEN] = with_other_fields(held, lowest_only=False)
        changed[DOSES] = with_dmso_doses(held)
        clean = _top1(held)
        for variant, groups in changed.items():
            if variant and len(groups.rows) == len(held.rows):  # a screen without DMSO, or of one field a well
                continue
            top1 = _top1(groups)
            figures = {"top1": top1} | ({"kept": top1 / clean} if clean else {})
            tally.add(held.cell, variant, held.fold, figures)
    tables = (
        Table(
            "Top-1 accuracy [%] with copies of the image of the lowest dose and earliest time",
            ("method", "test groups", "original", *(str(n) for n in INSERTED[1:]), "kept %"),
            method_rows(trials, _methods(trials), lambda cell: _copies_row(tally, cell), _paper),
        ),
        Table(
            "Top-1 accuracy [%] with images that a screen may well hold, and the share of it that is kept",
            ("method", "test groups", "original", *(f"{v}{s}" for v in VARIANTS for s in ("", ": kept %"))),
            method_rows(trials, _methods(trials), lambda cell: _variants_row(tally, cell), lambda _method: None),
        ),
    )
    return Outcome(
        "duplicates",
        data_of(trials.screens),
        tables,
        {"duplicates": tally.document()},
        lambda figure: _draw(figure, tally),
        (*trials.notes, *_EXPLAINED),
    )


_EXPLAINED = (
    f"'product{READ_AS}balanced': the network trained with the product, its scores averaged within a dose and time",
    f"{FIELDS}: every other field of the well of a group's lowest dose and earliest time is added",
    f"{UNEVEN}: to each dose and time a random number of other fields of its well is added",
    f"{DOSES}: as many doses as the group has are added that do nothing: images of DMSO wells of the replicate",
    "a network trained with balanced doubts them, if it saw controls: no training group had such doses",
    "empty: the screen has no such images",
)


def _by_every_rule(tests: Iterable[HeldOut]) -> Iterator[HeldOut]:
    """Each test as it is, and where adding scores is the rule, read by the other such rule too, from the same weights.

    Trainings differ by chance too; what the rule does to images that are put in is seen on one and the same network.
    """
    for held in tests:
        yield held
        for rule in {"product": ["balanced"], "balanced": ["product"]}.get(held.method, []):
            head = replace(held.head, config={**held.head.config, "method": rule})
            yield replace(held, method=f"{held.method}{READ_AS}{rule}", head=head)


def _methods(trials: Trials) -> list[str]:
    """The methods of the rows: each that is trained, and its other rule below it."""
    other = {"product": "balanced", "balanced": "product"}
    return [row for one in trials.methods for row in (one, *([f"{one}{READ_AS}{other[one]}"] if one in other else []))]


def with_copies(held: HeldOut, n: int) -> HeldOut:
    """Every group with its image of the lowest dose and earliest time once more, n times."""
    rows = np.repeat(_lowest(held), n)
    return held.with_images(held.rows[rows], held.group[rows], held.configuration[rows])


def with_other_fields(held: HeldOut, *, lowest_only: bool, seed: int = 0) -> HeldOut:
    """Groups with other fields of their wells, in the configuration of the image beside which they stand.

    ``lowest_only``: all other fields of the well of the lowest dose and earliest time; otherwise of every well a random
    number of them, from none to all.
    """
    fields = _images_of_wells(held)
    keys = _well_keys(held)
    rng = np.random.default_rng(seed)
    added: list[tuple[int, int, int]] = []
    for place in _lowest(held) if lowest_only else range(len(held.rows)):
        others = fields[keys[held.rows[place]]]
        others = others[others != held.rows[place]]
        n = len(others) if lowest_only else int(rng.integers(0, len(others) + 1))
        added += [(row, held.group[place], held.configuration[place]) for row in rng.permutation(others)[:n]]
    return held.with_images(*_columns(added))


def with_dmso_doses(held: HeldOut, seed: int = 0) -> HeldOut:
    """Groups with one more configuration for each that they have: an image of a DMSO well at the same time."""
    screen, replicate, time, role = (
        held.images.column(name).to_numpy(zero_copy_only=False) for name in ("screen", "replicate", "time_h", "role")
    )
    controls: dict[tuple[Any, ...], list[int]] = defaultdict(list)
    for row in np.flatnonzero(role == "control"):
        controls[screen[row], replicate[row], time[row]].append(int(row))
    rng = np.random.default_rng(seed)
    above = int(held.configuration.max(initial=0)) + 1
    added = []
    for row, group, configuration in zip(held.rows, held.group, held.configuration, strict=True):
        wells = controls[screen[row], replicate[row], time[row]]
        if wells:
            added.append((int(rng.choice(wells)), int(group), above + int(configuration)))
    return held.with_images(*_columns(added))


def _lowest(held: HeldOut) -> Rows:
    """(groups,) which of ``rows`` is the group's image of the lowest dose and earliest time."""
    order = np.lexsort((np.arange(len(held.rows)), held.configuration, held.group))
    _, first = np.unique(held.group[order], return_index=True)
    return order[first].astype(np.int64)


def _well_keys(held: HeldOut) -> list[tuple[Any, ...]]:
    return list(zip(*(held.images.column(name).to_pylist() for name in WELL), strict=True))


def _images_of_wells(held: HeldOut) -> dict[tuple[Any, ...], Rows]:
    """Rows of the images of every well and time: its fields."""
    found: dict[tuple[Any, ...], list[int]] = defaultdict(list)
    for row, key in enumerate(_well_keys(held)):
        found[key].append(row)
    return {key: np.array(rows, dtype=np.int64) for key, rows in found.items()}


def _columns(added: list[tuple[int, int, int]]) -> tuple[Rows, Rows, Rows]:
    table = np.array(added, dtype=np.int64).reshape(-1, 3)
    return table[:, 0], table[:, 1], table[:, 2]


def _top1(held: HeldOut) -> float:
    return multiclass_metrics(held.scores(), held.labels)["top1"]


def _copies_row(tally: Tally, cell: Cell) -> tuple[Any, ...]:
    return *(tally.cell(cell, n, "top1") for n in INSERTED), tally.cell(cell, INSERTED[-1], "kept")


def _paper(method: str) -> tuple[Any, ...] | None:
    return (*TABLE_5[method], "") if method in TABLE_5 else None


def _variants_row(tally: Tally, cell: Cell) -> tuple[Any, ...]:
    found = (tally.cell(cell, v, name) for v in VARIANTS for name in ("top1", "kept"))
    return tally.cell(cell, 0, "top1"), *found


def _draw(figure: "Figure", tally: Tally) -> None:
    """Top-1 accuracy over the number of copies (left), and what is kept with other images (right)."""
    cells = list(dict.fromkeys(cell for cell, _ in tally.figures))
    wanted = next((cell[1:] for cell in cells if cell[2] == "new replicate"), cells[0][1:])
    shown = [cell for cell in cells if cell[1:] == wanted]
    left, right = figure.subplots(1, 2)
    for number, cell in enumerate(shown):
        means = [100 * np.mean([one["top1"] for one in tally.folds(cell, n)]) for n in INSERTED]
        left.plot(INSERTED, means, marker="o", label=cell[0])
        found = ([one.get("kept", 0) for one in tally.folds(cell, v)] for v in VARIANTS)
        kept = [100 * np.mean(folds) if folds else np.nan for folds in found]
        right.bar(np.arange(len(VARIANTS)) + 0.8 * number / len(shown) - 0.4, kept, 0.8 / len(shown), align="edge")
    left.set(xlabel="inserted copies", ylabel="top-1 accuracy [%]", title=" split, ".join(wanted), ylim=(0, None))
    left.legend(fontsize=8)
    right.set(
        title="other images added, the same groups",
        ylabel="accuracy kept [%]",
        xticks=range(len(VARIANTS)),
        xticklabels=VARIANTS,
    )
    right.axhline(100, color="0.6", lw=0.8)
    right.tick_params(axis="x", labelsize=7)
