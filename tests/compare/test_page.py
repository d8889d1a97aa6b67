"""The pages in a real browser: they render, their tables sort, nothing complains."""

import json
import re
import shutil
import subprocess

import pytest

from flaxlab.compare.__main__ import main
from tests.helpers.finished_runs import fail, write_run

BROWSER = next(filter(None, map(shutil.which, ("chromium", "google-chrome", "chrome"))), None)

pytestmark = [
    pytest.mark.usefixtures("pictures"),
    pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine"),
]

# Added to a copy of the page: sorts the first table by its difference column, twice, scrolls it,
# and sends what was seen to the page that frames it.
PROBE = """
<script>
addEventListener("load", () => {
  const table = document.querySelector("table.sortable");
  const arms = () => [...table.tBodies[0].rows].map((row) => row.cells[0].textContent);
  const title = [...table.tHead.rows[0].cells].find((cell) =>
    /^(difference|reported)/.test(cell.textContent));
  const before = arms();
  title.querySelector("button").click();
  const up = arms(), sorted = title.getAttribute("aria-sort");
  title.querySelector("button").click();
  const down = arms();
  const figures = [...document.querySelectorAll("figure .wide")].map((box) =>
    [box.clientWidth, box.scrollWidth, box.querySelector("svg").getBoundingClientRect().width]);
  const box = table.parentElement;
  box.scrollLeft = 1000;
  const name = table.tBodies[0].rows[0].cells[0].getBoundingClientRect().left;
  const kept = name - box.getBoundingClientRect().left;
  const wide = document.documentElement.scrollWidth - document.documentElement.clientWidth;
  parent.postMessage(JSON.stringify({before, up, sorted, down, wide, figures, kept,
    scrolled: box.scrollLeft, width: innerWidth, errors: window.errors}), "*");
});
</script>
"""
# A window of Chromium cannot be as narrow as a phone; a frame can. --dump-dom prints what it sent.
FRAME = """
<pre id="probe"></pre>
<script>
  onmessage = (event) => { document.getElementById("probe").textContent = event.data; };
</script>
<iframe src="probed.html" style="border: 0; width: {width}px; height: 900px"></iframe>
"""
LISTENER = "<script>window.errors = []; window.onerror = (text) => { errors.push(text); };</script>"


def open_in_browser(page, folder, width):
    """Returns what the probe saw, and what the browser wrote to its console."""
    probed, frame = folder / "probed.html", folder / "frame.html"
    frame.write_text(FRAME.replace("{width}", str(width)))
    text = page.read_text().replace("<head>", f"<head>{LISTENER}", 1)
    probed.write_text(text.replace("</body>", f"{PROBE}</body>"))
    result = subprocess.run(
        [
            BROWSER,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--enable-logging=stderr",
            f"--user-data-dir={folder / 'profile'}",
            "--window-size=1400,1000",
            "--virtual-time-budget=5000",
            "--dump-dom",
            frame.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    found = re.search(r'<pre id="probe">(.*?)</pre>', result.stdout, re.DOTALL)
    console = [line for line in result.stderr.splitlines() if "CONSOLE" in line]
    return json.loads(found[1]), console


@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_renders_and_its_tables_sort(tmp_path, width):
    finals = {"alexnet_default": 0.85, "alexnet_no_dropout": 0.80, "alexnet_pool": 0.9}
    for name, value in finals.items():
        for seed in range(3):
            folder = tmp_path / "runs" / name / f"{seed}"
            write_run(folder, name, seed, [0.5, value + 0.01 * seed])
    main([str(tmp_path / "runs")])
    seen, console = open_in_browser(tmp_path / "runs/comparison.html", tmp_path, width)
    assert seen["errors"] == []
    assert console == []
    assert seen["before"] == ["alexnet_default", "alexnet_no_dropout", "alexnet_pool"]
    assert seen["sorted"] == "ascending"
    # The baseline has no difference, and stays at the end.
    assert seen["up"] == ["alexnet_no_dropout", "alexnet_pool", "alexnet_default"]
    assert seen["down"] == ["alexnet_pool", "alexnet_no_dropout", "alexnet_default"]
    assert len(seen["figures"]) == 7
    assert seen["width"] == width
    assert seen["wide"] == 0  # wide tables scroll by themselves, the page does not
    if width == 390:
        assert seen["scrolled"] > 0
        assert seen["kept"] == 0  # the names of the rows do not scroll away
        for shown, whole, image in seen["figures"]:
            assert shown < 390
            assert whole >= image - 1
            assert image > 300
    else:
        assert all(0 < image <= shown for shown, _, image in seen["figures"])


@pytest.mark.parametrize("width", [1280, 390])
def test_the_index_sorts_runs_and_is_no_wider_than_the_window(tmp_path, width):
    for name, value in {"b": 0.7, "a": 0.9, "c": 0.8}.items():
        write_run(tmp_path / "runs" / f"a_rather_long_name_{name}", "alexnet_pool", 0, [value])
    fail(tmp_path / "runs", "alexnet_default", 1)
    main([str(tmp_path / "runs"), "--index"])
    seen, console = open_in_browser(tmp_path / "runs/index.html", tmp_path, width)
    assert seen["errors"] == console == []
    assert seen["wide"] == 0
    # What is not finished stays at the end.
    assert [name[-1] for name in seen["up"]] == ["b", "c", "a", "1"]
    assert [name[-1] for name in seen["down"]] == ["a", "c", "b", "1"]
