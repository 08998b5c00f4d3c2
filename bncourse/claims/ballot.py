"""The ballot of the claims lab: the reader predicts each verdict, then meets it.

``ballot()`` opens the chapter, ``verdict("depth")`` ends a claim's evidence, ``ledger()`` closes the lab. On a page
they work together, with a kernel or without: a prediction is kept by the browser, and a verdict waits for it.
"""

import html
import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from bncourse.claims import CLAIMS, Entry, record
from bncourse.claims.claim import NOT_SUPPORTED, NOT_TESTABLE, QUALIFIED, SUPPORTED, VERDICTS, Claim

MEANINGS = {
    SUPPORTED: "the numbers agree with the claim as it is stated",
    QUALIFIED: "with a part of it, or under conditions that it does not name",
    NOT_SUPPORTED: "they do not agree with it",
    NOT_TESTABLE: "experiments of this size cannot tell",
}
KEY = "bn-predictions"  # where the browser keeps them
STYLE, SCRIPT = (files("bncourse.claims").joinpath(name).read_text("utf-8") for name in ("ballot.css", "ballot.js"))


@dataclass(frozen=True, repr=False)
class Output:
    """What a notebook shows as the last value of a cell: HTML that brings its style and its script, or text."""

    markup: str
    text: str

    def _repr_html_(self) -> str:
        start = f"{SCRIPT.strip()}({json.dumps(KEY)}, {json.dumps(VERDICTS)});"
        return f"{self.markup}<style>{STYLE}</style><script>{start}</script>"

    def __repr__(self) -> str:
        return self.text


def ballot(claims: Sequence[Claim] | None = None) -> Output:
    """The claims, those of the lab if none are given, with the verdicts to choose from. The choice is kept at once."""
    claims = _by_number(claims)
    words = "; ".join(f"<strong>{word}</strong>, {meaning}" for word, meaning in MEANINGS.items())
    fields = "".join(
        f'<fieldset data-claim="{claim.id}"><legend>{_title(claim.number, claim.claim)}</legend>{_choices(claim.id)}'
        "</fieldset>"
        for claim in claims
    )
    markup = (
        f'<div class="bn-ballot" {_KEYS}><p class="bn-words">Predict each verdict: {words}.</p>'
        f'<form autocomplete="off">{fields}'
        '<p role="status">What you choose is not kept: no script runs here.</p>'
        '<button type="button" hidden>Start over</button></form></div>'
    )
    lines = ["Predict each verdict:", *(f"{word}, {meaning}" for word, meaning in MEANINGS.items()), ""]
    return Output(markup, "\n".join([*lines, *(f"Claim {claim.number}. {claim.claim}" for claim in claims)]))


def verdict(id: str, file: Path | None = None) -> Output:
    """The recorded verdict of a claim with its reason, which wait until the reader has predicted it.

    Without a script, and in print, they wait for nothing.

    Args:
        id: of the claim.
        file: a record instead of the course's own.

    Raises:
        LookupError: the record has no such claim.
    """
    entry = record.load(id, file)
    found, number = entry.verdict, entry["number"]
    markup = (
        f'<div class="bn-trial" data-claim="{id}" {_KEYS}><p><strong>{_title(number, entry["claim"])}</strong></p>'
        f'<form class="bn-predict" autocomplete="off" hidden><fieldset><legend>Your prediction first: claim {number}'
        f'</legend>{_choices(id)}</fieldset><button type="submit">Show the verdict</button>'
        '<button type="button">Show without a prediction</button></form><div role="status"></div>'
        '<div class="bn-outcome" tabindex="-1"><p><span class="bn-yours"></span> '
        f"<strong>Verdict: {found.verdict}.</strong> {html.escape(found.because)}</p></div></div>"
    )
    return Output(markup, f"Claim {number}. {entry['claim']}\nVerdict: {found.verdict}. {found.because}")


def ledger(claims: Sequence[Claim] | None = None, file: Path | None = None) -> Output:
    """All claims with the reader's prediction and the verdict, and how often the two agree.

    Args:
        claims: those of the lab if none are given.
        file: a record instead of the course's own.

    Raises:
        LookupError: the record lacks a claim.
    """
    entries = [record.load(claim.id, file) for claim in _by_number(claims)]
    rows = "".join(map(_row, entries))
    head = "".join(f'<th scope="col">{name}</th>' for name in ("No.", "Claim", "Your prediction", "Verdict"))
    markup = (
        f'<div class="bn-ledger" {_KEYS}><table class="bn-rows"><thead><tr>{head}</tr></thead>'
        f"<tbody>{rows}</tbody></table>"
        '<p class="bn-score" tabindex="-1"></p><button type="button" hidden>Show all verdicts</button></div>'
    )
    width = max(map(len, VERDICTS))
    lines = [f"{entry['number']:2}  {entry.verdict.verdict:{width}}  {entry['claim']}" for entry in entries]
    return Output(markup, "\n".join(lines))


_KEYS = 'data-lm-suppress-shortcuts="true"'  # JupyterLab leaves arrow keys and Enter to the choices


def _by_number(claims: Sequence[Claim] | None) -> list[Claim]:
    return sorted(CLAIMS.values() if claims is None else claims, key=lambda claim: claim.number)


def _title(number: int, claim: str) -> str:
    return f"Claim {number}. {html.escape(claim)}"


def _choices(id: str) -> str:
    """One radio button per verdict."""
    buttons = (
        f'<label><input type="radio" name="{id}" value="{word}"><span>{word}</span></label>' for word in VERDICTS
    )
    return f'<div class="bn-choices">{"".join(buttons)}</div>'


def _row(entry: Entry) -> str:
    """The ledger's row of a claim."""
    word = entry.verdict.verdict
    return (
        f'<tr data-claim="{entry["id"]}" data-verdict="{word}"><td>{entry["number"]}</td>'
        f'<th scope="row">{html.escape(entry["claim"])}</th><td class="bn-yours"></td>'
        f'<td><span class="bn-outcome">{word}</span><span class="bn-waiting" hidden>predict first</span></td></tr>'
    )
