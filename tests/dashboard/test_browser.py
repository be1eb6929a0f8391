"""The dashboard in a real browser: every page opened and clicked through, wide and narrow, light and dark, offline."""

import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import Trial
from tests.dashboard.conftest import HOSTILE, make_store

import phenoembed_store
from phenoembed_dashboard.markup import STYLE, strip_html
from phenoembed_dashboard.strips import Strip, dose_label

pytest.importorskip("playwright", reason="playwright is not installed")
from playwright.sync_api import Browser, Page, expect, sync_playwright

expect.set_options(timeout=60_000)

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium here: apt-get install chromium"),
]
PROBED = "_stcore/"
"""Below a page's address Streamlit first asks for its own endpoints and learns from a 404 that they lie at the root."""

READY = {
    "compound": ".st-key-query img",
    "evidence": "figure svg",
    "map": ".map canvas[data-points]",
    "plate": ".plate svg",
    "probes": "figure svg",
    "store": ".pe-tile",
}
WINDOWS: dict[str, dict[str, Any]] = {
    "wide-light": {"viewport": {"width": 1440, "height": 900}, "color_scheme": "light"},
    "laptop": {"viewport": {"width": 1024, "height": 768}, "color_scheme": "light"},
    "narrow-dark": {"viewport": {"width": 480, "height": 900}, "color_scheme": "dark"},
}


class Visit:
    """A page in a browser window, and everything it complained about or asked of other machines."""

    def __init__(self, page: Page, base: str) -> None:
        self.page, self.base = page, base
        self.complaints: list[str] = []
        page.set_default_timeout(90_000)  # a busy machine
        page.set_default_navigation_timeout(90_000)
        page.on("console", lambda m: m.type in ("error", "warning") and self._complain(f"{m.text} {m.location}"))
        page.on("pageerror", lambda error: self._complain(str(error)))
        page.on(
            "request", lambda r: r.url.startswith(("http", "ws")) and base[7:] not in r.url and self._complain(r.url)
        )

    def _complain(self, what: str) -> None:
        if not ("404" in what and PROBED in what):
            self.complaints.append(what)

    def open(self, name: str, query: str = "") -> Page:
        self.page.goto(f"{self.base}/{'' if name == 'compound' else name}{query}")
        self.page.wait_for_selector(READY[name], timeout=60_000)
        self.settle()
        return self.page

    def settle(self) -> None:
        """Wait until the script has run and no element is stale."""
        self.page.wait_for_function(
            "() => document.querySelector('[data-testid=stApp]')?.dataset.testScriptState === 'notRunning'"
            " && !document.querySelector('[data-stale=true], [data-testid=stSkeleton]')",
            timeout=60_000,
        )

    def end(self) -> None:
        assert self.page.get_by_test_id("stException").count() == 0
        assert "Traceback" not in self.page.inner_text("body")
        assert self.complaints == []


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        )
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A dashboard that runs on a store with ordinary and hostile names."""
    store = make_store(tmp_path_factory.mktemp("browser"), ("nocodazole", "taxol", "staurosporine", *HOSTILE))
    with serving(store.path) as found:
        yield found


@contextmanager
def serving(store: Path) -> Iterator[str]:
    """The address of a dashboard on this store; nothing that ran in it may have failed."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    code = "import sys; from phenoembed_cli.main import main; sys.argv = sys.argv[1:]; main()"
    command = [sys.executable, "-c", code, "phenoembed", "dashboard", "--store", str(store), "--port", str(port)]
    log = store.parent / "dashboard.log"
    with log.open("w") as output, subprocess.Popen([*command, "--headless"], stdout=output, stderr=output) as server:
        try:
            for _ in range(600):
                with socket.socket() as probe:
                    if probe.connect_ex(("localhost", port)) == 0:
                        break
                assert server.poll() is None, log.read_text()
                time.sleep(0.1)
            yield f"http://localhost:{port}"
        finally:
            server.terminate()
            server.wait(20)
    assert "Traceback" not in log.read_text()


