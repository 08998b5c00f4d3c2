// Predict boxes: the reader commits to an answer, then the output of the next cell shows.
// Without this script a box is a question, and the output stands below it.
document.addEventListener("DOMContentLoaded", () => {
  document.querySelectorAll(".admonition.predict").forEach((box, index) => {
    const output = box.nextElementSibling?.querySelector(".cell_output");
    if (output) gate(box, output, index + 1);
  });
});

function gate(box, output, number) {
  const form = document.createElement("form");
  form.className = "bn-predict";
  form.append(question(box, number), button("submit", "Show the result"), button("button", "Show without an answer"));
  const said = document.createElement("p");
  said.setAttribute("role", "status");
  form.append(said);
  box.append(form);

  const notice = document.createElement("p");
  notice.className = "bn-waiting";
  notice.textContent = "The result shows when you have made your prediction.";
  output.before(notice);
  output.hidden = true;

  function show(text) {
    notice.remove();
    output.hidden = false;
    form.querySelectorAll("button").forEach((element) => element.remove());
    form.querySelector("fieldset").disabled = true;
    said.textContent = text;
  }

  function showWhenLinked() {
    const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (target && output.contains(target) && output.hidden) {
      show("");
      target.scrollIntoView();
    }
  }

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const answer = prediction(form);
    if (!answer) said.textContent = "Make your prediction first.";
    else show(`You said: ${answer} The result is below.`);
  });
  form.querySelector("button[type=button]").addEventListener("click", () => show("The result is below."));
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
