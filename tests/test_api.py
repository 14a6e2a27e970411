"""The API page: the docstrings of all public names, rendered by pdoc, where a warning is an error."""

import inspect
import subprocess
import sys

import pytest
from conftest import ROOT

import subsim

RENDER = """
import pathlib, sys
import pdoc, subsim
vars(subsim).update({name: getattr(subsim, name) for name in subsim.__all__})  # which are looked up on first use
pdoc.render.configure(docformat="google", math=True)
pdoc.pdoc("subsim", "subsim.transfer.traits", output_directory=pathlib.Path(sys.argv[1]))
"""


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    folder = tmp_path_factory.mktemp("api")
    subprocess.run([sys.executable, "-W", "error", "-c", RENDER, folder], check=True, cwd=ROOT)
    return {file.relative_to(folder).stem: file.read_text(encoding="utf-8") for file in folder.rglob("*.html")}


@pytest.mark.parametrize("name", subsim.__all__)
def test_every_public_name_has_its_place_and_its_words(pages, name):
    thing = getattr(subsim, name)
    assert name in pages if inspect.ismodule(thing) else f'id="{name}"' in pages["subsim"]
    if callable(thing) or inspect.ismodule(thing):
        assert inspect.getdoc(thing)
