"""Along a student's training: the pull toward the trait, what it adds up to, and what interventions leave of it."""

import xarray as xr
from matplotlib.figure import Figure

from subsim.analysis import plotting
from subsim.analysis.summary import mean_interval

LINES = {"none": "-", "projected": ":", "projected while positive": "-.", "liminal": "--"}
COLOURS = {"shared": plotting.SHARED, "independent": plotting.CROSS}
COSINES = {"cosine": "gradient", "update_cosine": "update"}
OPTIMISERS = {"sgd": "SGD", "adam": "Adam"}
LAYERS = {  # the heads' products are zero: L_T uses the class head only, imitation the auxiliary head only
    "hidden.0": (plotting.SHARED, "-", "first hidden"),
    "hidden.1": (plotting.OTHER, "--", "last hidden"),
}


@plotting.styled
def draw(results: xr.Dataset) -> Figure:
    """Draw a column for each optimiser: cosines of gradients, L_T and its sum, and accuracy by intervention."""
    config = results.attrs["config"]
    drawn, panels = plotting.figure(len(OPTIMISERS), rows=4, width=9.5, height=11.5)
    panels = panels.T
    for row, optimiser in zip(panels, results.optimiser.values, strict=True):
        here = results.sel(optimiser=optimiser)
        for init, colour in COLOURS.items():
            plain = here.along.sel(init=init, intervention="none")
            for name, line in {"cosine": "-", "update_cosine": "--"}.items():
                label = f"{init}, of the {COSINES[name]}"
                plotting.band(row[0], results.moment, mean_interval(plain.sel(quantity=name)), colour, line, label)
            loss = plain.sel(quantity="trait_loss")
            changes = {
                "measured": (loss - loss.isel(moment=0), "-"),
                "running sum": (plain.sel(quantity="running_sum"), "--"),
            }
            for name, (change, line) in changes.items():
                plotting.band(row[1], results.moment, mean_interval(change), colour, line, f"{init}, {name}")
            for place, what in enumerate(results.intervention.values):
                shift = place + (0.15 if init == "independent" else -0.15)
                accuracy = here.cell_accuracy.sel(init=init, intervention=what)
                plotting.scatter_of_seeds(row[2], shift, accuracy.values, colour)
                plotting.interval(row[2], shift, mean_interval(accuracy), colour)
        for layer, (colour, line, label) in LAYERS.items():
            cosines = here.layer_cosine.sel(init="shared", layer=layer)
            plotting.band(row[3], results.moment, mean_interval(cosines), colour, line, label)
        row[3].set_title("cosine by layer, shared init")
        row[3].set_ylabel("cosine")
        for axes in (row[0], row[3]):
            axes.axhline(0, color=plotting.NEUTRAL, linestyle=":", linewidth=1)
        row[0].set_title(f"{OPTIMISERS[str(optimiser)]}: imitation against trait gradient")
        row[0].set_ylabel("cosine")
        row[1].set_title(r"change of $L_T$ since the start")
        row[1].set_ylabel(r"change of $L_T$ / nat")
        names = [str(name).replace(" while", "\nwhile") for name in results.intervention.values]
        row[2].set_yticks(range(len(LINES)), names)
        row[2].invert_yaxis()
        row[2].axvline(0.1, color=plotting.NEUTRAL, linestyle=":", linewidth=1, zorder=1)
        row[2].set(xlim=(0, 1), xlabel="accuracy")
        row[2].set_title("accuracy by intervention, a dot a seed")
        for axes in row[[0, 1, 3]]:
            axes.set_xlabel("step of the student")
    title = "Along a student's training: the pull toward the trait, and what interventions leave"
    plotting.legend_above(drawn, panels[0][0], title)
    panels[0][1].legend(fontsize=8)
    panels[0][3].legend(fontsize=8)
    plotting.caption(
        drawn,
        f"{config['data']}, MLP {'-'.join(map(str, config['widths']))}, {config['init']} init, students imitate "
        f"{config['n_aux']} auxiliary logits on {config['student']['inputs']} noise. Mean over n = "
        f"{results.sizes['seed']} seeds with Student t 95% interval; dots: one seed.\nAdam's update cosine is that "
        "of its own metric; the running sum adds the first-order changes of every step up. By layer: without "
        "intervention; of the heads the product is exactly zero.",
    )
    return drawn