@pytest.fixture
def visit(browser: Browser, address: str) -> Iterator[Callable[..., Visit]]:
    contexts = []

    def start(window: str = "wide-light") -> Visit:
        contexts.append(browser.new_context(**WINDOWS[window]))
        return Visit(contexts[-1].new_page(), address)

    yield start
    for context in contexts:
        context.close()


@pytest.mark.parametrize("window", WINDOWS)
def test_every_page_opens_without_complaint(visit: Callable[..., Visit], window: str, tmp_path: Path) -> None:
    """No console error, no request to another machine, nothing wider than the window."""
    here = visit(window)
    for name in READY:
        page = here.open(name)
        page.screenshot(path=tmp_path / f"{name}-{window}.png", full_page=True)
        too_wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert too_wide <= 0, name
        assert page.evaluate("[...document.images].every(image => image.complete && image.naturalWidth > 0)"), name
    here.end()


CUT = """selector => [...document.querySelectorAll(selector)]
    .filter(one => one.scrollWidth > one.clientWidth + 1 || one.scrollHeight > one.clientHeight + 1)
    .map(one => one.innerText)"""


def test_a_small_window_cuts_no_words_off(visit: Callable[..., Visit]) -> None:
    """At 1024 pixels every way of asking, badge and link to another page is there whole."""
    here = visit("laptop")
    page = here.open("compound", "?compound=taxol")
    controls = page.get_by_test_id("stButtonGroup").first
    last = page.get_by_role("radio", name="Image file")
    assert last.bounding_box()["x"] + last.bounding_box()["width"] <= (  # type: ignore[index]
        controls.bounding_box()["x"] + controls.bounding_box()["width"] + 1  # type: ignore[index]
    )
    badges = page.evaluate(CUT, ".pe-chip, [data-testid=stPageLink] p")
    assert [text for text in badges if text.startswith(("among", "shares", "same", "Which"))] == []
    here.end()


def test_six_doses_stay_within_their_card(browser: Browser) -> None:
    """On a laptop's screen, where a card is 206 pixels wide within."""
    record = {
        "role": "treated",
        "compound": "x",
        "plate": "P1",
        "well": "A01",
        "field": 1,
        "time_h": 120.0,
        "path": "x",
    }
    cells = tuple({**record, "concentration_um": dose} for dose in (0.625, 1.25, 2.5, 5.0, 10.0, 20.0))
    strip = Strip(tuple(dose_label(cell["concentration_um"]) for cell in cells), ("120 h",), (cells,))
    page = browser.new_page()
    page.set_content(f'{STYLE}<div class="pe" style="width:206px">{strip_html(strip, lambda _: None, size=84)}</div>')
    spans = "[...document.querySelectorAll('.pe-strip > *')].map(one => one.getBoundingClientRect().right)"
    assert max(page.evaluate(spans)) <= page.evaluate("document.querySelector('.pe').getBoundingClientRect().right")
    assert page.evaluate("document.querySelector('.pe-strip').scrollHeight") < 90  # no bar to scroll with
    page.close()


def test_a_neighbour_is_looked_from_and_compared(visit: Callable[..., Visit]) -> None:
    here = visit()
    page = here.open("compound", "?compound=taxol")
    expect(page.locator(".st-key-query .pe-name").first).to_have_text("taxol")
    page.get_by_role("button", name="Compare").first.click()
    expect(page.get_by_role("dialog").locator("img").first).to_be_visible()
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Look from here").first.click()
    expect(page.locator(".st-key-query .pe-name").first).not_to_have_text("taxol")
    here.settle()
    assert "compound=taxol" not in page.url
    page.go_back()
    expect(page.locator(".st-key-query .pe-name").first).to_have_text("taxol")
    here.end()


def test_hostile_names_stay_text(visit: Callable[..., Visit]) -> None:
    here = visit()
    for name in HOSTILE:
        from urllib.parse import quote

        page = here.open("compound", f"?compound={quote(name, safe='')}")
        expect(page.locator(".st-key-query .pe-name").first).to_have_text(name)
        assert page.title() != "owned"
    here.end()


def test_a_dose_is_switched_off(visit: Callable[..., Visit]) -> None:
    here = visit()
    page = here.open("evidence", "?compound=taxol")
    page.get_by_role("button", name="20 µM").click()
    expect(page.get_by_text("4 left on")).to_be_visible()
    here.settle()
    here.end()


