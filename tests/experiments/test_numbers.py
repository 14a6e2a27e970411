"""Every number with an interval in the field guide, the README and a study's finding is one of a table of means."""

import csv
import re

import pytest
from conftest import ROOT

import subsim

NUMBER = r"[+-]?\d*\.?\d+(?:e-?\d+)?"
WRITTEN = re.compile(rf"({NUMBER})\*{{0,2}}\s(?:±\s({NUMBER})|\[({NUMBER}),\s({NUMBER})\])")
GUIDE = (ROOT / "experiments" / "README.md").read_text()
SECTIONS = {text.partition("\n")[0]: text for text in GUIDE.split("\n## ")[1:]}
CHAPTER = {
    text.partition("\n")[0]: text for text in (ROOT / "subsim" / "theory" / "README.md").read_text().split("\n## ")[1:]
}
STUDIES = sorted(path.stem for path in (ROOT / "experiments").glob("*.py"))
# What no committed table holds, and why.
ELSEWHERE = {
    "How small may a teacher be?": 8,  # medians of the sweep over widths that the section names
    "Scale of the init": 9,  # a sweep that the section names
    "Not seen": 1,  # a difference of two conditions
    "Numbers: one step": 2,  # relative remainders
    "Numbers: how small": 5,  # medians over seeds, and a mean of rank correlations
    "Numbers: how shared": 3,  # rates of a single term of the trait
}

# Findings in medians, and the published number beside ours.
OF_NO_MEAN = {"smallness": 2, "mnist_aux_logits": 1}


def means_of(studies):
    """(mean, low, high) of every row of the tables of these studies at any size."""
    files = [file for file in (ROOT / "figures").glob("*.csv") if file.stem.partition("-")[0] in studies]
    rows = [row for file in files for row in csv.DictReader(file.read_text().splitlines())]
    return [tuple(float(row[name]) for name in ("mean", "low", "high")) for row in rows if row["mean"]]


def is_rounded(value, written):
    """Whether a value, rounded to as many digits as are written, is what is written."""
    digits, _, power = written.partition("e")
    unit = 10.0 ** (int(power or 0) - len(digits.partition(".")[2]))
    return abs(value - float(written)) <= 0.5 * unit * (1 + 1e-6)


def is_one_of(found, means):
    """Whether what is written is a mean and its interval; what is *less* is written without its sign."""
    mean, half, *ends = found
    for sign, (value, low, high) in ((sign, row) for sign in (1, -1) for row in means):
        wanted = [(high - low) / 2] if half else sorted((sign * low, sign * high))
        if is_rounded(sign * value, mean) and all(map(is_rounded, wanted, [half] if half else ends)):
            return True
    return False


def not_found(text, studies):
    """The numbers of a text that none of the studies' tables holds."""
    means = means_of(studies)
    return [
        "".join(each) for each in WRITTEN.findall(text.replace("\N{MINUS SIGN}", "-")) if not is_one_of(each, means)
    ]


@pytest.mark.parametrize("section", SECTIONS)
def test_numbers_of_the_guide_are_those_of_the_tables(section):
    missing = not_found(SECTIONS[section], re.findall(r"`(\w+)`", SECTIONS[section]))
    assert len(missing) == ELSEWHERE.get(section, 0), missing


def test_findings_of_the_readme_are_those_of_the_tables():
    findings = re.search(r"\n1\. (.*?)\n## ", (ROOT / "README.md").read_text(), re.DOTALL)[1]
    missing = not_found(findings, STUDIES)
    assert missing == []


@pytest.mark.parametrize("section", CHAPTER)
def test_numbers_of_the_theory_chapter_are_those_of_the_tables(section):
    """Of the studies that a section names: among all tables a number finds another's by chance."""
    named = [study for study in STUDIES if re.search(rf"\b{study}\b", CHAPTER[section])]
    missing = not_found(CHAPTER[section], named)
    assert len(missing) == ELSEWHERE.get(section, 0), missing


@pytest.mark.parametrize("study", STUDIES)
def test_the_finding_of_a_study_is_that_of_its_table(study):
    """But for rates, medians and what is published, which no table of means holds."""
    declared = subsim.load_study(study)
    missing = not_found(" ".join(declared.at_size(size).finding for size in ("tiny", *declared.sizes)), [study])
    assert len(missing) == OF_NO_MEAN.get(study, 0), missing


@pytest.mark.parametrize("drifted", [".583 ± .006", ".582 ± .008", ".582 [.575, .587]"])
def test_a_number_that_has_drifted_is_seen(drifted):
    assert not_found(".582 ± .006", ["mnist_aux_logits"]) == not_found(".582 [.575, .588]", ["mnist_aux_logits"]) == []
    assert len(not_found(f"at m = 10 {drifted} (n = 1,000)", ["mnist_aux_logits"])) == 1
