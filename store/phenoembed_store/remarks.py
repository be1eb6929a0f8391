"""What a person should know of a table that is imported: nothing is taken for something else in silence."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import pyarrow as pa

from phenoembed_store.columns import NAMELESS
from phenoembed_store.engine import session
from phenoembed_store.profiles import Plan

DECIMAL_COMMA = r"[+-]?\d+,\d+([eE][+-]?\d+)?"


@dataclass
class Remarks:
    """Collected over the pieces of a table."""

    plan: Plan
    numbers: dict[str, int] = field(default_factory=dict)
    odd: dict[str, tuple[int, str]] = field(default_factory=dict)  # column -> line and value that is no number
    broken: dict[str, int] = field(default_factory=dict)  # column -> line of the first text over several lines
    doseless: int = 0
    rows: int = 0

    def see(self, piece: pa.Table, described: pa.Table, lines: Sequence[int]) -> None:
        """A piece as it stands in the table, and as it was understood; the lines of its rows."""
        for name in self.plan.matched.others:
            if pa.types.is_string(piece.schema.field(name).type):
                self._see_text(name, piece.column(name), lines)
        dose = self.plan.matched.ours.get("concentration_um")
        if dose is not None:
            treated = [role == "treated" for role in described.column("role").to_pylist()]
            given = piece.column(dose).to_pylist()
            self.doseless += sum(
                one and (value is None or value != value) for one, value in zip(treated, given, strict=True)
            )
        self.rows += len(piece)

    def _see_text(self, name: str, column: pa.ChunkedArray, lines: Sequence[int]) -> None:
        with session() as connection:
            connection.register("t", pa.table({"v": column, "n": pa.array(range(len(column)), pa.int64())}))
            found = connection.sql(
                "SELECT count(*) FILTER (ok OR regexp_full_match(v, $comma)), min(n) FILTER (NOT ok), "
                "arg_min(v, n) FILTER (NOT ok), min(n) FILTER (contains(v, chr(10))) FROM "
                "(SELECT v, n, coalesce(isfinite(try_cast(v AS DOUBLE)), false) AS ok FROM t WHERE v IS NOT NULL)",
                params={"comma": DECIMAL_COMMA},
            ).fetchall()[0]
        self.numbers[name] = self.numbers.get(name, 0) + found[0]
        if found[1] is not None:
            self.odd.setdefault(name, (lines[found[1]], found[2]))
        if found[3] is not None:
            self.broken.setdefault(name, lines[found[3]])

    def lines(self) -> list[str]:
        """A line each."""
        plan, said = self.plan, list[str]()
        known = {*plan.matched.ours, *(name for further in plan.further for name in (*further.on, *further.new))}
        if "compound" not in known:
            said.append(
                "no column for the compound was recognised: every row is taken for a DMSO control "
                "(--map compound=THEIRS, or --metadata FILE for a table of the wells)"
            )
        if plan.dropped:
            said.append(f"{plan.dropped_because}, and were left out: {_some(plan.dropped)}")
        for name in plan.matched.others:
            if NAMELESS.fullmatch(name):
                said.append(f"column '{name}' has no name of its own, and was not taken for a feature")
        for name, (line, value) in self.odd.items():
            if self.numbers[name] > self.rows // 2:
                comma = " (it wants a decimal point)" if re.fullmatch(DECIMAL_COMMA, value) else ""
                said.append(
                    f"column '{name}' was taken for text, not a feature: '{value}' in line {line} is no number{comma}"
                )
        for name, line in self.broken.items():
            said.append(f"'{name}' has text on several lines in line {line}: is a quote (\") not closed there?")
        if self.doseless:
            said.append(f"{self.doseless:,} treated rows have no concentration and stand at 0 micromolar")
        return said


def _some(names: tuple[str, ...], shown: int = 5) -> str:
    return ", ".join(names[:shown]) + (f" and {len(names) - shown:,} more" if len(names) > shown else "")
