"""The notebook runs from its first cell to its last, and what it shows is what it says."""

import json

import matplotlib.figure
import pytest
from conftest import ROOT

CELLS = json.loads((ROOT / "experiments" / "tour.ipynb").read_text(encoding="utf-8"))["cells"]
CODE = ["".join(cell["source"]) for cell in CELLS if cell["cell_type"] == "code"]


@pytest.mark.slow
@pytest.mark.usefixtures("optax_promotion")
def test_the_tour_runs(tmp_path, capsys):
    space: dict[str, object] = {}
    for number, cell in enumerate(CODE):
        exec(compile(cell.replace("seeds=100", "seeds=8"), f"tour, cell {number}", "exec"), space)
    means = {
        name: float(space["results"].accuracy.sel(condition=name).mean()) for name in space["results"].condition.values
    }
    assert means["student (aux. only)"] > 0.4 > 0.2 > means["cross-model (aux. only)"]
    assert abs(space["ratio"][0] - 1).max() < 0.05
    assert isinstance(space["figure"], matplotlib.figure.Figure)
    assert {"transfer_by_m.png", "transfer_by_m.pdf"} <= {file.name for file in tmp_path.iterdir()}
    assert "eps = 0.001" in capsys.readouterr().out


def test_every_cell_was_run_in_order_and_shows_what_it_made():
    code = [cell for cell in CELLS if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    shown = [output for cell in code for output in cell["outputs"]]
    assert sum("image/png" in output.get("data", {}) for output in shown) == 2
    assert not any(output["output_type"] == "error" or output.get("name") == "stderr" for output in shown)
