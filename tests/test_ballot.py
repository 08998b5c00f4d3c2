"""The ballot, the verdicts that wait for it, and the ledger: as markup, and in a browser."""

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path

import browser as chromium
import pytest
from bs4 import BeautifulSoup
from playwright.sync_api import Browser, Locator, Page

from bncourse.claims import CLAIMS, record
from bncourse.claims.ballot import KEY, ballot, ledger, verdict
from bncourse.claims.claim import NOT_SUPPORTED, QUALIFIED, SUPPORTED, VERDICTS
from bncourse.svg import palette_css

ROOT = Path(__file__).parents[1]
LAB = {  # by id: number, claim, verdict, reason; not in the order of the numbers
    "depth": (
        5,
        "Beyond 10 layers, gradients <vanish> & explode",
        NOT_SUPPORTED,
        "With He weights, 51 layers <train>.",
    ),
    "rate": (6, "It allows higher learning rates", SUPPORTED, "The highest rate that works is 8.0 times higher."),
    "shift": (2, "It works because it reduces the shift", QUALIFIED, "With noise after it, it trains as well."),
}
ORDER = ["shift", "depth", "rate"]  # of their numbers


def made_up(id: str, number: int, claim: str):
    return dataclasses.replace(next(iter(CLAIMS.values())), id=id, number=number, claim=claim)


