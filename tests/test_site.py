"""The built site as readers meet it: in a browser, from a server and from a folder.

Needs Chromium, and the site that `make book` builds in ``_build/html``.
"""

import json
import os
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from urllib.parse import unquote, urlsplit

import browser as chromium
import nbformat
import pytest
from bs4 import BeautifulSoup
from playwright.sync_api import Browser, Locator, Page

from bncourse.checks import EXERCISES as KNOWN_EXERCISES
from bncourse.interactive import MOST_FRAMES
from bncourse.plots import PALETTE
from bncourse.questions import load

ROOT = Path(__file__).parents[1]
SITE = ROOT / "_build" / "html"
LARGEST_PAGE = 1_500_000  # bytes of a page and what it alone loads
NOT_FOR_TEXT = ("grid", "paper")


def stop_unless(condition: object, remedy: str) -> None:
    """Skip this file with one line; on CI, where nothing may be missing, fail."""
    if not condition:
        if os.environ.get("CI"):
            pytest.fail(remedy, pytrace=False)
        pytest.skip(remedy, allow_module_level=True)


stop_unless(chromium.executable(), "no browser: apt-get install chromium, or set CHROMIUM to the path of one")
stop_unless((SITE / "index.html").exists(), "no site: run `make book` first")

FRONT_DOOR = "index.html"  # it only leads on to the course
HTML = (path.relative_to(SITE).as_posix() for path in SITE.rglob("*.html") if "_static" not in path.parts)
PAGES = sorted(set(HTML) - {FRONT_DOOR})
CONTENT = [page for page in PAGES if page != "search.html"]
CHAPTERS = [page for page in CONTENT if re.match(r"book/\d+_", page)]
EXERCISES = [page for page in CONTENT if page.startswith("exercises/")]
SOLUTIONS = [page for page in CONTENT if page.startswith("solutions/")]
DOWNLOADS = [page for page in CONTENT if (SITE / "_sources" / page).with_suffix(".ipynb").exists()]


FIGURES_WITH_SLIDERS = {
    page: count
    for page in CHAPTERS
    if (
        count := sum(
            "\nexplore(" in cell.source for cell in nbformat.read((ROOT / page).with_suffix(".ipynb"), 4).cells
        )
    )
}
WITH_SLIDERS = list(FIGURES_WITH_SLIDERS)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with chromium.launched() as running:
        yield running


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    with chromium.served(SITE) as address:
        yield address


@pytest.fixture(params=["server", "folder"])
def origin(request: pytest.FixtureRequest, server: str) -> str:
    return server if request.param == "server" else f"{SITE.as_uri()}/"


# --- Every page ----------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("width", [1280, 360])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_page_is_sound(browser: Browser, server: str, page: str, width: int, theme: str):
    colours = [getattr(colour, theme) for colour in PALETTE.values()]
    with chromium.opened(browser, server + page, theme=theme, width=width) as (tab, complaints):
        complaints += complaints_about(tab, colours)
        if tab.locator(".bn-predict, .bn-question").count():  # once more with all that readers can open
            chromium.show_predictions(tab)
            tab.evaluate("document.querySelectorAll('.bn-question button').forEach((button) => button.click())")
            complaints += complaints_about(tab, colours)
    assert not complaints


def complaints_about(tab: Page, colours: list[str]) -> list[str]:
    """What the detectors find on a page as it stands."""
    found = chromium.sideways_overflow(tab) + chromium.unrendered_math(tab)
    return found + chromium.unthemed_figures(tab, colours) + chromium.axe_violations(tab)


@pytest.mark.parametrize("page", PAGES)
def test_page_works_from_a_folder(browser: Browser, page: str):
    with chromium.opened(browser, f"{SITE.as_uri()}/{page}") as (tab, complaints):
        complaints += chromium.unrendered_math(tab)
    assert not complaints


