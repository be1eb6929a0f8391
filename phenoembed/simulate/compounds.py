"""The compounds of a simulated screen: a mechanism, a potency, an onset and a toxicity that nobody knows in advance."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from phenoembed.simulate.mechanisms import MECHANISMS, SPAN
from phenoembed.simulate.phenotype import PARAMETERS

KILL_PER_H = 0.10  # death rate far above the LC50: nine cells in ten a day
INACTIVE_SHARE = 8  # one compound in so many does nothing
COMPOUNDS_A_MECHANISM = 3.5
STRENGTH = 1.4  # of the directions in MECHANISMS, median
STRENGTH_SD = 0.6  # of the log of each component's strength, between compounds of one mechanism
OFF_TARGET_SD = 0.6  # of the span of a parameter that the mechanism does not touch
OFF_TARGETS = 9  # how many such parameters a compound moves


@dataclass(frozen=True)
class Compound:
    """One compound's truth. Concentrations are micromolar, times hours after addition."""

    name: str
    mechanism: str  # "" where the compound is inactive
    ec50_um: float
    hill: float
    onset_h: float  # when the effect has reached 63% of its final size
    lc50_um: float  # infinite where no dose kills
    log_fold: Mapping[str, float]  # of the phenotype, at full effect

    @property
    def inactive(self) -> bool:
        return not self.mechanism

    def response(self, concentration_um: float, time_h: float) -> float:
        """How much of the full effect shows, 0 to 1: a Hill curve in dose times a sigmoid onset in time."""
        if self.inactive:
            return 0.0
        return hill(concentration_um, self.ec50_um, self.hill) * -math.expm1(-((time_h / self.onset_h) ** 2))

    def kill_per_h(self, concentration_um: float, time_h: float) -> float:
        """Death rate of the cells. Killing starts with the effect, but a day's exposure at most delays it."""
        started = -math.expm1(-((time_h / min(self.onset_h, 12.0)) ** 2))
        return KILL_PER_H * hill(concentration_um, self.lc50_um, 3.0) * started


def hill(concentration_um: float, half_um: float, slope: float) -> float:
    """The Hill equation, 0 to 1; 0 at no compound and where the half-effect concentration is infinite."""
    if concentration_um <= 0 or math.isinf(half_um):
        return 0.0
    return float(1 / (1 + (half_um / concentration_um) ** slope))


def draw_compounds(count: int, rng: np.random.Generator) -> list[Compound]:
    """Draw ``count`` compounds, spread evenly over mechanisms; the names tell nothing of what they do."""
    inactive = round(count / INACTIVE_SHARE)
    active = count - inactive
    mechanisms = _choose_mechanisms(active, rng)
    roles = [mechanisms[i % len(mechanisms)] for i in range(active)] + [""] * inactive
    toxicities = [_TOXICITIES[i % len(_TOXICITIES)] for i in rng.permutation(active)]
    order = rng.permutation(count)
    digits = max(4, len(str(count)))
    compounds = []
    for number, role in enumerate(order, start=1):
        name = f"SIM-{number:0{digits}d}"
        if role >= active:
            compounds.append(Compound(name, "", math.inf, 1.0, math.inf, math.inf, {}))
        else:
            compounds.append(_draw_active(name, roles[role], toxicities[role], rng))
    return compounds


_TOXICITIES = ("none", "narrow", "high", "none", "high", "narrow", "none", "high")


def _choose_mechanisms(active: int, rng: np.random.Generator) -> Sequence[str]:
    count = min(max(1, round(active / COMPOUNDS_A_MECHANISM)), len(MECHANISMS))
    names = list(MECHANISMS)
    return [names[i] for i in rng.permutation(len(names))[:count]]


def _draw_active(name: str, mechanism: str, toxicity: str, rng: np.random.Generator) -> Compound:
    if toxicity == "narrow":  # shows at a low dose only: a higher one kills
        ec50 = _log_uniform(rng, 0.06, 0.3)
        lc50 = ec50 * _log_uniform(rng, 12, 40)
    else:
        ec50 = _log_uniform(rng, 0.05, 2.5)
        lc50 = max(ec50 * 4, _log_uniform(rng, 30, 200)) if toxicity == "high" else math.inf
    slope = float(rng.uniform(1.5, 2.5))
    return Compound(name, mechanism, ec50, slope, _log_uniform(rng, 3, 24), lc50, _draw_log_fold(mechanism, rng))


def _draw_log_fold(mechanism: str, rng: np.random.Generator) -> dict[str, float]:
    """The mechanism's direction, each component with its own strength, and a few deviations of the compound's own."""
    shared = MECHANISMS[mechanism]
    drawn = {name: change * STRENGTH * float(rng.lognormal(0, STRENGTH_SD)) for name, change in shared.items()}
    others = [name for name in PARAMETERS if name not in shared and name != "growth_per_h"]
    for i in rng.permutation(len(others))[:OFF_TARGETS]:
        drawn[others[i]] = OFF_TARGET_SD * SPAN[others[i]] * float(rng.normal())
    return {name: min(max(change, -SPAN[name]), SPAN[name]) for name, change in drawn.items()}


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))
