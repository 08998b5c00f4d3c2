// Sliders that choose among stored pictures. Runs once per figure, however often it is loaded.
document.querySelectorAll(".bn-explore:not([data-ready])").forEach((figure) => {
  figure.dataset.ready = "";
  const { texts, lines, frames, sentences } = JSON.parse(figure.querySelector("script").textContent);
  const sliders = [...figure.querySelectorAll("input")];

  function show() {
    const frame = sliders.reduce((index, slider, i) => index * texts[i].length + Number(slider.value), 0);
    figure.querySelector(".bn-picture").innerHTML = frames[frame].map((line) => lines[line]).join("\n");
    figure.querySelector(".bn-sentence").textContent = sentences[frame];
    sliders.forEach((slider, i) => {
      const text = texts[i][slider.value];
      slider.setAttribute("aria-valuetext", text);
      slider.nextElementSibling.textContent = text;
    });
  }

  sliders.forEach((slider) => slider.addEventListener("input", show));
  figure.querySelector(".bn-sliders").hidden = false;
  // Browsers restore the sliders of a page that was visited before.
  if (sliders.some((slider) => slider.value !== slider.defaultValue)) show();
});