@pytest.mark.parametrize("page", CONTENT)
def test_page_works_without_javascript(browser: Browser, server: str, page: str):
    with chromium.opened(browser, server + page, javascript=False) as (tab, _):
        assert len(tab.locator("article").inner_text().split()) >= 5
        for selector in (".katex", ".bn-figure svg"):
            for shown in tab.locator(f"article {selector}").all()[:5]:
                assert shown.bounding_box()["height"] > 5 or shown.locator("xpath=ancestor::details").count()


@pytest.mark.parametrize("page", PAGES)
def test_links_resolve(page: str):
    assert not broken_links(SITE, page)


@pytest.mark.parametrize("page", CHAPTERS)
def test_chapter_carries_no_state_of_widgets(page: str):
    assert "widget-state" not in (SITE / page).read_text(encoding="utf-8")


@pytest.mark.parametrize("page", CONTENT)
def test_page_is_small(page: str):
    own = assets(page) - set.intersection(*map(assets, CONTENT))
    size = (SITE / page).stat().st_size + sum((SITE / asset).stat().st_size for asset in own)
    assert size < LARGEST_PAGE


@pytest.mark.parametrize("page", CONTENT)
def test_page_describes_itself(page: str):
    head = parsed(page).head
    description = head.find("meta", attrs={"name": "description"})["content"]
    assert 30 <= len(description) <= 200
    assert head.find("meta", attrs={"property": "og:description"})["content"] == description
    assert head.find("meta", attrs={"property": "og:title"})["content"]
    assert parsed(page).html["lang"] == "en"
    assert [page] == [other for other in CONTENT if (found := meta_description(other)) == description and found], (
        "two pages share a description"
    )


# --- What readers do -----------------------------------------------------------------


def test_there_is_something_to_test():
    assert CHAPTERS and DOWNLOADS and EXERCISES and SOLUTIONS
    assert any(parsed(page).select(".bn-figure") for page in CHAPTERS)
    assert any(parsed(page).select(".math-block .eqno") for page in CHAPTERS)
    assert WITH_SLIDERS


def test_front_door_leads_to_the_course(browser: Browser, origin: str):
    with browser.new_context() as context:
        tab = context.new_page()
        tab.goto(origin + FRONT_DOOR)
        tab.wait_for_url("**/book/index.html")
        assert tab.locator("article h1").count() == 1


def test_front_door_is_a_page_of_its_own():
    door = parsed(FRONT_DOOR)
    assert door.html["lang"] == "en" and door.title.string and door.main.h1
    assert door.main.a["href"] == "book/index.html"
    assert not broken_links(SITE, FRONT_DOOR)


@pytest.mark.parametrize("page", DOWNLOADS)
def test_notebook_can_be_downloaded(browser: Browser, server: str, page: str):
    with chromium.opened(browser, server + page) as (tab, _):
        with tab.expect_download() as download:
            tab.get_by_role("link", name="Download this notebook").click()
        assert download.value.suggested_filename == Path(page).with_suffix(".ipynb").name
        assert json.loads(download.value.path().read_text(encoding="utf-8"))["cells"]


def test_search_finds_a_term(browser: Browser, origin: str):
    with chromium.opened(browser, origin + "search.html?q=variance") as (tab, complaints):
        result = tab.locator("#search-results li a").first
        result.wait_for()
        assert resolves(SITE / "search.html", result.get_attribute("href"))
        tab.wait_for_load_state("networkidle")
        assert "\\" not in tab.locator("#search-results").inner_text(), "TeX in a summary"
        assert not complaints


def test_search_finds_nothing_for_nonsense(browser: Browser, server: str):
    with chromium.opened(browser, server + "search.html?q=qqxzzy") as (tab, _):
        tab.get_by_text("did not match any documents").wait_for()
        assert tab.locator("#search-results li").count() == 0


def test_theme_switch_changes_the_figures(browser: Browser, server: str):
    page = next(page for page in CHAPTERS if parsed(page).select(".bn-figure text"))
    with chromium.opened(browser, server + page) as (tab, _):
        light = figure_text_colour(tab)
        switch_to(tab, "dark")
        assert figure_text_colour(tab) != light
        switch_to(tab, "light")
        assert figure_text_colour(tab) == light


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_palette_is_legible_on_the_page(browser: Browser, server: str, theme: str):
    with chromium.opened(browser, server + CHAPTERS[0], theme=theme) as (tab, _):
        paper = background(tab)
    weak = {
        name: round(ratio, 2)
        for name, colour in PALETTE.items()
        if name not in NOT_FOR_TEXT
        and (ratio := chromium.contrast(getattr(colour, theme), paper)) < chromium.LEAST_CONTRAST
    }
    assert not weak


