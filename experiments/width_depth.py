"""Does width or depth lower transfer? At fixed steps and at matched imitation loss."""

from dataclasses import replace

import xarray as xr

from subsim import Config, Hyper, Student, StudentConfig, Table, TrainingConfig, distillation
from subsim.analysis.summary import contrasts, lowest_common, matched
from subsim.analysis.tables import grid_tables, mean_tables
from subsim.transfer.worlds import TINY, TINY_HYPER

STUDENTS = {"student": Student(), "cross-model": Student("independent")}
WIDTHS = (8, 32, 64, 128, 256, 512, 1024, 2048)
# At each depth the narrowest and the widest network that two cores can finish in the time.
SMALL = {1: (8, 256), 2: (8, 128), 3: (8, 128), 4: (8, 64)}
LARGE = {1: (64, 2048), 2: (64, 1024), 3: (64, 512), 4: (64, 512)}


def shapes(ends: dict[int, tuple[int, int]]) -> list[tuple[int, ...]]:
    """Return hidden layers of equal width for every depth, from its narrowest to its widest."""
    return [(width,) * depth for depth, (least, most) in ends.items() for width in WIDTHS if least <= width <= most]


def derived(results: xr.Dataset) -> dict[str, xr.DataArray]:
    """Return accuracy at the last step and at equal imitation loss, and the widest minus the narrowest shape.

    The equal loss is the lowest that all shapes of a depth reach, in nat and as a share of the first loss.
    """
    student = results.sel(student="student", drop=True)
    depth, loss, along = results.widths.str.count("-"), student.imitation_loss_along, student.accuracy_along
    level = lowest_common(loss, "step", depth)
    share = loss / loss.isel(step=0)
    lowest = lowest_common(share, "step", depth)
    found = {
        "last step": results.accuracy.sel(condition="student", drop=True),
        "equal loss": matched(along, loss, "step", level),
        "equal share of the first loss": matched(along, share, "step", lowest),
    }
    of_depths = [results.widths.values[depth == each] for each in sorted(set(depth.values))]
    ends = [(here[0], here[-1]) for here in of_depths if len(here) > 1]
    pairs = {f"{last} less {first}": ({"widths": last}, {"widths": first}) for first, last in ends}
    what = "accuracy of a depth's widest student less that of its narrowest"
    less = [contrasts(values, pairs, what) for values in found.values()]
    where = xr.Variable("where", list(found))
    return {
        "accuracy_where": xr.concat(found.values(), where).assign_coords(level=level.mean("seed")),
        "widest_less_narrowest": xr.concat(less, where),
    }


def report(results: xr.Dataset) -> list[Table]:
    """Tabulate accuracies by shape at the last step and at equal loss, and the widest minus the narrowest shape."""
    return [
        *grid_tables(results.accuracy, "widths", "Accuracy"),
        *grid_tables(results.accuracy_where.isel(where=slice(1, None)), "widths", "Accuracy of the student", "where"),
        *mean_tables(results.widest_less_narrowest),
    ]


CONFIG = Config(
    n_aux=10,
    every=29,
    teacher=TrainingConfig(steps=295, batch=256),
    student=StudentConfig(batch=128, n_inputs=7_552),
)
study = distillation(
    "width_depth",
    title=__doc__,
    students=STUDENTS,
    config=replace(TINY, every=16),
    hyper=TINY_HYPER,
    axes={"widths": shapes(SMALL)},
    derived=derived,
    report=report,
    seeds=1000,
    finding="There is a best width: .321 ± .005 at 8, .662 ± .005 at 64, .494 ± .006 at 256 with one hidden "
    "layer (n = 1,000).",
    cost="9 minutes on 2 cores",
    sizes={
        "mnist": {"config": CONFIG, "hyper": Hyper(), "axes": {"widths": shapes(LARGE)}, "seeds": 32},
        "paper": {
            "config": replace(CONFIG, teacher=TrainingConfig(), student=StudentConfig()),
            "hyper": Hyper(),
            "axes": {"widths": shapes(dict.fromkeys(LARGE, (64, 2048)))},
            "seeds": 1000,
        },
    },
)
