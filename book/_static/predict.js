// Predict boxes: the reader commits to an answer, then the output of the next cell shows, and the
// text below it that discusses it. Without this script nothing waits.
document.addEventListener("DOMContentLoaded", () => {
  document.querySelectorAll(".admonition.predict").forEach((box, index) => {
    const cell = box.nextElementSibling;
    const output = cell?.querySelector(".cell_output");
    if (output) gate(box, [output, discussion(cell)], index + 1);
  });
});

// Where browsers know "until-found", a search within the page still leads to what is hidden.
const HIDDEN = "onbeforematch" in document.documentElement ? "until-found" : "";

// What stands between a cell and the next cell, box or section, moved into an element of its own.
function discussion(cell) {
  const wrapper = document.createElement("div");
  while (cell.nextElementSibling && !cell.nextElementSibling.matches(".cell, .admonition, section, script")) {
    wrapper.append(cell.nextElementSibling);
  }
  cell.after(wrapper);
  return wrapper;
}

function gate(box, results, number) {
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
  results.forEach((result) => result.setAttribute("hidden", HIDDEN));

  function show(text) {
    notice.remove();
    results.forEach((result) => result.removeAttribute("hidden"));
    form.querySelectorAll("button").forEach((element) => element.remove());
    form.querySelector("fieldset").disabled = true;
    said.textContent = text;
  }

  function showWhenLinked() {
    const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (target && results.some((result) => result.hidden && result.contains(target))) {
      show("");
      target.scrollIntoView();
    }
  }

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const answer = prediction(form);
    if (!answer) {
      said.textContent = "Make your prediction first.";
      return;
    }
    show(`You said: ${answer} The result is below.`);
    said.focus(); // the button that had the focus is gone
  });
  form.querySelector("button[type=button]").addEventListener("click", () => {
    show("The result is below.");
    said.focus();
  });
  results.forEach((result) => result.addEventListener("beforematch", () => show("")));
  addEventListener("hashchange", showWhenLinked);
  showWhenLinked();
}

// The choices of the box's list, or a line to write on.
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
    text.append(...(item.querySelector(":scope > p") ?? item).childNodes);
    label.append(choice, text);
    fieldset.append(label);
  });
  list.remove();
  return fieldset;
}

function prediction(form) {
  const chosen = form.querySelector("input:checked");
  const text = chosen ? spoken(chosen.nextElementSibling) : form.querySelector("input[type=text]")?.value.trim();
  return text && text.replace(/[.\s]*$/, ".");
}

// A label's text; of a formula, which the page holds twice, only what the eye sees.
function spoken(label) {
  const copy = label.cloneNode(true);
  copy.querySelectorAll(".katex-mathml").forEach((element) => element.remove());
  return copy.textContent.trim();
}

function button(type, text) {
  const element = document.createElement("button");
  element.type = type;
  element.textContent = text;
  return element;
}
