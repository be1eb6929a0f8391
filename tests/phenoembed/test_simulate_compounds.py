"""Compounds, wells and growth of a simulated screen: truth-driven, no image rendered."""

import itertools
import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from phenoembed.simulate.cell_lines import CELL_LINES, EPITHELIAL
from phenoembed.simulate.compounds import Compound, draw_compounds, hill
from phenoembed.simulate.mechanisms import MECHANISMS
from phenoembed.simulate.phenotype import FRACTIONS, PARAMETERS
from phenoembed.simulate.wells import PLATE_WELLS, WellEffects, WellPlan, draw_effects, lay_out, population

QUIET = WellEffects(1.0, {}, 1.0, 0.0, 0.0, (0.0, 0.0, 0.0), 0.0)
DMSO = WellPlan(1, 1, 100, None, 0.0)


def drawn(count: int = 24, seed: int = 0) -> list[Compound]:
    return draw_compounds(count, np.random.default_rng(seed))


def dosed(compound: Compound, concentration_um: float) -> WellPlan:
    return WellPlan(1, 1, 100, compound, concentration_um)


def test_compounds_share_mechanisms_and_some_do_nothing() -> None:
    """24 compounds: three inactive ones, the others in mechanisms of three or four."""
    counts = Counter(compound.mechanism for compound in drawn())
    assert counts.pop("") == 3
    assert set(counts.values()) <= {3, 4}
    assert set(counts) <= set(MECHANISMS)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 200), st.integers(0, 1000))
def test_any_number_of_compounds_can_be_drawn(count: int, seed: int) -> None:
    """Names are unique, and with five or more compounds every mechanism has two at least."""
    compounds = drawn(count, seed)
    assert len({compound.name for compound in compounds}) == count
    mechanisms = Counter(compound.mechanism for compound in compounds if compound.mechanism)
    if count >= 5:
        assert min(mechanisms.values()) >= 2


def test_names_tell_nothing() -> None:
    """The order of names is not the order of mechanisms."""
    mechanisms = [compound.mechanism for compound in drawn(48)]
    assert sum(a == b for a, b in itertools.pairwise(mechanisms)) < 12


def test_compounds_of_a_mechanism_share_its_direction_but_are_not_the_same() -> None:
    """Every component of the mechanism keeps its sign; sizes and potencies differ."""
    compounds = [compound for compound in drawn(48) if not compound.inactive]
    for compound in compounds:
        for name, change in MECHANISMS[compound.mechanism].items():
            assert math.copysign(1, compound.log_fold[name]) == math.copysign(1, change)
        assert set(compound.log_fold) <= set(PARAMETERS)
    assert len({compound.ec50_um for compound in compounds}) == len(compounds)


def test_far_below_its_ec50_a_compound_leaves_cells_as_dmso_does() -> None:
    """At a tenth of the EC50 every parameter lies within 4% of the full effect's log fold change from DMSO."""
    untreated = population(EPITHELIAL, DMSO, QUIET, 72.0).phenotype
    for compound in drawn(48):
        if compound.inactive:
            continue
        treated = population(EPITHELIAL, dosed(compound, compound.ec50_um / 10), QUIET, 72.0).phenotype
        for name in PARAMETERS:
            moved = abs(math.log(getattr(treated, name) / getattr(untreated, name)))
            assert moved <= 0.04 * abs(compound.log_fold.get(name, 0.0)) + 1e-9


def test_the_effect_rises_with_dose_and_time() -> None:
    """Half of it at the EC50, 63% of it at the onset, and never less at more."""
    compound = next(c for c in drawn() if not c.inactive)
    assert compound.response(compound.ec50_um, 1e4) == pytest.approx(0.5)
    assert compound.response(1e6, compound.onset_h) == pytest.approx(1 - math.exp(-1), rel=1e-3)
    doses = [compound.response(dose, 24.0) for dose in np.geomspace(0.01, 100, 20)]
    assert doses == sorted(doses)


@given(st.floats(0.001, 1000), st.floats(0.001, 1000), st.floats(0.5, 4))
def test_the_hill_curve_is_a_fraction(dose: float, half: float, slope: float) -> None:
    """Between 0 and 1, and its complement mirrors it."""
    value = hill(dose, half, slope)
    assert 0 <= value <= 1
    assert value + hill(half, dose, slope) == pytest.approx(1)


