"""Studies and figures of a user's own, from the command line."""

import matplotlib
import pytest
from toys import SIZED, TOY, refused

import subsim


def test_a_study_that_raises_at_its_import_is_one_sentence(command, tmp_path):
    (tmp_path / "mine.py").write_text("\nx = 1 / 0\n")
    sentence = "mine.py, line 2: ZeroDivisionError: division by zero; mend the study file."
    for words in ("run ./mine.py", "run ./mine.py --help", "compile ./mine.py --topology v5e:2x2"):
        assert refused(command(*words.split()), sentence)


def test_a_study_runs_with_a_module_beside_it(command, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "helper.py").write_text("BY = 2.0\n")
    text = TOY.replace("jax.random.normal(key)", "helper.BY + 0 * jax.random.normal(key)")
    (tmp_path / "mine" / "study.py").write_text(text.replace("import subsim", "import subsim, helper", 1))
    assert command("run", "mine/study.py")[0] == 0
    assert (subsim.load_results("results/study").number == 2).all()


@pytest.mark.parametrize("kind", ["report", "derived", "draw"])
def test_what_a_studys_code_raises_later_is_shown_as_python_shows_it(command, tmp_path, kind):
    lines = {"report": "report=lambda results: 1 / 0, ", "derived": "derived=lambda results: 1 / 0, "}
    (tmp_path / "experiments").mkdir()
    (tmp_path / "experiments" / "mine.py").write_text(TOY.replace("seeds=3", lines.get(kind, "") + "seeds=3"))
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "mine.py").write_text("def draw(results): return 1 / 0")
    if kind == "draw":
        assert command("run", "mine")[0] == 0
    with pytest.raises(ZeroDivisionError):
        command("figure" if kind == "draw" else "run", "mine")


def test_a_users_figure_is_drawn_in_the_house_style_too(command, tmp_path):
    figure = """
import matplotlib
from matplotlib.figure import Figure

def draw(results):
    print("font size", matplotlib.rcParams["font.size"])
    return Figure()
"""
    for folder, text in (("experiments", TOY), ("figures", figure)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "mine.py").write_text(text)
    assert command("run", "mine")[0] == 0
    with matplotlib.rc_context({"font.size": 30}):
        assert "font size 10" in command("figure", "mine")[1]


def test_the_figure_of_a_sweep_that_it_does_not_draw_says_what_it_draws(command, tmp_path):
    for folder, text in (("experiments", SIZED), ("figures", "draw = print")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "mine.py").write_text(text)
    plain = SIZED.replace('"axes": {"scale": [2.0, 4.0]}', "").replace('"mine"', '"plain"')
    (tmp_path / "experiments" / "plain.py").write_text(plain)
    (tmp_path / "figures" / "plain.py").write_text("draw = print")
    for name, drawn in (("mine", "draws only a sweep over scale"), ("plain", "draws no sweep")):
        assert command("run", name, "--sweep", "shift=1,2")[0] == 0
        assert refused(
            command("figure", name),
            f"results/{name} holds a sweep over shift, but the figure of {name} {drawn}; draw it with --x shift",
        )
