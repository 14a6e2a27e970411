"""The share of the teacher's change down a chain: same and fresh inputs, by optimiser, network and steps."""

import xarray as xr
from matplotlib.figure import Figure

from subsim.analysis import plotting
from subsim.analysis.summary import mean_interval

COLOURS = {"momentum": plotting.OTHER, "Adam": plotting.SHARED}
LINES = {"same": "-o", "fresh": "--s"}


@plotting.styled
def draw(results: xr.Dataset) -> Figure:
    """Draw a row for each number of steps and a column for each network; black lines are the kernels' prediction."""
    steps = results.student_steps.values
    networks = results.network.values
    drawn, panels = plotting.figure(
        len(networks), rows=len(steps), width=4.2 * len(networks), height=1.0 + 3.0 * len(steps), squeeze=False,
        sharex=True,
    )  # fmt: skip
    for row, count in zip(panels, steps, strict=True):
        here = results.sel(student_steps=count)
        for axes, network in zip(row, networks, strict=True):
            for optimiser, colour in COLOURS.items():
                for inputs, line in LINES.items():
                    values = here.share.sel(network=network, optimiser=optimiser, inputs=inputs)
                    label = f"{optimiser}, {inputs} inputs"
                    plotting.band(axes, here.hop.values, mean_interval(values), colour, line, label)
            for inputs in LINES if network == "linearised" else ():
                values = mean_interval(here.predicted_share.sel(inputs=inputs))["mean"]
                words = "kernels alone" if inputs == "same" else None
                axes.plot(here.hop.values, values.values, color="black", linewidth=0.8, zorder=4, label=words)
            axes.axhline(0, color=plotting.NEUTRAL, linestyle=":", linewidth=1, zorder=1)
            axes.set_xticks(here.hop.values)
            axes.set_title(f"{network}, {count} steps a hop")
        row[0].set_ylabel("share of the teacher's change")
    for axes in panels[-1]:
        axes.set_xlabel("hop")
    panels[0, -1].legend(fontsize=8)
    config, n = results.attrs["config"], results.sizes["seed"]
    plotting.caption(
        drawn,
        f"{config['data']}, MLP {'-'.join(map(str, config['widths']))}; {config['n_inputs']} noise images a hop, all "
        f"of them in a step, squared error of {config['n_aux']} auxiliary logits.\nMeans over n = {n} "
        "seeds with Student t 95% intervals; the change is that of the class logits of test images.",
    )
    return drawn
