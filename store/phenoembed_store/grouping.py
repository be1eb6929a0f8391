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
ByTime = dict[float, set[Well]]  # the wells that were imaged at each time


class _WellTime(NamedTuple):
    """A well at a time, and what it was given."""

    screen: str
    replicate: str
    compound: str
    concentration_um: float
    plate: str
    well: str
    time_h: float


class _Place(NamedTuple):
    """Where a well at a time stands: in which set, and at which level (dose, or slot of a control) and time."""

    set: int
    level: float


def assign_groups(table: pa.Table) -> pa.Table:
    """Add ``group_id``, ``set`` and ``configuration`` to a table with the columns of ``SCREEN_SCHEMA``.

    ``configuration`` numbers the (dose, time) pairs within a group from 0, by rising dose, then time. Images of empty
    wells, and control wells left over when no further group of the right size can be made, get nulls. The answer does
    not depend on the order of the rows.
    """
    wells = [
        _WellTime(*row) for row in zip(*(table.column(name).to_pylist() for name in _WellTime._fields), strict=True)
    ]
    roles, fields = table.column("role").to_pylist(), table.column("field").to_pylist()
    treated = {well for well, role in zip(wells, roles, strict=True) if role == "treated"}
    controls = {well for well, role in zip(wells, roles, strict=True) if role == "control"}
    places = _place_treated(treated)
    places |= _place_controls(controls, places)

    found = [places.get(well) if role != "empty" else None for well, role in zip(wells, roles, strict=True)]
    ids = [
        None if place is None else group_id(well.screen, well.compound, well.replicate, place.set, field)
        for well, place, field in zip(wells, found, fields, strict=True)
    ]
    levels = [None if place is None else (place.level, well.time_h) for well, place in zip(wells, found, strict=True)]
    return (
        table.append_column("group_id", pa.array(ids, pa.string()))
        .append_column("set", pa.array([place and place.set for place in found], pa.int32()))
        .append_column("configuration", pa.array(_number_configurations(ids, levels), pa.int32()))
    )


def group_id(screen: str, compound: str, replicate: str, group_set: int, field: int) -> str:
    """The readable key ``screen/compound/replicate/set/field``; a slash within a name becomes ``%2F``."""
    names = (
        quote(part, safe=" !#$&'()*+,:;=?@[]~µ") if "/" in part or "%" in part else part
        for part in (screen, compound, replicate)
    )
    return "/".join([*names, str(group_set), str(field)])


def _place_treated(wells: set[_WellTime]) -> dict[_WellTime, _Place]:
    """The k-th well of a compound's dose stands in set k, at the level of its dose."""
    doses: dict[tuple[str, str, str, float], ByTime] = defaultdict(lambda: defaultdict(set))
    for well in wells:
        doses[well[:4]][well.time_h].add((well.plate, well.well))
    ranks = {dose: _rank_wells(by_time) for dose, by_time in doses.items()}
    return {
        well: _Place(ranks[well[:4]][well.time_h, (well.plate, well.well)], well.concentration_um) for well in wells
    }


def _place_controls(wells: set[_WellTime], treated: dict[_WellTime, _Place]) -> dict[_WellTime, _Place]:
    """Deal the control wells of each replicate into sets as large as its treated ones."""
    sizes = _treated_sizes(treated)
    by_time: dict[tuple[str, str, str], ByTime] = defaultdict(lambda: defaultdict(set))
    for well in wells:
        by_time[well[:3]][well.time_h].add((well.plate, well.well))
    ranks = {control: _rank_wells(times) for control, times in by_time.items()}
    dealt = {
        control: _deal(max(ranks[control].values()) + 1, sizes[control[:2]], "/".join(control)) for control in by_time
    }
    numbers = {well: ranks[well[:3]][well.time_h, (well.plate, well.well)] for well in wells}
    return {well: dealt[well[:3]][number] for well, number in numbers.items() if number in dealt[well[:3]]}


def _treated_sizes(places: dict[_WellTime, _Place]) -> dict[tuple[str, str], list[int]]:
    """How many doses each treated set of a (screen, replicate) has."""
    doses: dict[tuple[str, str, str, int], set[float]] = defaultdict(set)
    for well, place in places.items():
        doses[well.screen, well.replicate, well.compound, place.set].add(place.level)
    sizes: dict[tuple[str, str], list[int]] = defaultdict(list)
    for (screen, replicate, _, _), levels in sorted(doses.items()):
        sizes[screen, replicate].append(len(levels))
    return sizes


def _rank_wells(by_time: ByTime) -> dict[tuple[float, Well], int]:
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


def _deal(n_wells: int, treated_sizes: Sequence[int], name: str) -> dict[int, _Place]:
    """Deal control wells (by number) into sets of the treated sets' sizes: number -> place.

    The order is random but fixed by the replicate's name, so that neighbours on a plate do not end up together.
    """
    draw = random.Random(name)
    order = draw.sample(range(n_wells), n_wells)
    sizes = draw.sample(sorted(treated_sizes), len(treated_sizes)) or [1]
    places: dict[int, _Place] = {}
    group_set = 0
    while order:
        size = sizes[group_set % len(sizes)]
        if size > len(order) and places:
            break  # the rest is too few for a whole group
        places |= {well: _Place(group_set, float(slot)) for slot, well in enumerate(order[:size])}
        order = order[size:]
        group_set += 1
    return places


def _number_configurations(ids: Sequence[str | None], levels: Sequence[tuple[float, float] | None]) -> list[int | None]:
    """Number the (level, time) pairs of each group from 0."""
    found: dict[str, set[tuple[float, float]]] = defaultdict(set)
    for name, level in zip(ids, levels, strict=True):
        if name is not None and level is not None:
            found[name].add(level)
    number = {name: {level: i for i, level in enumerate(sorted(pairs))} for name, pairs in found.items()}
    return [
        None if name is None or level is None else number[name][level] for name, level in zip(ids, levels, strict=True)
    ]