def test_a_box_that_a_late_font_makes_scroll_can_be_reached(browser: Browser, server: str):
    """The content grows, the box does not: only the arrival of the font tells."""
    with chromium.opened(browser, server + "book/03_backward.html") as (tab, _):
        box = tab.locator(".math-scroll").first
        assert box.get_attribute("tabindex") is None
        box.evaluate("box => { box.style.height = '200px'; }")
        tab.wait_for_timeout(200)  # until the box's own size is seen to have changed
        box.evaluate("box => { box.firstElementChild.style.width = '3000px'; }")
        tab.wait_for_timeout(200)
        assert box.get_attribute("tabindex") is None
        tab.evaluate("document.fonts.dispatchEvent(new Event('loadingdone'))")
        assert box.get_attribute("tabindex") == "0"


@pytest.mark.parametrize("page", EXERCISES)
def test_exercises_are_shown_as_a_learner_finds_them(page: str):
    assert "raise NotImplementedError()" in parsed(page).text
    assert not parsed(page).select(".cell_output")


@pytest.mark.parametrize("page", SOLUTIONS)
def test_solutions_are_shown_with_their_results_and_without_markers(page: str):
    checks = parsed(page).select(".cell_output .bn-report strong")
    exercises = [exercise.id for exercise in KNOWN_EXERCISES.values() if exercise.chapter == Path(page).stem]
    assert [check.text for check in checks] == [f"{id}: ✓ Correct." for id in exercises]
    assert "SOLUTION" not in parsed(page).text


@pytest.mark.parametrize("page", CHAPTERS)
def test_numbers_start_with_the_chapter(page: str):
    chapter = int(Path(page).name.partition("_")[0])
    for numbers in (
        numbers_of(page, ".math-block .eqno", r"\((.+)\)"),
        numbers_of(page, "figure .caption-number", r"Figure (.+)"),
    ):
        assert numbers == [f"{chapter}.{i}" for i in range(1, len(numbers) + 1)]


@pytest.mark.parametrize("page", CONTENT)
def test_references_show_the_number_of_their_target(page: str):
    for link in parsed(page).select("a.reference.internal[href*='#equation-']"):
        target = find_target(page, link["href"])
        number = target.select_one(".eqno").find(string=True, recursive=False)
        assert link.get_text() == number


# --- Figures with sliders --------------------------------------------------------------


def figures_of(tab: Page, page: str) -> list[Locator]:
    """The figures with sliders on a page, all of them visible."""
    chromium.show_predictions(tab)
    figures = tab.locator(".bn-explore").all()
    assert len(figures) == FIGURES_WITH_SLIDERS[page]
    return figures


def stored(figure: Locator) -> dict:
    """The frames of a figure, as the page keeps them."""
    return json.loads(figure.locator("script").text_content())


def complaints_about_frame(figure: Locator) -> list[str]:
    """What of a figure does not belong to the values of its sliders."""
    data, frame = stored(figure), 0
    sliders = figure.get_by_role("slider").all()
    complaints = []
    for slider, texts in zip(sliders, data["texts"], strict=True):
        position = int(slider.input_value())
        frame = frame * len(texts) + position
        output = slider.locator("xpath=following-sibling::output").inner_text()
        if not output == slider.get_attribute("aria-valuetext") == texts[position]:
            complaints.append(f"the slider stands at {texts[position]} and says {output}")
    stored_picture = "\n".join(data["lines"][line] for line in data["frames"][frame])
    if picture(figure) != as_the_browser_writes_it(figure, stored_picture):
        complaints.append(f"frame {frame} is not shown")
    if figure.get_by_role("status").inner_text() != data["sentences"][frame]:
        complaints.append(f"the sentence of frame {frame} is not shown")
    return complaints