CLAIMS_OF_LAB = [made_up(id, number, claim) for id, (number, claim, _, _) in LAB.items()]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A record with made-up verdicts."""
    entries = [
        {"id": id, "number": number, "claim": claim, "measurements": [], "verdict": word, "because": because}
        for id, (number, claim, word, because) in LAB.items()
    ]
    record.save(entries, tmp_path / "claims.json")
    return tmp_path / "claims.json"


def parsed(output: object) -> BeautifulSoup:
    return BeautifulSoup(output._repr_html_(), "html.parser")


# --- Markup ----------------------------------------------------------------------------


def test_the_ballot_lists_the_claims_by_number_with_every_verdict():
    page = parsed(ballot(CLAIMS_OF_LAB))
    legends = [f"Claim {LAB[id][0]}. {LAB[id][1]}" for id in ORDER]
    assert [fields.legend.get_text() for fields in page.select("fieldset")] == legends
    for fields in page.select("fieldset"):
        assert [radio["value"] for radio in fields.select("input[type=radio]")] == list(VERDICTS)
        assert [label.get_text() for label in fields.select("label")] == list(VERDICTS)
        assert len({radio["name"] for radio in fields.select("input")}) == 1
    assert len({radio["name"] for radio in page.select("input")}) == len(LAB)
    assert [word.get_text() for word in page.select(".bn-words strong")] == list(VERDICTS)


def test_the_ballot_is_about_the_claims_of_the_lab():
    numbers = sorted(claim.number for claim in CLAIMS.values())
    legends = [legend.get_text() for legend in parsed(ballot()).select("legend")]
    assert [int(re.match(r"Claim (\d+)\. ", legend)[1]) for legend in legends] == numbers


def test_a_verdict_comes_from_the_record_with_its_reason(file):
    card = parsed(verdict("depth", file)).select_one(".bn-trial")
    assert card.p.get_text() == "Claim 5. Beyond 10 layers, gradients <vanish> & explode"
    outcome = card.select_one(".bn-outcome")
    assert outcome.get_text().strip() == "Verdict: not supported. With He weights, 51 layers <train>."
    assert not outcome.has_attr("hidden") and card.form.has_attr("hidden"), "without a script nothing waits"


def test_the_ledger_has_a_row_per_claim(file):
    rows = parsed(ledger(CLAIMS_OF_LAB, file)).select("tbody tr")
    assert [row["data-claim"] for row in rows] == ORDER
    for row, id in zip(rows, ORDER, strict=True):
        number, claim, word, _ = LAB[id]
        assert [cell.get_text() for cell in row.select("td, th")][:2] == [str(number), claim]
        assert row.select_one(".bn-outcome").get_text() == row["data-verdict"] == word
        assert row.select_one(".bn-waiting").has_attr("hidden")


def test_a_claim_that_is_not_in_the_record_is_named(file):
    with pytest.raises(LookupError, match="'causality'"):
        verdict("causality", file)
    with pytest.raises(LookupError, match="'causality'"):
        ledger([made_up("causality", 4, "More")], file)


def test_as_text_each_can_be_read(file):
    text = repr(ballot(CLAIMS_OF_LAB))
    assert text.splitlines()[-3:] == [f"Claim {LAB[id][0]}. {LAB[id][1]}" for id in ORDER]
    assert all(f"\n{word}, " in text for word in VERDICTS)
    assert repr(verdict("rate", file)) == (
        "Claim 6. It allows higher learning rates\nVerdict: supported. The highest rate that works is 8.0 times higher."
    )
    assert repr(ledger(CLAIMS_OF_LAB, file)).splitlines() == [
        " 2  qualified          It works because it reduces the shift",
        " 5  not supported      Beyond 10 layers, gradients <vanish> & explode",
        " 6  supported          It allows higher learning rates",
    ]


def test_outputs_are_the_same_every_time(file):
    for make in (ballot, lambda: verdict("depth", file), lambda: ledger(CLAIMS_OF_LAB, file)):
        assert (repr(make()), make()._repr_html_()) == (repr(make()), make()._repr_html_())


def test_no_output_uses_an_id_which_a_page_could_have_twice(file):
    for output in (ballot(CLAIMS_OF_LAB), verdict("depth", file), ledger(CLAIMS_OF_LAB, file)):
        assert not parsed(output).select("[id]")


# --- In a browser ----------------------------------------------------------------------

needs_browser = pytest.mark.skipif(
    not chromium.executable(), reason="no browser: apt-get install chromium, or set CHROMIUM to the path of one"
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium.launched() as running:
        yield running


@pytest.fixture
def folder(tmp_path: Path, file: Path) -> Path:
    """A folder with a page that holds a ballot, a card per claim, and the ledger, in the style of the site."""
    outputs = [ballot(CLAIMS_OF_LAB), *(verdict(id, file) for id in ORDER), ledger(CLAIMS_OF_LAB, file)]
    body = "".join(f"<section>{output._repr_html_()}</section>" for output in outputs)
    style = (
        palette_css()
        + "body { background: var(--bn-paper); color: var(--bn-ink); --pst-color-text-muted: var(--bn-muted) }"
    )
    (tmp_path / "course.css").write_bytes((ROOT / "book" / "_static" / "course.css").read_bytes())
    (tmp_path / "page.html").write_text(
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>Lab</title>'
        '<meta name="viewport" content="width=device-width"><link rel="icon" href="data:,">'
        '<link rel="stylesheet" href="course.css"><script>document.documentElement.dataset.theme = '
        f'matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light"</script><style>{style}</style></head>'
        f"<body><main><h1>Lab</h1>{body}</main></body></html>"
    )
    return tmp_path


@pytest.fixture
def server(folder: Path) -> Iterator[str]:
    with chromium.served(folder) as address:
        yield address + "page.html"


def vote(tab: Page, id: str, word: str) -> None:
    tab.locator(f".bn-ballot [data-claim={id}]").get_by_label(word, exact=True).check()


def voted(tab: Page) -> dict[str, str]:
    """What is chosen on the ballot."""
    return {
        radio.get_attribute("name"): radio.get_attribute("value") for radio in tab.locator(".bn-ballot :checked").all()
    }


def card(tab: Page, id: str) -> Locator:
    return tab.locator(f".bn-trial[data-claim={id}]")


def row(tab: Page, id: str) -> list[str]:
    """What the ledger shows in the last two columns."""
    return [cell.inner_text() for cell in tab.locator(f".bn-ledger [data-claim={id}] td").all()][1:]


def score(tab: Page) -> str:
    return tab.locator(".bn-score").inner_text()


def shown(outcome: Locator) -> str:
    """The text of a card's outcome, if one sees it."""
    return outcome.inner_text().strip() if outcome.is_visible() else ""


DEPTH_SHOWN = "Verdict: not supported. With He weights, 51 layers <train>."


