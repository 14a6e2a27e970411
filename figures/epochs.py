"""Accuracy along distillation, a line for each teacher, and how it ends against the teacher's steps."""

import xarray as xr
from matplotlib.figure import Figure

from subsim.analysis import plotting
from subsim.analysis.summary import mean_interval

EPOCH = 59


@plotting.styled
def draw(results: xr.Dataset) -> Figure:
    """Draw students with a shared init (left), with an independent init (middle), and the last step (right)."""
    along, last = mean_interval(results.accuracy_along), mean_interval(results.accuracy)
    steps = results.teacher_step.values
    colours = plotting.shades(len(steps))
    drawn, panels = plotting.figure(3, width=11.5, height=3.8, sharey=True)
    for axes, student in zip(panels, map(str, results.student.values), strict=False):
        for colour, step in zip(colours, steps, strict=True):
            here = along.sel(teacher_step=step, student=student)
            label = f"teacher of {step // EPOCH} epoch{'s' if step > EPOCH else ''}"
            plotting.band(axes, results.step / EPOCH, here, colour, "-", label)
        plotting.chance(axes, 0.1)
        axes.set_xlabel("epochs of the student")
        axes.set_title(student)
        plotting.band(panels[2], steps / EPOCH, last.sel(condition=student), plotting.colour_of(student), "-o", student)
    plotting.band(panels[2], steps / EPOCH, last.sel(condition="teacher"), plotting.NEUTRAL, "--s", "teacher")
    plotting.tick_all(panels[2], steps / EPOCH)
    panels[2].set_xlabel("epochs of the teacher")
    panels[2].set_title("at the student's last epoch")
    panels[0].set_ylim(0, 1)
    panels[0].set_ylabel("accuracy")
    panels[1].legend(fontsize=7.5)
    panels[2].legend(fontsize=7.5, loc=(0.3, 0.3))
    plotting.protocol_caption(drawn, results, along, f"An epoch is {EPOCH} steps.")
    return drawn