@pytest.mark.parametrize("page", WITH_SLIDERS)
def test_keys_move_every_slider_and_change_the_picture(browser: Browser, origin: str, page: str):
    with chromium.opened(browser, origin + page) as (tab, complaints):
        for figure in figures_of(tab, page):
            assert not complaints_about_frame(figure)
            for slider in figure.get_by_role("slider").all():
                pictures = []
                for key in ("Home", "End", "ArrowLeft"):
                    slider.press(key)
                    assert not complaints_about_frame(figure)
                    pictures.append(picture(figure))
                assert pictures[0] != pictures[1]
                # Not all at the same end, where a wrong order of the sliders would not show.
                slider.press("ArrowRight")
    assert not complaints


@pytest.mark.parametrize("page", WITH_SLIDERS)
def test_dragging_a_slider_changes_what_one_sees(browser: Browser, server: str, page: str):
    with chromium.opened(browser, server + page) as (tab, _):
        for figure in figures_of(tab, page):
            for slider in figure.get_by_role("slider").all():
                slider.press("Home")
                before = figure.locator(".bn-picture").screenshot()
                drag(tab, slider)
                assert int(slider.input_value()) == int(slider.get_attribute("max"))
                assert figure.locator(".bn-picture").screenshot() != before


def drag(tab: Page, slider: Locator) -> None:
    """Move a slider from its first to its last position with the mouse."""
    slider.scroll_into_view_if_needed()
    box = slider.bounding_box()
    middle = box["y"] + box["height"] / 2
    tab.mouse.move(box["x"] + 8, middle)
    tab.mouse.down()
    tab.mouse.move(box["x"] + box["width"] - 2, middle, steps=5)
    tab.mouse.up()


@pytest.mark.parametrize("page", WITH_SLIDERS)
def test_sliders_have_names_and_say_what_is_seen(browser: Browser, server: str, page: str):
    with chromium.opened(browser, server + page) as (tab, _):
        for figure in figures_of(tab, page):
            labels = [label.inner_text() for label in figure.locator("label > span").all()]
            assert labels and all(figure.get_by_role("slider", name=label, exact=True).count() == 1 for label in labels)
            sentences = set(stored(figure)["sentences"])
            assert len(sentences) > 1 and all(sentences)


@pytest.mark.parametrize("page", WITH_SLIDERS)
def test_every_frame_is_drawn_in_the_same_place(page: str):
    for script in parsed(page).select(".bn-explore > script"):
        data = json.loads(script.string)
        frames = ("".join(data["lines"][line] for line in numbers) for numbers in data["frames"])
        boxes = [re.search(r'viewBox="[^"]*"', frame)[0] for frame in frames]
        assert 1 < len(boxes) <= MOST_FRAMES
        assert len(set(boxes)) == 1, "the page below jumps"


@pytest.mark.parametrize("page", WITH_SLIDERS)
def test_sliders_work_on_a_phone_and_leave_the_page_sound(browser: Browser, server: str, page: str):
    with chromium.opened(browser, server + page, width=320) as (tab, complaints):
        for figure in figures_of(tab, page):
            box = figure.locator(".bn-figure")
            for slider in figure.get_by_role("slider").all():
                assert slider.bounding_box()["width"] > 150
                slider.press("Home")
                box.evaluate("box => { box.scrollLeft = 40; box.dataset.at = box.scrollLeft; }")
                slider.press("End")
                assert box.evaluate("box => String(box.scrollLeft) === box.dataset.at"), "thrown back to the left"
        complaints += chromium.axe_violations(tab) + chromium.sideways_overflow(tab)
    assert not complaints


@pytest.mark.parametrize("page", WITH_SLIDERS)
def test_going_back_shows_what_the_sliders_say(browser: Browser, server: str, page: str):
    with chromium.opened(browser, server + page) as (tab, _):
        for figure in figures_of(tab, page):
            for slider in figure.get_by_role("slider").all():
                slider.press("End")
        tab.goto(server + "book/index.html")
        tab.go_back()
        for figure in figures_of(tab, page):
            assert not complaints_about_frame(figure)