@needs_browser
def test_a_prediction_on_the_ballot_shows_at_the_card_and_in_the_ledger(browser, server):
    with chromium.opened(browser, server) as (tab, complaints):
        said = tab.locator(".bn-ballot").get_by_role("status")
        assert said.inner_text() == "0 of 3 predicted." and score(tab) == "You have made no prediction."
        assert row(tab, "depth") == ["none", "predict first"]
        vote(tab, "depth", "qualified")
        assert said.inner_text() == "1 of 3 predicted."
        outcome = card(tab, "depth").locator(".bn-outcome")
        assert shown(outcome) == f"Your prediction: qualified. {DEPTH_SHOWN}"
        assert row(tab, "depth") == ["qualified", "not supported"]
        assert score(tab) == "You were right about 0 of 1."
        for other in ("shift", "rate"):
            assert not card(tab, other).locator(".bn-outcome").is_visible()
            assert row(tab, other) == ["none", "predict first"]
        vote(tab, "rate", "supported")
        assert score(tab) == "You were right about 1 of 2."
        vote(tab, "depth", "not supported")
        assert shown(outcome).startswith("Your prediction: not supported. Verdict: not supported.")
        assert score(tab) == "You were right about 2 of 2."
    assert not complaints


@needs_browser
def test_what_the_ballot_reveals_further_down_is_not_read_out(browser, server):
    with chromium.opened(browser, server) as (tab, _):
        vote(tab, "depth", "qualified")
        assert card(tab, "depth").locator("[role=status]").inner_text() == ""
        assert not tab.locator(".bn-ledger [role=status]").count()


@needs_browser
def test_a_card_asks_first_and_then_says_the_verdict(browser, server):
    with chromium.opened(browser, server) as (tab, complaints):
        trial = card(tab, "depth")
        trial.get_by_role("button", name="Show the verdict").click()
        assert trial.get_by_role("status").inner_text() == "Choose your prediction first."
        trial.get_by_label("not testable here").check()
        assert not trial.locator(".bn-outcome").is_visible(), "arrow keys pass through the choices"
        trial.get_by_role("button", name="Show the verdict").click()
        assert trial.get_by_role("status").inner_text().strip() == f"Your prediction: not testable here. {DEPTH_SHOWN}"
        assert trial.locator(".bn-outcome").evaluate("it => it === document.activeElement"), "the focus is lost"
        assert not trial.get_by_role("button").count()
        assert voted(tab) == {"depth": "not testable here"}
        assert row(tab, "depth") == ["not testable here", "not supported"]
    assert not complaints


@needs_browser
def test_a_verdict_can_be_had_without_a_prediction(browser, server):
    with chromium.opened(browser, server) as (tab, _):
        trial = card(tab, "depth")
        trial.get_by_role("button", name="Show without a prediction").click()
        assert trial.get_by_role("status").inner_text().strip() == f"You made no prediction. {DEPTH_SHOWN}"
        assert trial.locator(".bn-outcome").evaluate("it => it === document.activeElement"), "the focus is lost"
        assert row(tab, "depth") == ["none", "not supported"] and not voted(tab)
        assert score(tab) == "You have made no prediction."
        tab.reload()
        assert shown(card(tab, "depth").locator(".bn-outcome")).startswith("You made no prediction.")


@needs_browser
def test_the_ledger_can_show_all_verdicts(browser, server):
    with chromium.opened(browser, server) as (tab, _):
        vote(tab, "rate", "qualified")
        tab.get_by_role("button", name="Show all verdicts").click()
        assert [row(tab, id)[1] for id in ORDER] == ["qualified", "not supported", "supported"]
        assert row(tab, "rate")[0] == "qualified", "a prediction stays"
        assert all(card(tab, id).locator(".bn-outcome").is_visible() for id in ORDER)
        assert tab.locator(".bn-score").evaluate("it => it === document.activeElement"), "the focus is lost"
        assert not tab.get_by_role("button", name="Show all verdicts").is_visible()


