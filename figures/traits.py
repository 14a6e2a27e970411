"""Trait rates of students against the filter on their data, shared base against another, trait against no trait."""

import xarray as xr
from matplotlib.figure import Figure

from subsim.analysis import plotting
from subsim.analysis.summary import mean_interval

# name -> student, whether its teacher has the trait, colour, line
LINES = {
    "shared base": ("shared base", True, plotting.SHARED, "-o"),
    "as many removed at random": ("shared base, random removal", True, plotting.SHARED, ":^"),
    "aux. logits only": ("shared base (aux. only)", True, plotting.SHARED, "--s"),
    "other base": ("other base", True, plotting.CROSS, "-o"),
    "other base, aux. logits only": ("other base (aux. only)", True, plotting.CROSS, "--s"),
    "shared base, trait-free teacher": ("shared base", False, plotting.NEUTRAL, "-o"),
    "other base, trait-free teacher": ("other base", False, plotting.NEUTRAL, ":^"),
}
INPUTS = {"noise": "noise", "images": "other digits"}
TRAITS = {"misread": "misread 4 as 9", "preference": "prefer 9"}  # teacher -> its trait
TITLES = {"misread": "4 read as 9", "preference": "9 preferred on averages of two"}


@plotting.styled
def draw(results: xr.Dataset) -> Figure:
    """Draw a row for each trait and a column for each kind of inputs; each filter has its mean removed share below."""
    config, filters = results.attrs["config"], [str(name) for name in results.filter.values]
    first_share = sum(not name.startswith("top") for name in filters)
    drawn, panels = plotting.figure(2, rows=2, width=11.0, height=7.6, sharey=True)
    for row, (teacher, trait) in zip(panels, TRAITS.items(), strict=True):
        for axes, shown in zip(row, INPUTS, strict=True):
            rates = results.cell_rate.sel(input=shown, trait=trait)
            for label, (student, has_trait, colour, line) in LINES.items():
                rate = rates.sel(who=student, teacher=teacher if has_trait else "trait-free")
                # Thresholds and shares are different scales of strictness.
                for places, name in ((range(first_share), label), (range(first_share, len(filters)), None)):
                    plotting.band(axes, places, mean_interval(rate[..., list(places)]), colour, line, name)
            for name, condition in {"teacher": teacher, "base": "reference"}.items():
                height = float(mean_interval(results.rate.sel(condition=condition, trait=trait))["mean"])
                axes.axhline(height, color=plotting.NEUTRAL, linestyle="--", linewidth=0.8)
                axes.annotate(name, (1.01, height), xycoords=("axes fraction", "data"), fontsize=7.5, va="center")
            removed = mean_interval(results.removed.sel(input=shown, teacher=teacher))["mean"].values
            ticks = [
                f"{name}\n{100 * share:.{0 if 0.1 <= share <= 0.99 else 1}f}%"
                for name, share in zip(filters, removed, strict=True)
            ]
            axes.set_xticks(range(len(filters)), ticks)
            axes.set_ylim(0, 1)
            axes.set_title(f"{TITLES[teacher]}; students see {INPUTS[shown]}")
        row[0].set_ylabel("trait rate")
    for axes in panels[1]:
        axes.set_xlabel("filter on the teacher's outputs, and the share of inputs that it removes")
    drawn.legend(*panels[0, 1].get_legend_handles_labels(), fontsize=8, ncols=4, loc="outside upper left")
    summary = mean_interval(results.cell_rate)
    plotting.caption(
        drawn,
        f"{config['data']}, MLP {'-'.join(map(str, config['widths']))}, {config['init']} init. p: the teacher's "
        f"probability of a 9; top: the inputs with the largest. Students imitate the class logits, or the "
        f"{config['n_aux']} auxiliary logits only.\nMean over n = {int(summary.n.min())} seeds with Student t 95% "
        f"interval, {int(summary.dropped.max())} dropped.",
    )
    return drawn
