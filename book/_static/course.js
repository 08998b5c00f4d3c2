// Boxes that scroll sideways can be reached and named with a keyboard, but only while they
// do scroll: on a wide screen nobody has to step through every equation.
const SCROLL_BOXES = {
  ".math-scroll": "Equation",
  ".bn-figure": "Figure",
  ".pst-scrollable-table-container": "Table",
  ".highlight pre": "Code",
  ".cell_output .output": "Output",
};

function nameWhileScrolling(box, name) {
  if (box.scrollWidth > box.clientWidth) {
    box.tabIndex = 0;
    box.setAttribute("role", "region");
    box.setAttribute("aria-label", `${name} on this page, scrolls sideways`);
  } else {
    ["tabindex", "role", "aria-label"].forEach((attribute) => box.removeAttribute(attribute));
  }
}

function watch(selector, name) {
  document.querySelectorAll(selector).forEach((box, index) => {
    const numbered = `${name} ${index + 1}`; // two regions must not share a name
    const look = () => nameWhileScrolling(box, numbered);
    new ResizeObserver(look).observe(box);
    // A font that arrives late makes the content wider, but not the box.
    document.fonts.addEventListener("loadingdone", look);
  });
}

document.addEventListener("DOMContentLoaded", () => {
  Object.entries(SCROLL_BOXES).forEach(([selector, name]) => watch(selector, name));
});

// Summaries of search results are fetched, which browsers forbid from a folder.
if (location.protocol === "file:") {
  DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false;
}
