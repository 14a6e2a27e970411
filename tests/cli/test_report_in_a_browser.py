"""The report page in headless Chromium: no complaint, hover values, sorting, the width of a phone, print, no script."""

import json
import re
import shutil

import pytest
from browser import Browser, found

from subsim.cli import page, plots
from subsim.engine.study import Table

HOSTILE = "</script><script>throw 1</script><img src=x onerror=alert(1)> & \"'"
NUMBERS = ["1,000", ".582 ± .006", "1e-07", "-", "-3 [-4, -2]", "200"]
ORDER = ["-3 [-4, -2]", "1e-07", ".582 ± .006", "200", "1,000", "-"]
CANVAS = "document.querySelector('[data-plot] canvas')"
ONE_PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c4890000000d49444154789c63606060f80f0001040100"
    "5fe5c34b0000000049454e44ae426082"
)

pytestmark = pytest.mark.skipif(found() is None, reason="there is no Chromium here: the page stays untested in one")


def panel(**changes):
    """The data of a plot of two lines at three numbers, one of whose values is not there."""
    line = {"colour": "#0072B2", "mean": [0.25, 0.5, None], "low": [0.125, 0.4, None], "high": [0.375, 0.6, None]}
    lines = [
        line | {"label": HOSTILE, "stroke": "-", "n": [40, 39, 0]},
        line | {"label": "other", "stroke": "--", "n": [40, 40, 0], "mean": [0.9, 0.8, None]},
    ]
    plain = {
        "title": HOSTILE, "x": "temperature", "y": HOSTILE, "by": "condition", "numeric": True, "at": [1, 4, 100],
        "words": ["1", "4", "100"], "log_x": True, "log_y": False, "range": [0.125, 1.0], "lines": lines,
    }  # fmt: skip
    return json.dumps(plain | changes)