def test_a_click_on_a_well_shows_its_images(visit: Callable[..., Visit]) -> None:
    here = visit()
    page = here.open("plate")
    before = page.locator(".pe-gallery img").first.get_attribute("alt")
    page.locator(".plate path[aria-label^='B05: ']").click()
    expect(page.locator(".pe-gallery img").first).to_have_attribute("alt", re.compile("P1 B05, "))
    assert "P1 B05" not in str(before)
    here.settle()
    assert "well=B05" in page.url
    page.locator(".plate svg").focus()
    page.keyboard.press("ArrowLeft")
    expect(page.locator(".pe-gallery img").first).to_have_attribute("alt", re.compile("P1 B04, "))
    here.settle()
    here.end()


def test_a_line_drawn_on_the_map_shows_the_compounds_within(visit: Callable[..., Visit]) -> None:
    """A click on empty ground lets go of them."""
    here = visit()
    page = here.open("map")
    expect(page.get_by_text("draw a line around some")).to_have_count(2)
    place = page.locator(".map canvas").bounding_box()
    assert place is not None
    x, y, width, height = place["x"] + 1, place["y"] + 1, place["width"] - 2, place["height"] - 2
    page.mouse.move(x, y)
    page.mouse.down()
    for corner in ((x + width, y), (x + width, y + height), (x, y + height)):
        page.mouse.move(*corner, steps=4)
    page.mouse.up()
    expect(page.get_by_text("of 11 compounds")).to_be_visible()
    expect(page.get_by_role("link", name="What looks like it?").first).to_be_visible()
    here.settle()
    page.locator(".map canvas").click(position={"x": 2, "y": 2})
    expect(page.get_by_text("of 11 compounds")).to_have_count(0)
    here.settle()
    page.keyboard.press("ArrowRight")  # the click gave it the keyboard
    expect(page.get_by_text("1 point of 1 compound")).to_be_visible()
    assert "arrow keys" in str(page.locator(".map canvas").get_attribute("aria-label"))
    here.settle()
    here.end()


def test_an_image_that_is_dropped_finds_its_neighbours(browser: Browser, trial: Trial) -> None:
    """Embedded by the store's own encoder, in a process of its own; no file of it is kept."""
    image = phenoembed_store.open(trial.path).vectors()[0].column("path")[0].as_py()
    with serving(trial.path) as address:
        context = browser.new_context(**WINDOWS["wide-light"])
        here = Visit(context.new_page(), address)
        here.page.goto(f"{address}/?by=Image+file")
        here.page.locator("input[type=file]").set_input_files(image)
        expect(here.page.get_by_text("nearest compounds")).to_be_visible()
        expect(here.page.get_by_text("The image you chose")).to_be_visible()
        here.settle()
        here.end()
        context.close()


def test_figures_and_tables_can_be_downloaded(visit: Callable[..., Visit]) -> None:
    here = visit()
    page = here.open("evidence", "?compound=taxol")
    for button, start in (("PNG", b"\x89PNG"), ("SVG", b"<svg"), ("CSV", b"class,images,probability")):
        with page.expect_download() as download:
            page.get_by_role("button", name=button, exact=True).first.click()
        assert Path(download.value.path()).read_bytes().startswith(start)
    with page.expect_download() as download:
        page.get_by_role("button", name="Table as CSV").click()
    assert Path(download.value.path()).read_text().startswith("dose,time,well")
    here.end()


def test_pages_lead_to_each_other(visit: Callable[..., Visit]) -> None:
    """From a compound to its evidence, and back by the sidebar: the compound stays."""
    here = visit()
    page = here.open("compound", "?compound=staurosporine")
    page.get_by_role("link", name="Which images make the call?").click()
    expect(page.get_by_text("Doses in use")).to_be_visible()
    assert "compound=staurosporine" in page.url
    here.settle()
    page.get_by_role("link", name="Compound", exact=True).click()
    expect(page.locator(".st-key-query .pe-name").first).to_have_text("staurosporine")
    here.end()
