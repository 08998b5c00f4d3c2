// Sliders that choose among stored pictures. Runs once per figure, however often it is loaded.
document.querySelectorAll(".bn-explore").forEach((figure) => {
  if (figure.started) return; // no attribute: a page that was saved starts anew
  figure.started = true;
  const { texts, lines, frames, sentences } = JSON.parse(figure.querySelector("script").textContent);
  const sliders = [...figure.querySelectorAll("input")];
  const chosen = () => sliders.reduce((frame, slider, i) => frame * texts[i].length + Number(slider.value), 0);
  let shown = chosen();

  function show() {
    if (chosen() === shown) return;
    shown = chosen();
    const picture = document.createElement("template");
    picture.innerHTML = frames[shown].map((line) => lines[line]).join("\n");
    // Only the drawing changes: the box around it may be scrolled, and the page's scripts watch it.
    figure.querySelector("svg").replaceWith(picture.content.querySelector("svg"));
    figure.querySelector(".bn-sentence").textContent = sentences[shown];
    sliders.forEach((slider, i) => {
      const text = texts[i][slider.value];
      slider.setAttribute("aria-valuetext", text);
      slider.nextElementSibling.textContent = text;
    });
  }

  sliders.forEach((slider) => slider.addEventListener("input", show));
  addEventListener("pageshow", show); // a browser that goes back restores the sliders, after this script
  figure.querySelector(".bn-sliders").hidden = false;
});