def entry():
    """A run whose every text is hostile, with a wide table and a plot of each kind."""
    origin = {
        "versions": {"jax": "1"}, "python": "3", "device": HOSTILE, "devices": 1, "cores": 1, "xla_flags": "",
        "commit": None, "created": "2026-01-01T00:00:00",
    }  # fmt: skip
    attributes = {
        "study": HOSTILE, "title": HOSTILE, "sweep": {}, "config": {"data": "digits"}, "hyper": None,
        "programs": {"a": {"data_sha256": "0" * 64}}, "origins": {"a": origin},
    }  # fmt: skip
    wide = Table(HOSTILE, ("what", *(f"column {n}" for n in range(12))), (tuple(f"{n}" for n in range(13)),) * 2)
    rows = tuple((f"row {n}", text) for n, text in enumerate(NUMBERS))
    words = panel(numeric=False, log_x=False, at=[0, 1, 2], words=[HOSTILE, "a long label of many words", "c"])
    shown = [
        plots.Plot("first", HOSTILE, [panel(), panel()]),
        plots.Plot("second", "words", [words]),
        plots.Plot("third", "logarithmic", [panel(log_y=True)]),
    ]
    return page.Entry(
        "/a/very/long/folder/" * 8, attributes, "40", [Table("numbers", ("what", "value"), rows), wide],
        {"name": HOSTILE, "same": 1}, {"name": "usual", "same": 1}, figure=ONE_PIXEL, still=True, plots=shown,
        command="subsim run " + "x" * 300,
    )  # fmt: skip


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    file = tmp_path_factory.mktemp("page") / "report.html"
    file.write_text(page.page("there", [entry()]), encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with Browser(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture(autouse=True)
def quiet(browser):
    """No test leaves a complaint of the browser's."""
    browser.complaints.clear()
    yield
    browser.evaluate("0")
    assert browser.complaints == []


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [1280, 375])
def test_the_page_fits_its_window_and_draws_every_plot(browser, file, width, dark):
    browser.show(file, width, dark=dark)
    browser.evaluate("document.querySelectorAll('details').forEach(each => { each.open = true; })")
    count = browser.evaluate("document.querySelectorAll('[data-plot]').length")
    assert count == 4
    for number in range(count):  # a plot is drawn when it is near
        browser.evaluate(f"document.querySelectorAll('[data-plot]')[{number}].scrollIntoView()")
        browser.wait(f"document.querySelectorAll('[data-plot]')[{number}].querySelector('canvas')")
    assert browser.evaluate("document.documentElement.scrollWidth") == width
    assert browser.evaluate("getComputedStyle(document.querySelector('.still')).display") == "none"
    bright = browser.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert bright != dark
    # Something is painted: the first line's colour, lightened in the dark.
    painted = browser.evaluate(
        f"new Set(new Uint32Array({CANVAS}.getContext('2d').getImageData(0, 0, {CANVAS}.width, {CANVAS}.height)"
        ".data.buffer)).size"
    )
    assert painted > 20
    wide = "Array.from(document.querySelectorAll('.wide')).filter(each => each.scrollWidth > each.clientWidth).length"
    assert width == 1280 or browser.evaluate(wide) >= 1


def test_a_heading_sorts_numbers_as_numbers_by_click_and_by_key(browser, file):
    browser.show(file, 1280)
    table = "document.querySelectorAll('main table.sortable')[0]"
    column = f"Array.from({table}.tBodies[0].rows, row => row.cells[1].textContent)"
    heading = f"{table}.tHead.rows[0].cells[1]"
    assert browser.evaluate(column) == NUMBERS
    browser.evaluate(f"{heading}.querySelector('button').click()")
    assert browser.evaluate(column) == ORDER
    assert browser.evaluate(f"{heading}.getAttribute('aria-sort')") == "ascending"
    browser.evaluate(f"{heading}.querySelector('button').focus()")
    browser.press("Enter", "\r")
    assert browser.evaluate(column) == [*ORDER[-2::-1], "-"]  # what is not there comes last
    assert browser.evaluate(f"{heading}.getAttribute('aria-sort')") == "descending"
    browser.evaluate(f"{table}.tHead.rows[0].cells[0].querySelector('button').click()")
    assert browser.evaluate(column) == NUMBERS
    assert browser.evaluate(f"{heading}.getAttribute('aria-sort')") is None


def test_a_point_tells_its_label_mean_interval_and_n_under_the_mouse_and_by_keys(browser, file):
    browser.show(file, 1280)
    browser.evaluate("document.querySelector('[data-plot]').scrollIntoView()")
    browser.wait(CANVAS)
    told = f"(Chart.getChart({CANVAS}).tooltip || {{}})"
    place = browser.evaluate(
        f"(() => {{ const box = {CANVAS}.getBoundingClientRect();"
        f" const point = Chart.getChart({CANVAS}).getDatasetMeta(0).data[1];"
        " return [box.x + point.x, box.y + point.y]; })()"
    )
    browser.move(place[0] - 30, place[1])
    browser.move(*place)
    browser.wait(f"{told}.opacity === 1")
    lines = browser.evaluate(f"[...{told}.title, ...{told}.body[0].lines]")
    assert lines == ["temperature = 4", HOSTILE, "mean 0.5", "95% interval [0.4, 0.6]", "n = 39"]
    browser.evaluate(f"{CANVAS}.focus()")
    browser.press("ArrowDown")
    browser.press("ArrowLeft")
    lines = browser.evaluate(f"[...{told}.title, ...{told}.body[0].lines]")
    assert lines == ["temperature = 1", "other", "mean 0.9", "95% interval [0.125, 0.375]", "n = 40"]


def test_print_and_a_page_without_script_show_the_figure_in_place_of_the_plots(browser, file, tmp_path):
    browser.show(file, 1280)
    browser("Emulation.setEmulatedMedia", media="print")
    display = "getComputedStyle(document.querySelector('{}')).display"
    assert browser.evaluate(display.format("figure")) == "none"
    assert browser.evaluate(display.format(".still")) == "block"
    browser.printed(tmp_path / "page.pdf")
    assert (tmp_path / "page.pdf").read_bytes().startswith(b"%PDF")
    browser("Emulation.setEmulatedMedia", media="")
    shutil.copy(file, tmp_path / "bare.html")
    text = file.read_text(encoding="utf-8")
    (tmp_path / "bare.html").write_text(re.sub("<script>.*?</script>", "", text, flags=re.DOTALL), encoding="utf-8")
    browser.show(tmp_path / "bare.html", 375)
    assert browser.evaluate(display.format("figure")) == "none"
    assert browser.evaluate(display.format(".still")) == "block"
    assert browser.evaluate("document.querySelectorAll('main td').length") > 30
    assert browser.evaluate("document.documentElement.scrollWidth") == 375


def test_the_browser_tells_of_a_script_that_the_policy_refuses(browser, file, tmp_path):
    """Control: what the other tests call quiet can be heard."""
    text = file.read_text(encoding="utf-8").replace("</body>", "<script>document.title = 'run'</script></body>")
    (tmp_path / "page.html").write_text(text, encoding="utf-8")
    browser.show(tmp_path / "page.html", 1280)
    assert browser.evaluate("document.title") != "run"
    assert any("Content Security Policy" in complaint for complaint in browser.complaints)
    browser.complaints.clear()
