"""`subsim verify`: test claims over many seeds, and give a verdict on each."""

import json
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import xarray as xr

from subsim.analysis.summary import mean_interval, rate_interval
from subsim.claims import beyond, linearised
from subsim.claims.claims import Claim
from subsim.claims.edges import edges
from subsim.claims.statements import standard
from subsim.data import datasets
from subsim.engine.simulate import simulate
from subsim.engine.study import Study, Table, Variable
from subsim.options import require, require_choice

Answer = Literal["holds", "FAILS", "fails as it should", "undecided"]


class Row(NamedTuple):
    """The result of one claim in one setting over all seeds.

    `low` and `high` are the exact 95% interval of the rate of violation. `error` is the mean relative error of the
    prediction, and `error_low` and `error_high` are its 95% interval; None if the claim predicts no number.
    """

    claim: str
    setting: str
    n: int
    violations: int
    low: float
    high: float
    error: float | None
    error_low: float | None
    error_high: float | None
    verdict: Answer
    reason: str | None


def standard_claims() -> list[Claim]:
    """Return all claims of subsim; the real images among the inputs are digits, averaged over 2x2 pixels."""
    digits = datasets.load("digits")
    pooled = digits.train_images.reshape(-1, 4, 2, 4, 2).mean(axis=(2, 4)) * (2 / digits.brightest) - 1
    return [*standard(pooled.reshape(-1, 16)), *linearised.standard(), *beyond.standard(), edges()]


def study_of(claim: Claim) -> Study:
    """Return the study that tests `claim`; its record has the verdict in each setting."""
    settings: list[str] = []  # the test names them when it is traced

    def run(key: jax.Array, _: Any) -> dict[str, jax.Array]:
        verdicts = claim.test(key)
        settings[:] = verdicts
        return {
            "violated": jnp.stack([verdict.violated for verdict in verdicts.values()]),
            "error": jnp.stack([jnp.asarray(verdict.error, float) for verdict in verdicts.values()]),
        }

    return Study(
        name=claim.name,
        title=claim.statement,
        make_run=lambda _config, _data: run,
        coords={"setting": lambda _config, _count: settings},
        variables={
            "violated": Variable("whether the seed contradicts the claim", ("setting",)),
            "error": Variable("relative error of what the claim predicts; NaN where it predicts nothing", ("setting",)),
        },
        precision="float64",
        precisions=("float64",),
        chunk=4096,
        # Half of the time is compilation of many small functions; a higher optimisation level hardly speeds them up.
        compiler_options={"xla_backend_optimization_level": 1, "xla_llvm_disable_expensive_passes": True},
    )


def judge(claim: Claim, violations: int) -> Answer:
    """Return the verdict on a number of violations: a promised claim allows none, and an edge needs at least one."""
    if claim.promised:
        return "FAILS" if violations else "holds"
    return "fails as it should" if violations else "undecided"


def _judged(claim: Claim, results: xr.Dataset) -> list[Row]:
    """Return a row for every setting of `claim`."""
    rows, seeds = [], results.sizes["seed"]
    for setting in results.setting.values:
        here = results.sel(setting=setting)
        violations = int(here.violated.sum())
        error = mean_interval(here.error)
        mean, low, high = (float(error[part]) if int(error.n) else None for part in ("mean", "low", "high"))
        rate = rate_interval(violations, seeds)
        reason = (claim.reasons or {}).get(str(setting))
        verdict = judge(claim, violations)
        rows.append(Row(claim.name, str(setting), seeds, violations, *rate, mean, low, high, verdict, reason))
    return rows


def verify(claims: Iterable[Claim], seeds: int = 10_000, progress: Callable[[str], None] | None = None) -> list[Row]:
    """Test `claims` over seeds 0 .. `seeds` - 1 in float64, and return a row for every claim and setting.

    `progress` is called with the name of each claim before its test, in one of two threads. Raises `UserError` if there
    are no claims or no seeds.
    """
    require(seeds > 0, f"seeds is {seeds}; it must be at least 1.")

    def tested(claim: Claim) -> list[Row]:
        if progress:
            progress(claim.name)
        study = study_of(claim)
        return _judged(claim, simulate(study, seeds=seeds))

    # Two claims at a time: one is traced and compiled on one core, while the other runs.
    with ThreadPoolExecutor(2) as pool:
        rows = [row for rows in pool.map(tested, claims) for row in rows]
    require(bool(rows), "There is no claim to verify.")
    return rows


def tables(claims: Iterable[Claim], rows: Sequence[Row]) -> list[Table]:
    """Return a table for each of `claims`, with the first line of its statement as the title."""
    columns = ("setting", "violations", "rate, exact 95%", "error, 95%", "verdict")
    found = []
    for claim in claims:
        its_rows = [row for row in rows if row.claim == claim.name]
        title = f"{claim.name}. {claim.statement.split(chr(10))[0]} n = {its_rows[0].n:,}."
        found.append(Table(title, columns, tuple(map(_in_words, its_rows))))
    return found


def _in_words(row: Row) -> tuple[str, ...]:
    rate, error = f"[{row.low:.4f}, {row.high:.4f}]", "-"
    if row.error is not None and row.error_low is not None and row.error_high is not None:
        error = f"{row.error:.0e} ± {(row.error_high - row.error_low) / 2:.0e}"
    return row.setting, f"{row.violations:,}", rate, error, row.verdict


def as_json(rows: Sequence[Row]) -> str:
    """Return the rows as a JSON list of objects."""
    return json.dumps([row._asdict() for row in rows], indent=1)


def chosen(claims: Sequence[Claim], only: str | None) -> list[Claim]:
    """Return the claims with the name `only`, or all claims if it is None; raise `UserError` if there is none."""
    if only is not None:
        require_choice("only", only, [claim.name for claim in claims])
    return [claim for claim in claims if only in (None, claim.name)]
