"""From images to groups and configurations: who stands together. Pure functions over a screen's columns.

A *configuration* is (concentration_um, time_h). A *group* is field f of every configuration of one compound in one
replicate; where a compound has several wells of a concentration, the k-th well forms set k. Control wells carry no
concentration: a control group takes as many wells as some treated group of its replicate has, and each of its wells
stands where a concentration would, so that neither size nor layout tells a control group from a treated one.
"""

import random
from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple
from urllib.parse import quote

import pyarrow as pa

Well = tuple[str, str]  # plate, well


class Wells(NamedTuple):
    """The wells of one compound (or of the controls) in one replicate, as time points of each dose."""

    by_time: dict[float, set[Well]]


def assign_groups(table: pa.Table) -> pa.Table:
    """Add ``group_id``, ``set`` and ``configuration`` to a table with the columns of ``SCREEN_SCHEMA``.

    ``configuration`` numbers the (dose, time) pairs within a group from 0, by rising dose, then time. Images of empty
    wells, and control wells left over when no further group of the right size can be made, get nulls. The answer does
    not depend on the order of the rows.
    """
    columns = [
        table.column(name).to_pylist()
        for name in ("screen", "replicate", "compound", "concentration_um", "plate", "well", "time_h", "role", "field")
    ]
    rows = list(zip(*columns, strict=True))
    slots = _slots(rows)
    placed: list[tuple[str, int, tuple[float, float]] | None] = []
    for screen, replicate, compound, dose, plate, well, time, role, field in rows:
        slot = slots.get((screen, replicate, compound, dose, plate, well, time)) if role != "empty" else None
        if slot is None:
            placed.append(None)
            continue
        group_set, level = slot
        placed.append((group_id(screen, compound, replicate, group_set, field), group_set, (level, time)))
    configurations = _number_configurations(placed)
    return (
        table.append_column("group_id", pa.array([p and p[0] for p in placed], pa.string()))
        .append_column("set", pa.array([p and p[1] for p in placed], pa.int32()))
        .append_column("configuration", pa.array(configurations, pa.int32()))
    )


def group_id(screen: str, compound: str, replicate: str, group_set: int, field: int) -> str:
    """The readable key ``screen/compound/replicate/set/field``; a slash within a name becomes ``%2F``."""
    names = (
        quote(part, safe=" !#$&'()*+,:;=?@[]~µ") if "/" in part or "%" in part else part
        for part in (screen, compound, replicate)
    )
    return "/".join([*names, str(group_set), str(field)])


def _slots(
    rows: Sequence[tuple[str, str, str, float, str, str, float, str, int]],
) -> dict[tuple[str, str, str, float, str, str, float], tuple[int, float]]:
    """For every well at a time: its set, and the level that orders it within the group (dose, or control slot)."""
    doses: dict[tuple[str, str, str, float], dict[float, set[Well]]] = defaultdict(lambda: defaultdict(set))
    controls: dict[tuple[str, str, str], dict[float, dict[float, set[Well]]]] = defaultdict(
        lambda: defaultdict(lambda: defaultdict(set))
    )
    for screen, replicate, compound, dose, plate, well, time, role, _ in rows:
        if role == "treated":
            doses[screen, replicate, compound, dose][time].add((plate, well))
        elif role == "control":
            controls[screen, replicate, compound][dose][time].add((plate, well))

    slots: dict[tuple[str, str, str, float, str, str, float], tuple[int, float]] = {}
    sizes: dict[tuple[str, str], list[int]] = defaultdict(list)  # wells of each treated set, by (screen, replicate)
    wells_of_set: dict[tuple[str, str, str, int], int] = defaultdict(int)
    for (screen, replicate, compound, dose), by_time in sorted(doses.items()):
        ranks = _rank_wells(by_time)
        for (well_time, (plate, well)), rank in ranks.items():
            slots[screen, replicate, compound, dose, plate, well, well_time] = (rank, dose)
        for rank in set(ranks.values()):
            wells_of_set[screen, replicate, compound, rank] += 1
    for (screen, replicate, _, _), n_wells in sorted(wells_of_set.items()):
        sizes[screen, replicate].append(n_wells)

    for (screen, replicate, compound), by_dose in sorted(controls.items()):
        wells_at: dict[float, set[Well]] = defaultdict(set)
        dose_of: dict[tuple[float, Well], float] = {}
        for dose, times in by_dose.items():
            for time, wells in times.items():
                wells_at[time] |= wells
                dose_of |= {(time, well): dose for well in wells}
        ranks = _rank_wells(wells_at)
        places = _control_places(max(ranks.values()) + 1, sizes[screen, replicate], f"{screen}/{replicate}/{compound}")
        for (time, (plate, well)), rank in ranks.items():
            if rank in places:
                slots[screen, replicate, compound, dose_of[time, (plate, well)], plate, well, time] = places[rank]
    return slots


def _rank_wells(by_time: dict[float, set[Well]]) -> dict[tuple[float, Well], int]:
    """Number the wells of one dose: a well keeps its number over time; a new plate at a later time starts over."""
    number: dict[Well, int] = {}
    ranks: dict[tuple[float, Well], int] = {}
    for time in sorted(by_time):
        wells = sorted(by_time[time])
        taken = {number[well] for well in wells if well in number}
        free = (rank for rank in range(len(wells) + len(taken)) if rank not in taken)
        for well in wells:
            if well not in number:
                number[well] = next(free)
            ranks[time, well] = number[well]
    return ranks


def _control_places(n_wells: int, treated_sizes: Sequence[int], name: str) -> dict[int, tuple[int, float]]:
    """Deal control wells (by number) into sets of the treated sets' sizes: number -> (set, slot).

    The order is random but fixed by the replicate's name, so that neighbours on a plate do not end up together.
    """
    draw = random.Random(name)
    order = draw.sample(range(n_wells), n_wells)
    sizes = draw.sample(sorted(treated_sizes), len(treated_sizes)) or [1]
    places: dict[int, tuple[int, float]] = {}
    group_set = 0
    while order:
        size = sizes[group_set % len(sizes)]
        if size > len(order) and places:
            break  # the rest is too few for a whole group
        for slot, well in enumerate(order[:size]):
            places[well] = (group_set, float(slot))
        order = order[size:]
        group_set += 1
    return places


def _number_configurations(
    placed: Sequence[tuple[str, int, tuple[float, float]] | None],
) -> list[int | None]:
    levels: dict[str, set[tuple[float, float]]] = defaultdict(set)
    for place in placed:
        if place is not None:
            levels[place[0]].add(place[2])
    number = {key: {level: i for i, level in enumerate(sorted(found))} for key, found in levels.items()}
    return [None if place is None else number[place[0]][place[2]] for place in placed]
