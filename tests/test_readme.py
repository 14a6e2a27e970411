"""The code in every README runs as it stands, links lead somewhere, and the first one is short."""

import importlib.util
import re
import shlex

import pytest
from conftest import ROOT

from subsim.cli import catalogue, everything, main
from subsim.cli.arguments import CompileOptions, RunOptions, asked_size, parse_options
from subsim.cli.words import sweep_of
from subsim.engine.task import make_task

PAGES = {
    str(page.relative_to(ROOT)): page.read_text()
    for page in [
        ROOT / "README.md",
        *(each for room in ("experiments", "figures", "subsim") for each in (ROOT / room).rglob("README.md")),
    ]
}
README = PAGES["README.md"]
BLOCKS = [block for page in PAGES.values() for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL)]
FENCED = re.compile(r"```.*?```", re.DOTALL)
# Lines of the fenced shell code, and what stands between backticks in the text.
COMMANDS = [
    command
    for text in PAGES.values()
    for command in (
        *(line for block in FENCED.findall(text.replace("\\\n", " ")) for line in block.splitlines()),
        *re.findall(r"`([^`]+)`", FENCED.sub("", text)),
    )
]
STUDY_COMMAND = re.compile(r"subsim (run|compile) ([a-z]\w+)([^\"#&]*)")
FOUND = sorted({" ".join(found[0].split()) for line in COMMANDS if (found := STUDY_COMMAND.search(line))})
OF_ALL = [command for command in FOUND if command.startswith("subsim run all")]
OF_A_STUDY = [command for command in FOUND if command not in OF_ALL]


@pytest.mark.usefixtures("optax_promotion")
@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_python_blocks_run(number, capsys):
    space = {}
    exec(compile(BLOCKS[number], f"README.md, block {number}", "exec"), space)
    assert capsys.readouterr().out
    if "subsim.distillation(" in BLOCKS[number]:  # it shows the effect, and not two networks that learned nothing
        assert float(space["results"].accuracy.sel(condition="teacher").mean()) > 0.8


def test_a_study_from_the_readme_is_a_command(tmp_path, capsys):
    (block,) = (block for block in BLOCKS if "subsim.Study(" in block)
    definition, _, _ = block.partition("results =")
    (tmp_path / "absolute_error.py").write_text(definition)
    main(["run", "./absolute_error.py", "--seeds", "20", "--eps", "0.01"])
    assert "inner_product" in capsys.readouterr().out


@pytest.mark.parametrize("command", [each for each in OF_A_STUDY if "--help" not in each])
def test_commands_are_taken(command, monkeypatch):
    """Their options, and every value of their axes, are ones of the study that it can run, with PyTorch at hand."""
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name, find=importlib.util.find_spec: name == "torch" or find(name)
    )
    what, name, flags = STUDY_COMMAND.fullmatch(command).groups()
    words = shlex.split(flags)
    study = catalogue.load_study(name).at_size(asked_size(words))
    options, own = {"run": (RunOptions, {}), "compile": (CompileOptions, {"topology": "v5e:2x2"})}[what]
    asked, config, hyper = parse_options(study, words, f"subsim {what}", options, size=asked_size(words), **own)
    make_task(study, config, hyper, sweep_of(asked.sweep), 0, asked.precision)


@pytest.mark.parametrize("command", OF_ALL)
def test_commands_of_all_studies_are_taken(command, monkeypatch):
    asked = []
    monkeypatch.setattr(everything, "of_size", lambda size: asked.append(size) or {})
    main(shlex.split(command)[1:])
    assert len(asked) == 1


def test_there_are_blocks_and_commands_to_run():
    assert OF_ALL
    assert len(BLOCKS) >= 2
    assert len(OF_A_STUDY) > 20


def test_the_first_screen_has_the_two_commands():
    first_screen = "\n".join(README.split("\n")[:30])
    assert "pip install -e . && subsim demo" in first_screen
    assert "pip install -e '.[dev]' && pytest" in first_screen


def anchors(page):
    """The names that GitHub gives the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", FENCED.sub("", page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("name", PAGES)
def test_local_links_lead_somewhere(name):
    written = r"(?:\]\(|(?:src|href)=\")(?!https?:)([^)#\"]*)(?:#([^)\"]+))?[)\"]"
    for file, anchor in re.findall(written, PAGES[name]):
        target = (ROOT / name).parent / file if file else ROOT / name
        assert target.exists(), file
        assert not anchor or anchor in anchors(target.read_text()), f"{file}#{anchor}"


def test_the_readme_is_read_in_five_minutes():
    assert len(README.splitlines()) <= 150
    assert len(README.split()) <= 1500


def test_the_gallery_has_every_figure():
    shown = set(re.findall(r"\]\(([\w-]+\.png)\)", PAGES["figures/README.md"]))
    assert shown == {figure.name for figure in (ROOT / "figures").glob("*.png")}