@pytest.mark.parametrize("page", WITH_SLIDERS)
def test_figures_with_sliders_stand_still_unless_moved(browser: Browser, server: str, page: str):
    with browser.new_context(reduced_motion="reduce") as context:
        tab = context.new_page()
        tab.goto(server + page)
        for figure in figures_of(tab, page):
            figure.get_by_role("slider").first.press("End")
            assert figure.evaluate("figure => figure.getAnimations({subtree: true}).length") == 0
            durations = "figure => [...figure.querySelectorAll('*')].map((e) => getComputedStyle(e).transitionDuration)"
            assert set(figure.evaluate(durations)) == {"0s"}


@pytest.mark.parametrize("page", WITH_SLIDERS)
def test_without_javascript_the_first_picture_stands_alone(browser: Browser, server: str, page: str):
    with chromium.opened(browser, server + page, javascript=False) as (tab, _):
        for figure in tab.locator(".bn-explore").all():
            assert figure.locator("svg").bounding_box()["height"] > 50
            assert figure.locator(".bn-sentence").inner_text()
            assert not figure.locator(".bn-sliders").is_visible()


# --- Questions and predictions ---------------------------------------------------------


@pytest.mark.parametrize("page", CHAPTERS)
def test_every_answer_gets_its_own_explanation(browser: Browser, origin: str, page: str):
    asked = load((ROOT / page).with_suffix(".questions.yml"))
    with chromium.opened(browser, origin + page) as (tab, complaints):
        forms = tab.locator(".bn-question").all()
        assert len(forms) == len(asked)
        for form, question in zip(forms, asked, strict=True):
            said = form.get_by_role("status")
            for i, (choice, answer) in enumerate(zip(form.get_by_role("radio").all(), question.answers, strict=True)):
                choice.check()
                assert said.inner_text() == "", "that belonged to another answer"
                form.get_by_role("button", name="Check").click()
                verdict, _, explanation = said.text_content().partition(". ")
                assert verdict == ("Right" if answer.right else "Not so")
                assert explanation == form.locator("li .bn-why").nth(i).text_content()
            assert not form.locator("details").is_visible(), "all answers at once"
    assert not complaints


def test_a_question_is_answered_with_the_keyboard_alone(browser: Browser, server: str):
    with chromium.opened(browser, server + CHAPTERS[0]) as (tab, _):
        form = tab.locator(".bn-question").first
        form.get_by_role("button", name="Check").focus()
        tab.keyboard.press("Enter")
        assert form.get_by_role("status").inner_text().strip() == "Choose an answer first."
        tab.keyboard.press("Shift+Tab")
        tab.keyboard.press("ArrowDown")
        assert form.locator("input:checked").count() == 1
        tab.keyboard.press("Enter")
        assert re.match(r"(Right|Not so)\. \w", form.get_by_role("status").inner_text())


def test_questions_are_groups_with_a_name(browser: Browser, server: str):
    with chromium.opened(browser, server + CHAPTERS[0]) as (tab, _):
        assert tab.get_by_role("group", name=re.compile(r"^1\. .+\?$")).get_by_role("radio").count() >= 3


@pytest.mark.parametrize("page", CHAPTERS)
def test_without_javascript_the_explanations_unfold(browser: Browser, server: str, page: str):
    with chromium.opened(browser, server + page, javascript=False) as (tab, _):
        for form in tab.locator(".bn-question").all():
            assert not form.get_by_role("button").is_visible()
            form.locator("summary").click()
            assert form.locator("li").first.is_visible()
        for box in tab.locator(".admonition.predict").all():
            assert shown(box.locator("xpath=following-sibling::*[1]").locator(".cell_output"))


