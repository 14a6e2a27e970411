"""Where studies are found, and what a user's file may do."""

import hashlib
import sys

import pytest

import subsim
from subsim import UserError
from subsim.cli import catalogue
from subsim.engine import declaration

STUDY = """
'''A study.'''
import jax
import subsim
import helper
from helper import shift as shifted
import lib.deep as deep
import late

def run(key, hyper):
    return {"number": shifted(0 * jax.random.normal(key)) + helper.BY + deep.BY + late.BY}

study = subsim.Study(name="mine", title=__doc__, make_run=lambda config, data: run, seeds=2,
                     variables={"number": subsim.Variable("a number")})
"""


def write(folder, **files):
    for name, text in files.items():
        path = folder / f"{name.replace('__', '/')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return str(folder / "mine.py")


def beside(folder, by):
    """A study, and all that it imports from beside it."""
    helper = f"from other import BY\ndef shift(x): return x + {by}\n"
    deep = f"from . import deeper\nfrom lib import deeper as again\nassert deeper is again\nBY = {by}\n"
    files = {"other": f"BY = {by}", "late": f"BY = {by}", "lib__deep": deep, "lib__deeper": ""}
    return write(folder, mine=STUDY, helper=helper, **files)


def number(study):
    return float(subsim.simulate(study).number[0])


def modules_of(study):
    number(study)  # as a run does first: it loads what is imported late
    return declaration.meaning(study)["sources"]


@pytest.fixture(autouse=True)
def _forget():
    """No module of a user's is loaded when a test begins."""
    for name in [name for name in sys.modules if name.startswith("subsim_")]:
        del sys.modules[name]


# ---- Modules beside a study.


@pytest.mark.parametrize("package", [True, False])
def test_a_study_imports_the_modules_beside_it(tmp_path, package):
    """From a package, too, and from a folder that is none."""
    path = beside(tmp_path / "mine", 1.0)
    if package:
        write(tmp_path / "mine" / "lib", __init__="")
    assert number(subsim.load_study(path)) == 4.0
    assert not list(tmp_path.rglob("__pycache__"))


def test_folders_with_modules_of_one_name_each_get_their_own(tmp_path):
    """Also among the sources of their studies, where they have the same names wherever a study lies."""
    studies = []
    for folder, by in ((tmp_path / "a", 1.0), (tmp_path / "b", 10.0)):
        studies.append(subsim.load_study(beside(folder, by)))
        files = {"subsim_study_mine": "mine", **{name.replace("/", "."): name for name in MODULES}}
        texts = {name: (folder / f"{file}.py").read_bytes() for name, file in files.items()}
        ours = {name: text for name, text in modules_of(studies[-1]).items() if name in texts}
        assert ours == {name: hashlib.sha256(text).hexdigest() for name, text in texts.items()}
    assert [number(study) for study in studies] == [4.0, 40.0]


MODULES = ("helper", "other", "late", "lib/deep", "lib/deeper")


@pytest.mark.parametrize("changed", MODULES)
def test_a_change_of_a_module_beside_a_study_is_a_change_of_its_sources(tmp_path, changed):
    before = modules_of(subsim.load_study(beside(tmp_path, 1.0)))
    file = tmp_path / f"{changed}.py"
    file.write_text(file.read_text(encoding="utf-8") + "# changed", encoding="utf-8")
    after = modules_of(subsim.load_study(str(tmp_path / "mine.py")))
    assert {name for name in before if before[name] != after[name]} == {changed.replace("/", ".")}


def test_a_study_that_is_loaded_again_has_its_modules_loaded_again(tmp_path):
    path = beside(tmp_path, 1.0)
    assert number(subsim.load_study(path)) == 4.0
    assert number(subsim.load_study(beside(tmp_path, 2.0))) == 8.0  # within a second, with files as long as before
    assert [name for name in sys.modules if name.startswith("subsim_study_")].count("subsim_study_mine") == 1


def test_a_file_that_raises_when_it_is_loaded_again_leaves_the_study_that_is_in_use(tmp_path):
    study = subsim.load_study(beside(tmp_path, 1.0))
    before = modules_of(study)
    write(tmp_path, mine=STUDY + "\n1 / 0")
    with pytest.raises(UserError, match="ZeroDivisionError"):
        subsim.load_study(str(tmp_path / "mine.py"))
    assert number(study) == 4.0
    assert modules_of(study).keys() == before.keys()


def test_a_study_is_no_package_to_itself(tmp_path):
    """As in `python mine.py`."""
    path = write(tmp_path, mine="from . import helper", helper="")
    with pytest.raises(UserError, match=r"mine\.py, line 1: ImportError: attempted relative import"):
        subsim.load_study(path)


def test_figures_and_claims_import_what_lies_beside_them(tmp_path):
    write(tmp_path / "experiments", mine=STUDY)
    write(tmp_path / "figures", mine="from helper import draw", helper="def draw(results): return 7")
    assert catalogue.load_figure(str(tmp_path / "experiments" / "mine.py"))(None) == 7
    claim = "from subsim.claims.claims import lemma_of\nclaims = [lemma_of('mine', lambda z, y: (z - y).sum())]"
    write(tmp_path, mine="from claimed import claims", claimed=claim)
    assert len(catalogue.load_claims(tmp_path / "mine.py")) == 1