def test_an_inactive_compound_grows_and_looks_like_dmso() -> None:
    """At the highest dose too."""
    inactive = next(c for c in drawn() if c.inactive)
    assert population(EPITHELIAL, dosed(inactive, 50.0), QUIET, 72.0) == population(EPITHELIAL, DMSO, QUIET, 72.0)


def test_some_compounds_show_at_a_low_dose_only() -> None:
    """They act at 0.5 µM with most cells alive, and have killed most of them at 50 µM by 72 h."""
    control = population(EPITHELIAL, DMSO, QUIET, 72.0).living
    narrow = []
    for compound in drawn():
        low, high = (population(EPITHELIAL, dosed(compound, dose), QUIET, 72.0) for dose in (0.5, 50.0))
        if compound.response(0.5, 72.0) > 0.5 and low.living > 0.15 * control and high.living < 0.02 * control:
            narrow.append(compound)
            assert high.dead > 3 * high.living
    assert len(narrow) >= 3


@pytest.mark.parametrize("line", CELL_LINES.values(), ids=lambda line: line.name)
def test_untreated_cells_grow_between_the_time_points(line) -> None:  # type: ignore[no-untyped-def]
    """72 h is denser than 24 h, and a default field of 64 px holds 5 to 20 cells."""
    area_mm2 = (64 * line.optics.pixel_um / 1000) ** 2
    early, late = (population(line, DMSO, QUIET, time).living * area_mm2 for time in (24.0, 72.0))
    assert 5 < early < late < 20
    assert late > 1.5 * early


def test_growth_follows_the_logistic_curve() -> None:
    """Hourly steps agree with the closed solution."""
    line, time = EPITHELIAL, 72.0
    start, top = line.seeding_per_mm2, line.capacity_per_mm2
    expected = top / (1 + (top / start - 1) * math.exp(-line.phenotype.growth_per_h * time))
    assert population(line, DMSO, QUIET, time).living == pytest.approx(expected, rel=0.02)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 300), st.integers(1, 4), st.integers(0, 200), st.integers(0, 99))
def test_a_layout_places_each_well_once(count: int, doses: int, dmso: int, seed: int) -> None:
    """Every compound at every dose once, the controls shared evenly among as few plates as hold them."""
    compounds = drawn(count, seed)
    concentrations = [10.0**i for i in range(doses)]
    wells = lay_out(compounds, concentrations, 1, dmso, np.random.default_rng(seed))
    assert len({(well.plate, well.name) for well in wells}) == len(wells) == count * doses + dmso
    treated = Counter((w.compound.name, w.concentration_um) for w in wells if w.compound)
    assert len(treated) == count * doses
    plates = Counter(well.plate for well in wells)
    assert len(plates) == math.ceil(len(wells) / PLATE_WELLS)
    assert max(plates.values()) <= PLATE_WELLS
    controls = Counter(well.plate for well in wells if well.compound is None)
    assert max(controls.values(), default=0) - min((controls[p] for p in plates), default=0) <= 1


def test_wells_are_named_as_on_a_384_well_plate() -> None:
    """A01 to P24, the rim known as such."""
    assert [WellPlan(1, 1, p, None, 0.0).name for p in (0, 23, 24, 383)] == ["A01", "A24", "B01", "P24"]
    assert sum(WellPlan(1, 1, p, None, 0.0).outer for p in range(PLATE_WELLS)) == 2 * 24 + 2 * 14


def test_nuisance_is_the_wells_own_and_tells_no_compound() -> None:
    """What a plate does to a well does not depend on what is in it; wells and replicates differ."""
    compound = drawn()[0]
    assert draw_effects(dosed(compound, 5.0), 3) == draw_effects(DMSO, 3)
    other = WellPlan(2, 1, 100, None, 0.0)
    assert draw_effects(other, 3) != draw_effects(DMSO, 3)


def test_fractions_stay_fractions() -> None:
    """However strong an effect is."""
    moved = EPITHELIAL.phenotype.shifted(dict.fromkeys(FRACTIONS, 9.0))
    assert all(getattr(moved, name) == 0.9 for name in FRACTIONS)