@pytest.mark.parametrize("page", CHAPTERS)
def test_a_result_waits_for_the_prediction(browser: Browser, origin: str, page: str):
    with chromium.opened(browser, origin + page) as (tab, complaints):
        boxes = tab.locator(".admonition.predict").all()
        assert len(boxes) >= 3
        for box in boxes:
            assert not any(shown(result) for result in results_of(box))
            box.get_by_role("button", name="Show the result").click()
            assert box.get_by_role("status").inner_text() == "Make your prediction first."
            assert not any(shown(result) for result in results_of(box))
            said = predict(box)
            assert all(shown(result) for result in results_of(box))
            assert box.get_by_role("status").inner_text().startswith(f"The result is below. You said: {said}")
            assert box.get_by_role("button").count() == 0
            assert box.get_by_role("status").evaluate("said => said === document.activeElement"), "the focus is lost"
    assert not complaints


def results_of(box: Locator) -> list[Locator]:
    """What waits for the prediction: the next cell's output, and all up to the next code, box or section."""
    output = box.locator("xpath=following-sibling::*[1]").locator(".cell_output").first
    discussion = box.locator("xpath=following-sibling::*[2]")
    after = box.locator("xpath=following-sibling::*[3]")
    assert discussion.get_attribute("class").split()[0] == "bn-discussion"
    is_new = "element => element.matches('section, .predict, .cell:not(.tag_hide-input), script')"
    assert not after.count() or after.evaluate(is_new), "still discusses the result"
    return [output, discussion] if discussion.locator("xpath=./*").count() else [output]


def shown(result: Locator) -> bool:
    """Whether a reader sees what is in an element."""
    return result.locator("xpath=./*").first.is_visible()


def predict(box: Locator) -> str:
    """Answer a box with the keyboard; return the first letters of the answer."""
    line = box.get_by_role("textbox")
    if line.count():
        line.fill("about 0.7")
        line.press("Enter")
        return "about 0.7"
    first = box.get_by_role("radio").first
    first.press("Space")
    first.press("Enter")
    return first.locator("xpath=following-sibling::span").inner_text()[:5].partition("\n")[0]


def test_a_result_can_be_had_without_a_prediction(browser: Browser, server: str):
    with chromium.opened(browser, server + CHAPTERS[0]) as (tab, _):
        box = tab.locator(".admonition.predict").first
        box.get_by_role("button", name="Show without an answer").click()
        assert all(shown(result) for result in results_of(box))


@pytest.mark.parametrize("page", CHAPTERS)
def test_printed_pages_hide_no_result(browser: Browser, server: str, page: str):
    with chromium.opened(browser, server + page) as (tab, _):
        tab.emulate_media(media="print")
        for box in tab.locator(".admonition.predict").all():
            assert all(shown(result) for result in results_of(box))
            assert not box.get_by_role("button").first.is_visible()


@pytest.fixture
def small_page(tmp_path: Path) -> Path:
    """A folder with a page of one prediction, its result, a discussion and what comes after."""
    page = """<!DOCTYPE html><html lang="en"><title>t</title><link rel="icon" href="data:,">
      <script src="predict.js"></script>
      <div class="admonition predict"><p>?</p><ul><li>a <b>b</b></li></ul></div>
      <div class="cell"><div class="cell_output"><p id="output">!</p></div></div>
      <p id="discussion">So.</p><div class="cell"></div><p id="later">Next.</p>"""
    (tmp_path / "page.html").write_text(page)
    (tmp_path / "predict.js").write_bytes((SITE / "_static" / "predict.js").read_bytes())
    return tmp_path


@pytest.mark.parametrize("place", ["output", "discussion"])
@pytest.mark.parametrize("when", ["at first", "later"])
def test_a_link_into_a_waiting_result_shows_it(browser: Browser, small_page: Path, place: str, when: str):
    with chromium.served(small_page) as folder:
        address = f"{folder}page.html" + (f"#{place}" if when == "at first" else "")
        with chromium.opened(browser, address) as (tab, complaints):
            if when == "later":
                assert not tab.locator(f"#{place}").is_visible()
                tab.evaluate(f"location.hash = '{place}'")
            tab.locator(f"#{place}").wait_for(state="visible")
            assert not tab.get_by_role("button").count(), "all that waits is shown"
        assert not complaints