@needs_browser
@pytest.mark.parametrize("origin", ["server", "folder"])
def test_predictions_are_there_after_a_reload(browser, server, folder, origin):
    address = server if origin == "server" else (folder / "page.html").as_uri()
    with chromium.opened(browser, address) as (tab, complaints):
        vote(tab, "depth", "qualified")
        vote(tab, "shift", "supported")
        tab.reload()
        assert voted(tab) == {"depth": "qualified", "shift": "supported"}
        assert tab.locator(".bn-ballot").get_by_role("status").inner_text() == "2 of 3 predicted."
        assert shown(card(tab, "shift").locator(".bn-outcome")).startswith("Your prediction: supported. Verdict: qual")
        assert row(tab, "shift") == ["supported", "qualified"]
        assert not card(tab, "rate").locator(".bn-outcome").is_visible()
    assert not complaints


@needs_browser
def test_one_can_start_over(browser, server):
    with chromium.opened(browser, server) as (tab, _):
        card(tab, "depth").get_by_label("qualified").check()
        card(tab, "depth").get_by_role("button", name="Show the verdict").click()
        tab.get_by_role("button", name="Start over").click()
        for _ in range(2):
            assert not voted(tab) and score(tab) == "You have made no prediction."
            assert not card(tab, "depth").locator(".bn-outcome").is_visible()
            assert not card(tab, "depth").locator(":checked").count()
            tab.reload()


@needs_browser
def test_the_keyboard_is_enough(browser, server):
    with chromium.opened(browser, server) as (tab, complaints):
        for keys in (["Tab", "Space"], ["Tab", "ArrowDown"], ["Tab", "ArrowUp"]):
            for key in keys:
                tab.keyboard.press(key)
        assert voted(tab) == {"shift": SUPPORTED, "depth": QUALIFIED, "rate": VERDICTS[-1]}
        enter = "form => form.dispatchEvent(new Event('submit', { cancelable: true }))"  # in some browsers
        assert not tab.locator(".bn-ballot form").evaluate(enter), "the form is sent"
        tab.keyboard.press("Tab")
        tab.keyboard.press("Enter")
        assert not voted(tab), "started over"
        for key in ("Tab", "ArrowDown", "Enter"):
            tab.keyboard.press(key)
        said = card(tab, "shift").get_by_role("status").inner_text()
        assert said.strip().startswith("Your prediction: qualified. Verdict: qualified.")
        for key in ("Tab", "Tab", "Enter"):
            tab.keyboard.press(key)
        assert card(tab, "depth").get_by_role("status").inner_text() == "Choose your prediction first."
        for key in ("Tab", "Space"):
            tab.keyboard.press(key)
        assert card(tab, "depth").get_by_role("status").inner_text().strip().startswith("You made no prediction.")
    assert not complaints


@needs_browser
def test_choices_are_groups_with_a_name(browser, server):
    with chromium.opened(browser, server) as (tab, _):
        assert (
            tab.get_by_role("group", name="Claim 6. It allows higher learning rates").get_by_role("radio").count() == 4
        )
        assert tab.get_by_role("group", name="Your prediction first: claim 6").get_by_role("radio").count() == 4


@needs_browser
def test_without_javascript_everything_shows(browser, server):
    with chromium.opened(browser, server, javascript=False) as (tab, _):
        assert tab.locator(".bn-ballot").get_by_role("status").inner_text().startswith("What you choose is not kept")
        assert not tab.get_by_role("button").count()
        assert shown(card(tab, "depth").locator(".bn-outcome")) == DEPTH_SHOWN
        assert [row(tab, id) for id in ORDER] == [["", LAB[id][2]] for id in ORDER]


@needs_browser
@pytest.mark.parametrize("place", ["site", "jupyter"])
def test_in_print_everything_shows(browser, server, place):
    with chromium.opened(browser, server) as (tab, _):
        if place == "jupyter":
            tab.evaluate("document.querySelector('link[rel=stylesheet]').remove()")
        tab.emulate_media(media="print")
        assert shown(card(tab, "depth").locator(".bn-outcome")) == DEPTH_SHOWN
        assert [row(tab, id) for id in ORDER] == [["none", LAB[id][2]] for id in ORDER]
        assert not tab.locator("button:visible, .bn-trial input:visible").count()
        assert tab.locator(".bn-ballot input:visible").count() == 12, "a page to fill in"