# ---- Files that raise.


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("\nx = 1 / 0", "mine.py, line 2: ZeroDivisionError: division by zero; mend the study file."),
        ("raise SystemExit(3)", "mine.py, line 1: SystemExit: 3; mend the study file."),
        ("\n\nimport no_such", "mine.py, line 3: ModuleNotFoundError: No module named 'no_such'; mend the study file."),
        ("assert False", "mine.py, line 1: AssertionError; mend the study file."),
        ("\ndef f(:", "mine.py, line 2: SyntaxError: invalid syntax; mend the study file."),
        ("eval('(')", "mine.py, line 1: SyntaxError: '(' was never closed; mend the study file."),
        ("raise ValueError('one.\\n\\ntwo')", "mine.py, line 1: ValueError: one; mend the study file."),
        ("import helper", "helper.py, line 3: IndexError: list index out of range; mend the study file."),
        ("import broken", "broken.py, line 1: SyntaxError: invalid syntax; mend the study file."),
        ("import jax\njax.numpy.zeros(2) + jax.numpy.zeros(3)", "mine.py, line 2: TypeError: add got incompatible"),
        ("\0", "mine.py: "),
        ("x = 1", "mine.py defines no `study` that is a subsim.Study; end it with study = subsim.Study(...)."),
    ],
)
@pytest.mark.usefixtures("_with_broken_helpers")
def test_a_file_that_raises_is_one_sentence_with_its_line(tmp_path, text, sentence):
    write(tmp_path, mine=text)
    with pytest.raises(UserError) as error:
        subsim.load_study("./mine.py")
    assert str(error.value).startswith(sentence)
    assert "\n" not in str(error.value)
    assert error.value.__cause__ is None
    assert error.value.__suppress_context__ or text == "x = 1"
    assert ("subsim_study_mine" in sys.modules) == (text == "x = 1")


@pytest.fixture
def _with_broken_helpers(tmp_path):
    write(tmp_path, helper="\n\nx = [][0]", broken="def f(:")


def test_a_file_that_is_not_utf8_is_one_sentence(tmp_path):
    (tmp_path / "mine.py").write_bytes(b"x = '\xff'")
    with pytest.raises(UserError, match=r"mine\.py.*SyntaxError: .*utf-8"):
        subsim.load_study("./mine.py")


def test_a_declaration_that_is_refused_names_its_line_once(tmp_path):
    write(tmp_path, mine="import subsim\nstudy = subsim.Study(name='', title='', make_run=print, variables={})")
    with pytest.raises(UserError, match=r"mine\.py, line 2: the study '': name must be text; mend its file\.$"):
        subsim.load_study("./mine.py")


@pytest.mark.parametrize("kind", ["figure", "claims"])
def test_figures_and_claims_that_raise_are_one_sentence(tmp_path, kind):
    path = write(tmp_path / "experiments", mine=STUDY)
    write(tmp_path / ("figures" if kind == "figure" else "claims"), mine="\nraise SystemExit")
    with pytest.raises(UserError, match=rf"mine\.py, line 2: SystemExit; mend the {kind} file\.$"):
        catalogue.load_figure(path) if kind == "figure" else catalogue.load_claims(tmp_path / "claims" / "mine.py")


def test_what_a_study_raises_later_is_no_concern_of_the_catalogue(tmp_path):
    write(tmp_path / "experiments", mine=STUDY)
    write(tmp_path / "figures", mine="def draw(results): return 1 / 0")
    with pytest.raises(ZeroDivisionError):
        catalogue.load_figure(str(tmp_path / "experiments" / "mine.py"))(None)


# ---- The list.


def test_the_list_reads_files_in_the_encoding_that_they_name(tmp_path):
    folder = tmp_path / "experiments"
    write(folder, utf8="'''What is é?'''\nstudy = 1", helper="'''No study.'''\nx = study_of = 1")
    (folder / "latin.py").write_bytes(b"# -*- coding: latin-1 -*-\n'''What is \xe9?'''\nfrom a import b as study\n")
    (folder / "none.py").write_bytes(b"'''What is \xe9?'''\n")
    (folder / "gone.py").symlink_to(tmp_path / "nowhere")
    listed = catalogue.available()
    assert listed["utf8"].sentence == listed["latin"].sentence == "What is é?"
    assert "helper" not in listed
    assert "not valid Python" in listed["none"].sentence
    assert "No such file" in listed["gone"].sentence


def test_a_study_is_at_hand_by_its_name_alone(tmp_path):
    write(tmp_path / "experiments", mine=STUDY)
    assert catalogue.has_study("mine")
    assert catalogue.has_study("single_step")
    for other in ("nothing", "experiments/mine.py", "mine.py", "x" * 300, "a\0b"):
        assert not catalogue.has_study(other)