@pytest.mark.parametrize("address", ["", "#later", "#nowhere", "#%"])
def test_no_other_address_shows_a_waiting_result(browser: Browser, small_page: Path, address: str):
    with chromium.served(small_page) as folder:
        with chromium.opened(browser, f"{folder}page.html{address}") as (tab, complaints):
            assert not tab.locator("#output").is_visible() and not tab.locator("#discussion").is_visible()
            assert tab.locator("#later").is_visible()
        assert not complaints


def test_a_page_that_was_saved_starts_anew(browser: Browser, small_page: Path):
    with chromium.served(small_page) as folder, chromium.opened(browser, f"{folder}page.html") as (tab, complaints):
        (small_page / "saved.html").write_text(tab.content())
        tab.goto(f"{folder}saved.html")
        assert tab.locator("form").count() == tab.locator(".bn-waiting").count() == 1
        tab.get_by_role("radio").check()
        tab.get_by_role("button", name="Show the result").click()
        assert tab.get_by_role("status").inner_text() == "The result is below. You said: a b"
        assert tab.locator("#output").is_visible() and tab.locator("#discussion").is_visible()
        assert tab.get_by_role("radio").is_disabled() and not tab.locator(".bn-waiting").count()
    assert not complaints


# --- The detectors find what they look for --------------------------------------------

BAD_PAGES = {
    "outside request: http://elsewhere.invalid": '<img alt="" src="http://elsewhere.invalid/x.png">',
    "console error: oh no": "<script>console.error('oh no')</script>",
    "console warning: hm": "<script>console.warn('hm')</script>",
    "page error: thrown": "<script>throw new Error('thrown')</script>",
    "status 404": "<img alt='' src='missing.png'>",
    "axe image-alt": '<img src="data:image/gif;base64,R0lGODlhAQABAAAAACH5BAEKAAEALAAAAAABAAEAAAICTAEAOw==">',
    "axe color-contrast": '<p style="color: #999; background: #fff">too pale</p>',
    "axe label-content-name-mismatch": '<button aria-label="Go">Search</button>',
    "908 px wide on 360": '<div style="width: 900px">wide</div>',
    "raw math: the mean": "<p>the mean \\(x\\)</p>",
    "not rendered": '<span class="math">x</span>',
    "KaTeX error": '<span class="katex-error">x</span>',
    "no KaTeX font": '<span class="katex">x</span>',
    "a figure has no description": '<div class="bn-figure"><svg></svg></div>',
    "id used twice: a": '<div class="bn-figure"><svg><g id="a"/><g id="a"/></svg></div>',
    '"black" is rgb(0, 0, 0)': '<div class="bn-figure"><svg><text>black</text></svg></div>',
}


@pytest.mark.parametrize("complaint", BAD_PAGES)
def test_detector_finds(browser: Browser, tmp_path: Path, complaint: str):
    head = '<!DOCTYPE html><html lang="en"><head><title>Bad</title><link rel="icon" href="data:,"></head>'
    (tmp_path / "bad.html").write_text(f"{head}<body><main><h1>Bad</h1>{BAD_PAGES[complaint]}</main></body></html>")
    with chromium.served(tmp_path) as server, chromium.opened(browser, server + "bad.html", width=360) as (tab, found):
        found += complaints_about(tab, ["#123456"])
    assert any(line.startswith(complaint) for line in found), found


def test_detectors_find_nothing_on_a_good_page(browser: Browser, tmp_path: Path):
    head = '<!DOCTYPE html><html lang="en"><head><title>Good</title><link rel="icon" href="data:,"></head>'
    (tmp_path / "good.html").write_text(f"{head}<body><main><h1>Good</h1><p>Costs $5.</p></main></body></html>")
    with chromium.served(tmp_path) as server, chromium.opened(browser, server + "good.html", width=360) as (tab, found):
        found += chromium.sideways_overflow(tab) + chromium.unrendered_math(tab)
        assert not found + chromium.axe_violations(tab)