FOREIGN = ["{", "null", "7", '"qualified"', "[1]", '{"depth": 1, "rate": null}', '{"depth": {"a": 1}}']
FOREIGN += ['{"depth": "<b>certain</b>", "__proto__": "qualified", "other": "qualified"}']


@needs_browser
def test_a_foreign_value_in_the_store_does_no_harm(browser, server):
    with chromium.opened(browser, server) as (tab, complaints):
        for value in FOREIGN:
            tab.evaluate("([key, value]) => localStorage.setItem(key, value)", [KEY, value])
            tab.reload()
            assert not voted(tab) and row(tab, "depth") == ["none", "predict first"], value
            assert tab.locator(".bn-ballot").get_by_role("status").inner_text() == "0 of 3 predicted."
            vote(tab, "depth", "qualified")
            tab.reload()
            assert voted(tab) == {"depth": "qualified"} and row(tab, "depth") == ["qualified", "not supported"], value
    assert not complaints


@needs_browser
@pytest.mark.parametrize("broken", ["get localStorage() { throw new DOMException('denied') }", "localStorage: null"])
def test_where_nothing_may_be_stored_it_lasts_as_long_as_the_page(browser, server, broken):
    context = browser.new_context()
    tab = context.new_page()
    complaints = chromium.listen(tab, server)
    define = "Object.defineProperties(window, Object.getOwnPropertyDescriptors({%s}))"
    tab.add_init_script(define % broken)
    tab.goto(server)
    vote(tab, "depth", "qualified")
    assert row(tab, "depth") == ["qualified", "not supported"]
    assert card(tab, "depth").locator(".bn-outcome").is_visible()
    context.close()
    assert not complaints


@needs_browser
def test_outputs_that_come_later_join_in_as_in_jupyterlab(browser, server, file):
    """There a cell's output is put into a document whose scripts have run, and may be put there again."""
    insert = """markup => {
      const box = document.createElement("div");
      box.innerHTML = markup;
      document.querySelector("main").append(box);
      const script = document.createElement("script");
      script.textContent = box.querySelector("script").textContent;
      box.querySelector("script").replaceWith(script);
    }"""
    with chromium.opened(browser, server) as (tab, complaints):
        vote(tab, "depth", "qualified")
        for _ in range(2):
            tab.evaluate(insert, verdict("depth", file)._repr_html_())
            tab.evaluate(insert, ballot(CLAIMS_OF_LAB)._repr_html_())
        assert tab.locator(".bn-trial[data-claim=depth] .bn-outcome:visible").count() == 3
        assert tab.locator(".bn-ballot :checked").count() == 3
        tab.locator(".bn-ballot").last.get_by_label("not testable here").nth(0).check()
        assert row(tab, "shift") == ["not testable here", "qualified"]
        assert tab.locator(".bn-ballot :checked").count() == 6
        assert tab.evaluate("window.bnPredictions.size") == 2
    assert not complaints


@needs_browser
def test_a_page_that_was_saved_starts_from_what_is_stored(browser, server, folder):
    with chromium.opened(browser, server) as (tab, complaints):
        vote(tab, "depth", "qualified")
        card(tab, "rate").get_by_role("button", name="Show without a prediction").click()
        (folder / "saved.html").write_text(tab.content())
        tab.get_by_role("button", name="Start over").click()
        tab.goto(server.replace("page.html", "saved.html"))
        assert not voted(tab) and not tab.locator(".bn-outcome:visible").count()
        card(tab, "rate").get_by_label("qualified").check()
        card(tab, "rate").get_by_role("button", name="Show the verdict").click()
        assert card(tab, "rate").get_by_role("status").inner_text().strip().startswith("Your prediction: qualified.")
    assert not complaints


@needs_browser
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 360])
def test_all_is_accessible_and_fits(browser, server, theme, width):
    with chromium.opened(browser, server, theme=theme, width=width) as (tab, complaints):
        for _ in range(2):  # before, and with everything shown
            complaints += chromium.sideways_overflow(tab) + chromium.axe_violations(tab)
            vote(tab, "depth", "qualified")
            chromium.show_predictions(tab)
        assert tab.locator(".bn-outcome:visible").count() == 6
    assert not complaints
