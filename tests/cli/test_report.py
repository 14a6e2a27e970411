"""The page of a folder of results, and the command that makes a run again."""

import base64
import dataclasses
import hashlib
import html
import json
import re
import shlex
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import subsim
from subsim.analysis import plotting, tables
from subsim.analysis.summary import mean_interval
from subsim.cli import catalogue, commands, document, page, plots, report, terminal
from subsim.engine.study import Table
from subsim.options import UserError

STUDY = """
'''Is 1 < 2 & "so on"?'''
import jax
import subsim

def run(key, hyper):
    return {"number": hyper["scale"] * jax.random.normal(key), "curve": jax.random.normal(key, (300,))}

def report(results):
    return [subsim.Table("A table & more", ("what", "mean"), (("<all>", f"{float(results.number.mean()):.6f}"),))]

study = subsim.Study(name="NAME", title=__doc__, make_run=lambda config, data: run, seeds=3, hyper={"scale": 1.0},
    report=report, variables={
    "number": subsim.Variable("a <b>number</b>"), "curve": subsim.Variable("a curve", ("step",))})
"""
FIGURE = """
from subsim.analysis import plotting

@plotting.styled
def draw(results):
    drawn, axes = plotting.figure()
    axes.plot(results.number)
    return drawn
"""


class Reader(HTMLParser):
    """The elements of a page, every one of which must be closed where it should be."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.open, self.text = [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)

    def all(self, tag, attribute):
        return [attributes[attribute] for name, attributes in self.elements if name == tag and attribute in attributes]


def cells(text):
    return [html.unescape(cell) for cell in re.findall(r"<td>(.*?)</td>", text)]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Results of a study that is at hand, of the same over another sweep, of a study whose file is gone, and of one
    that was run by its path."""
    root = tmp_path_factory.mktemp("page")
    for file in ("experiments/here.py", "figures/here.py", "figures/apart.py", "gone.py", "mine/apart.py"):
        (root / file).parent.mkdir(exist_ok=True)
        text = FIGURE if file.startswith("figures") else STUDY.replace("NAME", Path(file).stem)
        (root / file).write_text(text, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        patch.setenv("XDG_CACHE_HOME", str(root / "cache"))
        commands.main(["run", "here"])
        commands.main(["run", "here", "--sweep", "scale=0.5,1", "--out", "results/deep/swept"])
        commands.main(["run", "./gone.py"])
        commands.main(["run", "mine/apart.py"])
    (root / "gone.py").unlink()
    return root


@pytest.fixture
def there(root, monkeypatch):
    monkeypatch.chdir(root)
    return root


def test_the_page_holds_every_figure_and_table_and_nothing_external(there, capsys):
    commands.main(["report", "--to", "page.html"])
    assert "page.html" in capsys.readouterr().out
    text = (there / "page.html").read_text(encoding="utf-8")
    read = Reader(text)
    assert text.startswith("<!DOCTYPE html>")
    assert [tag for tag, _ in read.elements].count("section") == 4
    images = read.all("img", "src")
    assert len(images) == 3  # the sweep, which the figure does not draw, has a picture, too
    for image, name, where in ((images[0], "apart", "mine/apart.py"), (images[2], "here", "here")):
        results, study = subsim.load_results(f"results/{name}"), subsim.load_study(where)
        figure = plotting.as_png(catalogue.load_figure(where)(results))
        assert image == "data:image/png;base64," + base64.b64encode(figure).decode()
        (table,) = study.report(results)
        assert {"<all>", table.rows[0][1]} <= set(cells(text))
    body = text[text.index("<main>") :]
    assert body.count("A table &amp; more") == 2
    assert "subsim run mine/apart.py</code>" in text
    # The sweep has a table of its own, too; so has the study whose file is gone.
    assert {"0.5", "1.0"} <= set(cells(text))
    assert body.count("<caption><span>number: a") == 2
    assert "number: a &lt;b&gt;number&lt;/b&gt;" in text
    assert "Is 1 &lt; 2 &amp; &quot;so on&quot;?" in text
    assert "curve: a curve; 12 of 300 labels of step" in text
    assert "there is no study &#x27;gone&#x27;" in text
    # Nothing is fetched: no script from elsewhere, no link but to its own sections, no address in the style.
    assert not {"link", "iframe", "object", "form"} & {tag for tag, _ in read.elements}
    assert not read.all("script", "src")
    assert read.all("a", "href") == ["#run-1", "#run-2", "#run-3", "#run-4"]
    assert read.all("section", "id") == ["run-1", "run-2", "run-3", "run-4"]
    assert not [source for source in read.all("img", "src") if not source.startswith("data:")]
    assert "url(" not in text
    assert "@import" not in text
    for words in ("prefers-color-scheme: dark", "@media print", '<html lang="en">', '<meta charset="utf-8">'):
        assert words in text


def test_the_page_tells_how_a_run_was_made_and_is_the_same_again(there):
    text, passed_over = report.whole_page(there / "results", lambda _: None)
    assert passed_over == []
    attributes = subsim.load_results("results/here").attrs
    (origin,), (program,) = attributes["origins"].values(), attributes["programs"].values()
    for value in (origin["commit"] or "", origin["created"], origin["device"], program["data_sha256"]):
        assert str(value) in text
    assert f"jax {origin['versions']['jax']}" in text
    assert text == report.whole_page(there / "results", lambda _: None)[0]


def test_a_folder_without_whole_results_is_refused_and_one_among_others_passed_over(there, tmp_path, capsys):
    def refused(folder, *words):
        with pytest.raises(SystemExit) as stop:
            commands.main(["report", str(folder)])
        complaint = capsys.readouterr().err
        assert stop.value.code == 2
        assert complaint.count("\n") == 1
        assert all(word in complaint for word in words)

    refused(tmp_path / "nowhere", "nowhere holds no results")
    shutil.copytree(there / "results", tmp_path / "results")
    (tmp_path / "results" / "gone" / "run.zarr" / "number" / "c.0").write_bytes(b"x")
    refused(tmp_path / "results" / "gone", "is damaged in number/c.0")
    commands.main(["report", str(tmp_path / "results")])
    assert "Passed over" in capsys.readouterr().out
    text = (tmp_path / "results" / "report.html").read_text(encoding="utf-8")
    assert "is damaged in number/c.0" in text
    assert Reader(text).all("section", "id") == ["run-1", "run-2", "run-3"]
    (tmp_path / "foreign" / "run.zarr").mkdir(parents=True)
    refused(tmp_path / "foreign", "not a complete subsim store")
    (tmp_path / "a file").touch()
    with pytest.raises(SystemExit):
        commands.main(["report", str(there / "results"), "--to", str(tmp_path / "a file" / "page.html")])
    assert "to: cannot write" in capsys.readouterr().err


def test_results_that_the_studys_code_cannot_read_any_more_keep_their_numbers(there, monkeypatch):
    study = subsim.load_study("here")

    def broken(results):
        raise KeyError("init")

    monkeypatch.setattr(catalogue, "load_study", lambda name: dataclasses.replace(study, report=broken))
    monkeypatch.setattr(catalogue, "load_figure", lambda name: broken)
    entry = report.entry(there / "results" / "here")
    assert entry.figure is None
    assert sum("cannot be made" in note for note in entry.notes) == 2
    assert any("number" in table.title for table in entry.tables)


@pytest.mark.parametrize("text", ["<script>alert(1)</script>", '"><img src=http://example.org>', "a & b", "é ≤ ⟨x⟩"])
def test_all_text_is_escaped(text):
    table = Table(text, (text, "n"), ((text, "1"),))
    origin = {
        "versions": {text: text}, "python": text, "device": text, "devices": 1, "cores": 1, "xla_flags": text,
        "commit": None, "created": text,
    }  # fmt: skip
    attributes = {
        "study": text, "title": text, "sweep": {text: [text]}, "root_seed": 0, "precision": text,
        "config": {text: text}, "hyper": None, "programs": {"a": {"data_sha256": text}},
        "origins": {"a": origin, "b": origin},
    }  # fmt: skip
    data = json.dumps({"title": text})
    entry = page.Entry(
        text, attributes, text, [table], {text: text}, {text: f"no {text}", f"{text}2": text}, text, figure=b"png",
        plots=[plots.Plot(text, text, [data])], command=text, notes=[text],
    )  # fmt: skip
    whole = page.page(text, [entry], [text])
    read = Reader(whole)
    assert [tag for tag, _ in read.elements].count("script") == 2  # the page's own
    assert len(read.all("img", "src")) == 1
    assert sum(text in data for data in read.text) > 15
    assert read.all("div", "data-plot") == [data]


def test_the_policy_names_the_pages_own_style_and_scripts_by_their_hashes(there):
    text, _ = report.whole_page(there / "results", lambda _: None)
    (policy,) = re.findall(r'Content-Security-Policy" content="(.*?)"', text)
    rules = {name: values for name, *values in (rule.split() for rule in policy.split("; "))}
    assert rules.pop("default-src") == ["'none'"]
    for tag in ("style", "script"):
        inside = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        hashes = [base64.b64encode(hashlib.sha256(each.encode()).digest()).decode() for each in inside]
        assert rules.pop(f"{tag}-src") == [f"'sha256-{each}'" for each in hashes]
    assert rules == {"img-src": ["data:"], "base-uri": ["'none'"], "form-action": ["'none'"]}
    assert len(text.replace("data:image/png;base64,", "")) < 1_500_000


def test_the_plotting_library_is_the_one_that_its_licence_names_and_stands_once_where_there_are_plots(there):
    licence = (document.ASSETS / "chart.LICENSE").read_text(encoding="utf-8")
    code = (document.ASSETS / "chart.umd.min.js").read_bytes()
    assert hashlib.sha256(code).hexdigest() in licence
    assert "MIT License" in licence
    assert not re.search("</script|<!--", document.library(), re.IGNORECASE)
    assert report.whole_page(there / "results", lambda _: None)[0].count(licence) == 1
    # Control: a run without plots needs no library.
    bare = report.entry(there / "results" / "here")
    assert bare.plots
    assert "Chart.js" not in page.page("here", [bare._replace(plots=())])


def test_a_run_is_summarised_before_all_sections(there):
    text, _ = report.whole_page(there / "results", lambda _: None)
    top = text[: text.index("<main>")]
    attributes = subsim.load_results("results/here").attrs
    assert top.count("<tr>") == 5
    for words in ('href="#run-1"', "Is 1 &lt; 2", "A table &amp; more", "&lt;all&gt;", ">3<"):
        assert words in top
    assert max(run["created"] for run in attributes["origins"].values())[:10] in top
    # The headline of a sweep: mean, interval and n.
    (row,) = re.findall(r"<tr>(?:(?!<tr>).)*?deep/swept.*?</tr>", top, re.DOTALL)
    results = subsim.load_results("results/deep/swept")
    (first, *_) = tables.report(results)
    assert first.title in html.unescape(row)
    assert all(cell in row for line in (first.rows[0], first.rows[-1]) for cell in line)


def test_a_headline_has_rows_from_the_first_to_the_last_and_says_how_many():
    rows = tuple((str(number), f"{number}.5", "[0, 1]", "7", "0") for number in range(100))
    table = Table("Long", ("m", "mean", "95% interval", "n", "dropped"), rows)
    (text,) = Reader(page.headline([table])).text[:1]
    assert text == "Long; 6 of 100 rows"
    lines = page.headline([table]).split("<div>")[1:]
    assert len(lines) == 6
    assert "99.5 [0, 1]" in lines[-1]
    assert "dropped" not in lines[-1]
    assert page.headline([]) == ""


def test_options_that_differ_stand_beside_their_default_and_the_others_are_folded(there):
    entry = report.entry(there / "results" / "deep" / "swept")
    shown, folded = page.options(entry)
    assert re.findall(r'scope="row">(.*?)<', shown) == ["axis scale"]
    assert cells(shown) == ["0.5, 1.0", "-"]
    assert "<details>" not in shown
    assert folded.startswith("<details>")
    assert {"seeds", "root_seed", "precision", "scale"} <= set(re.findall(r'scope="row">(.*?)<', folded))
    # Without its study nothing is known to differ.
    gone = report.entry(there / "results" / "gone")
    (all_options,) = page.options(gone)
    assert gone.usual is None
    assert all_options.startswith("<details>")


def test_what_a_study_has_of_its_own_stands_in_place_of_the_options_that_it_overrules():
    """A network, a trait and a loss of the user's own: the options' values would tell of another experiment."""

    def shouted(z, y):
        return abs(z - y).sum()

    study = subsim.distillation(
        "mine",
        network=(lambda key: {}, lambda params, x: x[:13]),
        trait=subsim.Trait(name="prefers 7"),
        students={"student": subsim.Student(loss=shouted, inputs="blurred")},
    )
    assert study.own["trait"] == "prefers 7"
    assert set(study.own) >= {"network", "activation", "student.loss", "student.inputs"}
    assert "data" not in study.own
    options = {"network": "mlp", "activation": "relu", "student.loss": "kl", "student.batch": 64}
    attributes = {"programs": {}}
    entry = page.Entry("r", attributes, "3", [], options, options, own=study.own)
    shown = "".join(page.options(entry))
    for value in ("mlp", "relu", "kl"):
        assert f"<td>{value}</td>" not in shown
    for words in ("<td>64</td>", "the study&#x27;s own network", "set by every student of the study", "prefers 7"):
        assert words in shown
    assert subsim.distillation("plain").own == {"trait": "labels"}


def test_a_plot_has_the_means_and_intervals_of_its_picture():
    results = figure_10(**{"student.temperature": [1.0, 4.0, 100.0], "student.loss": ["kl", "mse"]})
    results.accuracy[0, 0, 0, 0] = np.nan
    found = plots.plots(results)
    assert [plot.title.split()[0] for plot in found] == ["accuracy", "alignment", "imitation_loss"]
    panels = [json.loads(panel) for panel in found[0].panels]
    assert [panel["title"] for panel in panels] == ["student.loss = kl", "student.loss = mse"]
    kl = panels[0]
    assert (kl["x"], kl["at"], kl["log_x"], kl["numeric"]) == ("student.temperature", [1, 4, 100], True, True)
    assert kl["range"] == panels[1]["range"]
    expected = mean_interval(results.accuracy)
    assert [line["label"] for line in kl["lines"]] == results.condition.values.tolist()
    for line in kl["lines"]:
        at = expected.sel({"student.loss": "kl", "condition": line["label"]})
        for name in ("mean", "low", "high", "n"):
            np.testing.assert_allclose(line[name], at[name], rtol=1e-5)
    assert kl["lines"][0]["n"] == [3, 4, 4]
    assert "n = 3 to 4 seeds" in found[0].caption


def test_words_have_a_plot_where_they_are_swept_alone_and_long_curves_are_thinned():
    results = figure_10(**{"student.loss": ["kl", "mse"]})
    (panel,) = plots.plots(results)[0].panels
    read = json.loads(panel)
    assert (read["numeric"], read["at"], read["words"]) == (False, [0, 1], ["kl", "mse"])
    assert plots.plots(figure_10()) == []
    curve = xr.DataArray(np.full((3, 5000), np.inf), dims=("seed", "step"), attrs={"description": "a curve"})
    (plot,) = plots.plots(xr.Dataset({"curve": curve}, attrs={"sweep": {}}))
    read = json.loads(plot.panels[0])
    assert (read["at"][0], read["at"][-1], len(read["at"])) == (0, 4999, plots.MOST_LABELS)
    assert "100 of 5000 labels of step" in plot.caption
    assert set(read["lines"][0]["mean"]) == {None}
    assert read["range"] == []
    many = xr.DataArray(np.zeros((3, 50, 3000)), dims=("seed", "x", "y"), attrs={"description": "too many lines"})
    assert plots.plots(xr.Dataset({"many": many}, attrs={"sweep": {"x": 0}})) == []


def test_a_study_under_another_name_is_not_taken_for_it(there, monkeypatch):
    other = dataclasses.replace(subsim.load_study("here"), name="other")
    monkeypatch.setattr(catalogue, "load_study", lambda name: other)
    entry = report.entry(there / "results" / "here")
    assert any("'other'" in note for note in entry.notes)
    assert entry.command is None
    with pytest.raises(UserError):
        report._named("here")


def test_a_study_that_was_run_by_its_path_is_found_there(there, monkeypatch):
    """Unless a study of its name is at hand, its file is gone, or the study in it has another name by now."""
    path = str(there / "mine" / "apart.py")
    where = report._where
    assert where({"study": "apart", "study_file": path}) == "mine/apart.py"
    assert where({"study": "here", "study_file": path}) == "here"
    assert where({"study": "gone", "study_file": str(there / "gone.py")}) == "gone"
    assert where({"study": "gone"}) == "gone"
    monkeypatch.chdir(there / "results")
    assert where({"study": "apart", "study_file": path}) == path
    entry = report.entry(there / "results" / "apart")
    assert entry.notes == []
    assert shlex.split(entry.command)[:3] == ["subsim", "run", path]
    assert entry.figure
    file = there / "mine" / "apart.py"
    text = file.read_text(encoding="utf-8")
    file.write_text(text.replace('"apart"', '"renamed"'), encoding="utf-8")
    try:
        entry = report.entry(there / "results" / "apart")
    finally:
        file.write_text(text, encoding="utf-8")
    assert any("'renamed' in its file" in note for note in entry.notes)
    assert (entry.figure, entry.command) == (None, None)


def figure_10(**axes):
    """Results of Figure 10's shape over a sweep with these axes."""
    conditions = [f"{who} ({what})" for who in ("reference", "student", "cross-model") for what in ("aux.", "all")]
    coords = {name: list(values) for name, values in axes.items()}
    sizes = [len(values) for values in coords.values()]
    data = {}
    for name, last in (("accuracy", conditions), ("alignment", conditions[2:]), ("imitation_loss", conditions[2:])):
        dim = "condition" if name == "accuracy" else "student"
        numbers = np.random.default_rng(0).uniform(size=(4, *sizes, len(last)))
        data[name] = xr.DataArray(numbers, coords | {dim: last}, ("seed", *coords, dim), attrs={"description": "share"})
    return xr.Dataset(data, attrs={"sweep": coords})


def test_derived_values_whose_labels_would_be_lost_are_refused():
    labels, other = xr.DataArray([1.0, 2.0], {"kind": ["a", "b"]}, "kind"), xr.DataArray([3.0], {"kind": ["c"]}, "kind")
    results = xr.Dataset({"values": labels}, attrs={"sweep": {}})
    study = dataclasses.replace(subsim.load_study("single_step"), axes={}, sizes={}, derived=lambda _: {"less": other})
    with pytest.raises(UserError, match="less has c along kind, where the record has other labels"):
        report.completed(study, results)
    # Control: some of the record's labels, and a dimension of its own.
    more = {"part": labels.isel(kind=[0]), "own": other.rename(kind="another")}
    found = report.completed(dataclasses.replace(study, derived=lambda _: more), results)
    assert found.own.item() == 3.0
    assert found.part.dropna("kind").item() == 1.0


@pytest.mark.parametrize(
    "axes",
    [
        {"student.loss": ["kl", "mse"], "student.temperature": [1.0, 2.0, 4.0]},
        {"student.learning_rate": np.geomspace(1e-5, 1, 40), "widths": ["16-16", "256-256"]},
        {name: [1, 2] for name in "abcde"},
    ],
)
def test_the_tables_of_a_sweep_stay_within_a_screen(capsys, axes):
    shown, more = report.on_a_screen(tables.report(figure_10(**axes)))
    for table in shown:
        terminal.print_table(table)
    lines = capsys.readouterr().out.splitlines()
    assert 20 <= len(lines) <= report.MOST_LINES
    assert max(map(len, lines)) <= 80
    assert len(lines) == sum(map(terminal.lines_of, shown))
    assert "more tables (" in more
    assert "imitation_loss" in more


def test_a_report_that_fits_is_shown_whole_and_of_a_long_table_the_first_rows():
    short = Table("Short", ("what", "mean"), (("a", "1"),))
    assert report.on_a_screen([short, short]) == ([short, short], "")
    assert report.on_a_screen([]) == ([], "")
    long = Table("Long: of all", ("what", "mean"), tuple((str(number), "1") for number in range(100)))
    (cut,), more = report.on_a_screen([long, short])
    assert terminal.lines_of(cut) == report.MOST_LINES
    assert cut.rows == long.rows[: len(cut.rows)]
    assert more == f"{100 - len(cut.rows)} more rows of this table and 1 more table (Short)"


def test_a_run_says_what_else_its_report_has_and_the_command_shows_it(there, capsys):
    text = (there / "mine" / "apart.py").read_text(encoding="utf-8").replace('"apart"', '"long"')
    rows = text.replace('"mean"), (', '"mean"), 99 * (')
    (there / "mine" / "long.py").write_text(rows, encoding="utf-8")
    commands.main(["run", "mine/long.py", "--out", "a folder"])
    printed = capsys.readouterr().out
    (line,) = (line for line in printed.splitlines() if "more rows" in line)
    command = shlex.split(line.partition(": ")[2])
    assert command == ["subsim", "report", "a folder"]
    commands.main(command[1:])
    text = Path("a folder/report.html").read_text(encoding="utf-8")
    assert text[text.index("<main>") :].count("&lt;all&gt;") == 99
    shutil.rmtree("a folder")
    (there / "mine" / "long.py").unlink()
