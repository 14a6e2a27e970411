"""The paper's MNIST experiment (section 6.2, Figure 10): a student learns digits from auxiliary logits on noise."""

import xarray as xr

from subsim import Table, distillation
from subsim.analysis.tables import mean_table


def report(results: xr.Dataset) -> list[Table]:
    """One row per condition of Figure 10."""
    return [mean_table(results.accuracy, f"Accuracy on {results.attrs['config']['data']}")]


study = distillation("mnist_aux_logits", title=__doc__, report=report, seeds=100, cost="18 minutes on 2 cores")
