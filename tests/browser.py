"""A headless Chromium, and what it can find wrong with a page.

Every detector returns a list of complaints; an empty list is a pass.
"""

import functools
import http.server
import os
import shutil
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import axe_playwright_python
from playwright.sync_api import Browser, Page, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",  # a test never leaves the machine
)
AXE = Path(axe_playwright_python.__file__).with_name("axe.min.js")
# Beyond axe's default set: its experimental rules, which know of names that hide visible text.
AXE_TAGS = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice", "experimental")
LEAST_CONTRAST = 4.5  # WCAG AA, normal text


def executable() -> str | None:
    """Chromium's path: ``CHROMIUM`` from the environment, or the first one on the path."""
    names = [os.environ["CHROMIUM"]] if os.environ.get("CHROMIUM") else NAMES
    return next(filter(None, map(shutil.which, names)), None)


@contextmanager
def launched() -> Iterator[Browser]:
    """A running browser."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable(), args=list(FLAGS))
        yield browser
        browser.close()


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    """Serves files without a line in the log for each."""

    def log_message(self, *args: object) -> None:
        """Say nothing."""


class QuietServer(http.server.ThreadingHTTPServer):
    """Accepts that a browser closes a page before it has loaded."""

    def handle_error(self, request: object, client_address: object) -> None:
        """Report every error but a closed connection."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The address of a web server for ``folder``, with a slash at the end."""
    handler = functools.partial(QuietHandler, directory=folder)
    with QuietServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


@contextmanager
def opened(
    browser: Browser, address: str, *, theme: str = "light", width: int = 1280, javascript: bool = True
) -> Iterator[tuple[Page, list[str]]]:
    """A page, loaded to the end, and the complaints that came while it loaded and lives."""
    context = browser.new_context(
        viewport={"width": width, "height": 900}, color_scheme=theme, java_script_enabled=javascript
    )
    page = context.new_page()
    complaints = listen(page, address)
    page.goto(address)
    page.evaluate("document.fonts.ready.then(() => true)")
    yield page, complaints
    context.close()


def listen(page: Page, address: str) -> list[str]:
    """Collect errors, warnings, failed requests and requests to another place than the page's own."""
    scheme, _, rest = address.partition("://")
    home = (f"{scheme}://{rest.partition('/')[0]}/", "data:", "blob:")
    complaints: list[str] = []

    def on_console(message) -> None:
        if message.type in ("error", "warning"):
            complaints.append(f"console {message.type}: {message.text}")

    def on_request(request) -> None:
        if not request.url.startswith(home):
            complaints.append(f"outside request: {request.url}")

    def on_response(response) -> None:
        if response.status >= 400:
            complaints.append(f"status {response.status}: {response.url}")

    def on_failure(request) -> None:
        if request.failure != "net::ERR_ABORTED":  # a redirect ends what the first page still loads
            complaints.append(f"failed request: {request.url} ({request.failure})")

    page.on("console", on_console)
    page.on("pageerror", lambda error: complaints.append(f"page error: {error}"))
    page.on("request", on_request)
    page.on("response", on_response)
    page.on("requestfailed", on_failure)
    return complaints


def show_predictions(page: Page) -> None:
    """Open every output that waits for the reader's prediction, and let the page see what it has become."""
    page.evaluate("document.querySelectorAll('.bn-predict button[type=button]').forEach((button) => button.click())")
    # Boxes that scroll are named after their size is seen, which is when a frame is drawn: by the second one it was.
    page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done(true))))")


def axe_violations(page: Page) -> list[str]:
    """What axe-core finds, one line per rule with the elements concerned."""
    page.evaluate(AXE.read_text(encoding="utf-8"))
    # Left out: KaTeX's copy of a formula for the eye, thousands of elements that are hidden from screen
    # readers and take their colour from the text. Preloading would fetch nested styles from the wrong folder.
    result = page.evaluate(
        """tags => axe.run({exclude: [".katex-html"]}, {
          preload: false, resultTypes: ["violations"], runOnly: {type: "tag", values: tags}})""",
        list(AXE_TAGS),
    )
    return [
        f"axe {violation['id']}: {violation['help']}: {[node['html'][:200] for node in violation['nodes']]}"
        for violation in result["violations"]
    ]


def sideways_overflow(page: Page) -> list[str]:
    """The elements that make the whole page scroll sideways."""
    return page.evaluate(
        """() => {
          const root = document.documentElement;
          if (root.scrollWidth <= root.clientWidth) return [];
          const wide = [...document.body.querySelectorAll("*")].filter(
            (element) => element.getBoundingClientRect().right > root.clientWidth + 1);
          return [`${root.scrollWidth} px wide on ${root.clientWidth}: ` +
            wide.slice(0, 5).map((element) => element.outerHTML.slice(0, 100)).join(" | ")];
        }"""
    )


def unrendered_math(page: Page) -> list[str]:
    """Formulas that show as source, as an error, or in a font that is not KaTeX's."""
    return page.evaluate(
        r"""() => {
          const complaints = [];
          const math = [...document.querySelectorAll(".math, .math-block")];
          const raw = math.filter((element) => !element.querySelector(".katex"));
          if (raw.length) complaints.push(`not rendered: ${raw[0].outerHTML.slice(0, 200)}`);
          if (document.querySelector(".katex-error")) complaints.push("KaTeX error on the page");
          const text = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
          while (text.nextNode()) {
            const code = text.currentNode.parentElement.closest("pre, code, script, style, annotation");
            if (!code && /\\\(|\\\[|\$\$|\\begin\{/.test(text.currentNode.data))
              complaints.push(`raw math: ${text.currentNode.data.slice(0, 200)}`);
          }
          const loaded = [...document.fonts].some(
            (font) => font.family.includes("KaTeX") && font.status === "loaded");
          if (document.querySelector(".katex") && !loaded) complaints.push("no KaTeX font was loaded");
          return complaints;
        }"""
    )


def unthemed_figures(page: Page, colours: list[str]) -> list[str]:
    """Figures with no description, with ids that the page has twice, or with text in another colour.

    Args:
        page: the page, in one theme.
        colours: the palette's hex colours in that theme.
    """
    return page.evaluate(
        """(colours) => {
          const palette = colours.map((hex) =>
            `rgb(${[1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16)).join(", ")})`);
          const complaints = [];
          for (const svg of document.querySelectorAll(".bn-figure svg")) {
            if (svg.getAttribute("role") !== "img" || !svg.getAttribute("aria-label"))
              complaints.push("a figure has no description");
            for (const element of svg.querySelectorAll("[id]"))
              if (document.querySelectorAll("#" + CSS.escape(element.id)).length > 1)
                complaints.push(`id used twice: ${element.id}`);
            for (const text of svg.querySelectorAll("text"))
              if (!palette.includes(getComputedStyle(text).fill))
                complaints.push(`"${text.textContent}" is ${getComputedStyle(text).fill}`);
          }
          return complaints;
        }""",
        colours,
    )


def contrast(first: str, second: str) -> float:
    """The WCAG contrast ratio of two hex colours, from 1 to 21."""
    darker, lighter = sorted(map(luminance, (first, second)))
    return (lighter + 0.05) / (darker + 0.05)


def luminance(colour: str) -> float:
    """The relative luminance of a hex colour, as WCAG 2 defines it."""
    channels = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
