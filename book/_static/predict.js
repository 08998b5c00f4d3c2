// Predict boxes: the reader commits to an answer, then the output of the next cell shows, and what
// discusses it. Without this script nothing waits.

// Where browsers know "until-found", a search within the page still leads to what is hidden.
const HIDDEN = "onbeforematch" in document.documentElement ? "until-found" : "";

// Until the boxes are there, the style sheet hides what will wait.
document.documentElement.classList.add("bn-predicting");
document.addEventListener("DOMContentLoaded", () => {
  try {
    document.querySelectorAll(".admonition.predict").forEach((box, index) => {
      const cell = box.nextElementSibling;
      const output = cell?.querySelector(".cell_output");
      if (output) gate(box, [output, discussion(cell)], index + 1);
    });
  } finally {
    document.documentElement.classList.remove("bn-predicting");
  }
});

// What stands between a cell and the next code, prediction or section, moved into an element of its own.
function discussion(cell) {
  const found = cell.nextElementSibling;
  if (found?.matches(".bn-discussion")) return found; // of a page that was saved
  const wrapper = document.createElement("div");
  wrapper.className = "bn-discussion";
  const next = ".cell:not(.tag_hide-input), .admonition.predict, section, script";
  while (cell.nextElementSibling && !cell.nextElementSibling.matches(next)) {
    wrapper.append(cell.nextElementSibling);
  }
  cell.after(wrapper);
  return wrapper;
}

function gate(box, results, number) {
  box.querySelector(".bn-predict")?.remove(); // of a page that was saved
  box.nextElementSibling.querySelector(".bn-waiting")?.remove();
  const form = document.createElement("form");
  form.className = "bn-predict";
  form.append(question(box, number), button("submit", "Show the result"), button("button", "Show without an answer"));
  const said = document.createElement("p");
  said.setAttribute("role", "status");
  said.tabIndex = -1;
  form.append(said);
  box.append(form);

  const notice = document.createElement("p");
  notice.className = "bn-waiting";
  notice.textContent = "The result and its discussion show when you have made your prediction.";
  results[0].before(notice);
  results.forEach((result) => {
    result.classList.add("bn-result");
    result.setAttribute("hidden", HIDDEN);
  });

  function show(...text) {
    notice.remove();
    results.forEach((result) => result.removeAttribute("hidden"));
    form.querySelectorAll("button").forEach((element) => element.remove());
    form.querySelector("fieldset").disabled = true;
    said.replaceChildren(...text);
  }

  function showWhenLinked() {
    const target = linked();
    if (target && results.some((result) => result.hasAttribute("hidden") && result.contains(target))) {
      show();
      target.scrollIntoView();
    }
  }

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const answer = prediction(form);
    if (!answer.length) {
      said.textContent = "Make your prediction first.";
      return;
    }
    show("The result is below. You said: ", ...answer);
    said.focus(); // the button that had the focus is gone
  });
  form.querySelector("button[type=button]").addEventListener("click", () => {
    show("The result is below.");
    said.focus();
  });
  results.forEach((result) => result.addEventListener("beforematch", () => show()));
  addEventListener("hashchange", showWhenLinked);
  showWhenLinked();
}

// What the address points to within the page, if anything.
function linked() {
  try {
    return document.getElementById(decodeURIComponent(location.hash.slice(1)));
  } catch {
    return null; // a broken address
  }
}

// The choices of the box's list, which stays for print, or a line to write on.
function question(box, number) {
  const fieldset = document.createElement("fieldset");
  const legend = document.createElement("legend");
  legend.textContent = "Your prediction";
  fieldset.append(legend);
  const list = box.querySelector(":scope > ul:last-of-type");
  if (!list) {
    const line = document.createElement("input");
    line.type = "text";
    line.autocomplete = "off";
    line.setAttribute("aria-label", `Prediction ${number}`);
    fieldset.append(line);
    return fieldset;
  }
  [...list.children].forEach((item) => {
    const label = document.createElement("label");
    const choice = document.createElement("input");
    choice.type = "radio";
    choice.name = `predict-${number}`;
    const text = document.createElement("span");
    text.append(...copies(item.querySelector(":scope > p") ?? item));
    label.append(choice, text);
    fieldset.append(label);
  });
  list.hidden = true;
  return fieldset;
}

// What the reader has answered, as nodes and texts; empty if nothing.
function prediction(form) {
  const chosen = form.querySelector("input:checked");
  if (chosen) return copies(chosen.nextElementSibling);
  return [form.querySelector("input[type=text]")?.value.trim()].filter(Boolean);
}

function copies(element) {
  return [...element.cloneNode(true).childNodes];
}

function button(type, text) {
  const element = document.createElement("button");
  element.type = type;
  element.textContent = text;
  return element;
}
