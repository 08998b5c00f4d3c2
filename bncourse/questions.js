// Questions that answer. Runs once per question, however often it is loaded.
document.querySelectorAll(".bn-question").forEach((form) => {
  if (form.started) return; // no attribute: a page that was saved starts anew
  form.started = true;
  const choices = [...form.querySelectorAll("input")];
  const explanations = [...form.querySelectorAll("li")];
  const verdict = form.querySelector(".bn-verdict");

  function say(text, explanation, state) {
    verdict.dataset.state = state;
    verdict.innerHTML = `<strong>${text}</strong> ${explanation}`;
  }

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const chosen = explanations[choices.findIndex((choice) => choice.checked)];
    if (!chosen) return say("Choose an answer first.", "", "open");
    const right = chosen.dataset.right === "true";
    say(right ? "Right." : "Not so.", chosen.querySelector(".bn-why").innerHTML, right ? "right" : "wrong");
  });
  // What was said belongs to the answer that was checked.
  form.addEventListener("change", () => verdict.replaceChildren());

  form.querySelector("button").hidden = false;
  form.querySelector("details").hidden = true;
});
