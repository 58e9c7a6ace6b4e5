"""The page in a browser: silent, never wider than a phone, whole in print."""

import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from nlp_meta.report.page import write_report

pytestmark = pytest.mark.slow

BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
pytestmark = pytest.mark.skipif(
    BROWSER is None, reason="no chromium, chromium-browser or google-chrome is on PATH"
)

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--enable-logging=stderr",
)
PHONE = 360

# A window of a headless browser is at least 500 pixels wide, a frame in it is not.
MEASURE = """<!doctype html><body style="margin:0">
<iframe id="page" style="border:0;width:{width}px;height:12000px" srcdoc="{source}"></iframe>
<script>
document.getElementById("page").addEventListener("load", (event) => {{
  const page = event.target.contentDocument, root = page.documentElement;
  const height = Math.ceil(page.body.getBoundingClientRect().height);
  page.querySelectorAll("details").forEach((one) => {{ one.open = true; }});
  const inside = (one) => one.closest(".scroll, .hidden") === null;
  const wide = [...page.body.querySelectorAll("*")].filter(
    (one) => inside(one) && one.getBoundingClientRect().right > {width} + 0.5);
  const shown = [...page.images].filter((one) => one.getBoundingClientRect().width > 0);
  const small = getComputedStyle(page.querySelector("td small")).fontSize;
  document.title = [root.clientWidth, root.scrollWidth, page.body.scrollWidth, wide.length,
    shown.length, shown.every((one) => one.naturalWidth > 0), small, height].join(" ");
}});
</script>"""


def browse(page: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Open a page in a browser that has never run before."""
    with tempfile.TemporaryDirectory() as profile:
        return subprocess.run(
            [str(BROWSER), *FLAGS, f"--user-data-dir={profile}", *options, page.as_uri()],
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )


def complaints(done: subprocess.CompletedProcess[str]) -> list[str]:
    return [line for line in done.stderr.splitlines() if "CONSOLE" in line]


def measure(page: Path, folder: Path, *, width: int) -> list[str]:
    source = page.read_text(encoding="utf-8").replace("&", "&amp;").replace('"', "&quot;")
    wrapper = folder / f"measure_{width}.html"
    wrapper.write_text(MEASURE.format(width=width, source=source), encoding="utf-8")
    done = browse(wrapper, "--dump-dom", "--window-size=1300,1000", "--virtual-time-budget=5000")
    found = re.search(r"<title>(.*?)</title>", done.stdout)
    assert found, done.stderr
    return found[1].split()


def test_a_complaint_of_the_browser_would_be_seen(tmp_path):
    page = tmp_path / "noisy.html"
    page.write_text("<!doctype html><script>console.error('no')</script>", encoding="utf-8")

    assert len(complaints(browse(page, "--dump-dom"))) == 1


@pytest.mark.parametrize("size", ["360,800", "1280,1000"])
def test_page_is_drawn_without_a_complaint(careless_page, tmp_path, size):
    shot = tmp_path / "shot.png"

    done = browse(careless_page[1][0], f"--window-size={size}", f"--screenshot={shot}")

    assert complaints(done) == []
    assert shot.read_bytes().startswith(b"\x89PNG")
    assert shot.stat().st_size > 20_000


@pytest.mark.parametrize("width", [PHONE, 1280])
def test_page_never_scrolls_sideways_and_shows_each_picture_once(careless_page, tmp_path, width):
    """Tables scroll in their own boxes; of two pictures, wide and narrow, one is shown.

    All that is folded away is opened first.
    """
    client, root, body, wide, shown, loaded, small, _ = measure(
        careless_page[1][0], tmp_path, width=width
    )

    assert client == str(width)
    assert int(root) <= width and int(body) <= width
    assert wide == "0"
    assert (shown, loaded) == ("6", "true")
    assert float(small.removesuffix("px")) >= 10


@pytest.mark.parametrize("width", [PHONE, 1280])
def test_translations_side_by_side_never_scroll_sideways(translated_page, tmp_path, width):
    """One word of a sentence is 300 signs long, in the source, the reference and the answers."""
    client, root, body, wide, shown, loaded, *_ = measure(translated_page, tmp_path, width=width)

    assert (client, wide) == (str(width), "0")
    assert int(root) <= width and int(body) <= width
    assert (shown, loaded) == ("4", "true")
    assert complaints(browse(translated_page, "--dump-dom")) == []


def test_the_page_of_one_table_is_below_five_thousand_pixels(results, predictions, tmp_path):
    """Of twelve methods, more than `nlp-meta compare` has, each beside ours in every table."""
    results["tasks"] = results["tasks"][:1]
    first = results["tasks"][0]["name"]
    for part in ("cells", "by_task"):
        results[part] = [row for row in results[part] if row["task"] == first]
    for number in range(7):
        for part in ("cells", "summary", "by_task", "paired", "break_even"):
            field = "rival" if part in ("paired", "break_even") else "method"
            copied = [row for row in results[part] if row[field] == "lora"]
            results[part] += [{**row, field: f"method {number}"} for row in copied]
        facts = {**results["methods"]["lora"], "title": f"a method of a rather long name, {number}"}
        results["methods"][f"method {number}"] = facts
    page, *_ = write_report(tmp_path, results, predictions)

    *_, height = measure(page, tmp_path, width=1280)

    assert 2_000 < int(height) < 5_000


def test_page_prints_on_several_sheets(careless_page, tmp_path):
    sheets = tmp_path / "page.pdf"

    done = browse(careless_page[1][0], f"--print-to-pdf={sheets}", "--no-pdf-header-footer")

    assert complaints(done) == []
    assert 3 <= len(re.findall(rb"/Type\s*/Page\b", sheets.read_bytes())) <= 12
