"""The README's code runs as it stands, and its first screen has the two commands."""

import re

import pytest
from conftest import ROOT

from subsim.cli import main

README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


@pytest.mark.usefixtures("optax_promotion")
@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_python_blocks_run(number, capsys):
    exec(compile(BLOCKS[number], f"README.md, block {number}", "exec"), {})
    assert capsys.readouterr().out


def test_a_study_from_the_readme_is_a_command(tmp_path, capsys):
    (block,) = (block for block in BLOCKS if "subsim.Study(" in block)
    definition, _, _ = block.partition("results =")
    (tmp_path / "absolute_error.py").write_text(definition)
    main(["run", "./absolute_error.py", "--seeds", "20", "--eps", "0.01"])
    assert "inner_product" in capsys.readouterr().out


def test_there_are_blocks_to_run():
    assert len(BLOCKS) >= 2


def test_the_first_screen_has_the_two_commands():
    first_screen = "\n".join(README.split("\n")[:30])
    assert "pip install -e . && subsim demo" in first_screen
    assert "pip install -e '.[dev]' && pytest" in first_screen


def test_local_links_lead_somewhere():
    targets = re.findall(r"\]\((?!https?:)([^)#]+)\)", README) + re.findall(r'(?:src|href)="([^"]+)"', README)
    assert targets
    for target in targets:
        assert (ROOT / target).exists(), target