def test_broken_links_are_found(tmp_path: Path):
    (tmp_path / "page.html").write_text('<a href="gone.html">a</a><a href="#gone">b</a><a href="#here" id="here">c</a>')
    assert broken_links(tmp_path, "page.html") == ["gone.html", "#gone"]


def test_contrast_is_that_of_wcag():
    assert chromium.contrast("#000000", "#ffffff") == pytest.approx(21)
    assert chromium.contrast("#767676", "#ffffff") == pytest.approx(4.54, abs=0.01)


# --- Helpers -------------------------------------------------------------------------


@cache
def parsed(page: str, site: Path = SITE) -> BeautifulSoup:
    """The markup of a page."""
    return BeautifulSoup((site / page).read_text(encoding="utf-8"), "html.parser")


@cache
def ids(page: Path) -> set[str]:
    """The places within a page that a link can name."""
    return {tag["id"] for tag in parsed(page.name, page.parent).select("[id]")}


def broken_links(site: Path, page: str) -> list[str]:
    """The links of a page, to files or to places within them, that lead nowhere."""
    addresses = (tag.get("href") or tag.get("src") for tag in parsed(page, site).select("[href], [src]"))
    return [address for address in addresses if not resolves(site / page, address)]


def resolves(page: Path, address: str) -> bool:
    """Whether a link of ``page`` leads somewhere; links to other sites always do."""
    parts = urlsplit(address)
    if parts.scheme or address == "#":
        return True
    target = (page.parent / unquote(parts.path)).resolve() if parts.path else page.resolve()
    if not target.is_file():
        return False
    return not parts.fragment or target.suffix != ".html" or unquote(parts.fragment) in ids(target)


def assets(page: str) -> set[str]:
    """The site's files that a page loads, as paths within the site."""
    tags = parsed(page).select("img[src], script[src], source[src], link[rel=stylesheet][href]")
    paths = (urlsplit(tag.get("src") or tag["href"]) for tag in tags)
    return {
        ((SITE / page).parent / unquote(path.path)).resolve().relative_to(SITE.resolve()).as_posix()
        for path in paths
        if path.path and not path.scheme
    }


def meta_description(page: str) -> str:
    """The page's description, or an empty string."""
    tag = parsed(page).head.find("meta", attrs={"name": "description"})
    return tag["content"] if tag else ""


def numbers_of(page: str, selector: str, pattern: str) -> list[str]:
    """The numbers that the page shows, in order."""
    texts = (tag.find(string=True, recursive=False).strip() for tag in parsed(page).select(selector))
    return [re.fullmatch(pattern, text)[1] for text in texts]


def find_target(page: str, href: str):
    """The element that a link leads to."""
    path, _, fragment = href.partition("#")
    target = ((SITE / page).parent / path).resolve().relative_to(SITE.resolve()).as_posix() if path else page
    return parsed(target).find(id=fragment)


def picture(figure: Locator) -> str:
    """The markup of the picture that a figure with sliders shows."""
    return figure.locator(".bn-picture").inner_html()


def as_the_browser_writes_it(figure: Locator, markup: str) -> str:
    """Markup after a browser has read it."""
    return figure.evaluate(
        "(figure, markup) => { const box = document.createElement('div'); box.innerHTML = markup; return box.innerHTML; }",
        markup,
    )


def figure_text_colour(tab: Page) -> str:
    """The computed colour of the first text in a figure."""
    return tab.locator(".bn-figure text").first.evaluate("text => getComputedStyle(text).fill")


def switch_to(tab: Page, theme: str) -> None:
    """Press the theme button, which steps through three modes, until the page has the theme."""
    for _ in range(3):
        tab.locator(".theme-switch-button:visible").first.click()
        if tab.locator("html").get_attribute("data-theme") == theme:
            return
    raise AssertionError(f"the theme button never led to {theme}")


def background(tab: Page) -> str:
    """The page's background as a hex colour."""
    red, green, blue = tab.evaluate(
        "() => getComputedStyle(document.body).backgroundColor.match(/\\d+/g).slice(0, 3).map(Number)"
    )
    return f"#{red:02x}{green:02x}{blue:02x}"
