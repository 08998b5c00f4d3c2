// The ballot of the claims lab: predictions that are kept, and verdicts that wait for them. Runs once per element,
// however often it is loaded. The caller gives the key of the store and the words of the verdicts.
((key, verdicts) => {
  // By claim, for all outputs of a page: the prediction, or "" if the verdict was shown without one.
  const known = (window.bnPredictions ??= stored());

  function stored() {
    try {
      const entries = Object.entries(JSON.parse(localStorage.getItem(key)) ?? {});
      return new Map(entries.filter(([, word]) => word === "" || verdicts.includes(word)));
    } catch {
      return new Map(); // not allowed, or not ours
    }
  }

  function changed() {
    try {
      localStorage.setItem(key, JSON.stringify(Object.fromEntries(known)));
    } catch {
      // not allowed: it lasts as long as the page
    }
    document.dispatchEvent(new Event(key));
  }

  function start(selector, begin) {
    document.querySelectorAll(selector).forEach((element) => {
      if (element.started) return; // no attribute: a page that was saved starts anew
      element.started = true;
      const show = begin(element);
      document.addEventListener(key, show);
      show();
    });
  }

  function check(fields, word) {
    fields.querySelectorAll("input").forEach((choice) => (choice.checked = choice.value === word));
  }

  start(".bn-ballot", (ballot) => {
    const [form, said, startOver] = ["form", "[role=status]", "button"].map((name) => ballot.querySelector(name));
    const claims = [...ballot.querySelectorAll("fieldset")];
    form.addEventListener("submit", (event) => event.preventDefault());
    form.addEventListener("change", ({ target }) => {
      known.set(target.closest("fieldset").dataset.claim, target.value);
      changed();
    });
    startOver.addEventListener("click", () => {
      known.clear();
      changed();
    });
    startOver.hidden = false;
    return () => {
      claims.forEach((fields) => check(fields, known.get(fields.dataset.claim)));
      const predicted = claims.filter((fields) => known.get(fields.dataset.claim));
      const text = `${predicted.length} of ${claims.length} predicted.`;
      if (said.textContent !== text) said.textContent = text; // said again only when it changes
    };
  });

  start(".bn-trial", (trial) => {
    const claim = trial.dataset.claim;
    const names = ["form", "[role=status]", ".bn-outcome", ".bn-yours"];
    const [form, said, outcome, yours] = names.map((name) => trial.querySelector(name));

    // Only here is the verdict said aloud: it moves to where screen readers listen. A prediction on the ballot
    // shows it silently.
    function show(word) {
      known.set(claim, word);
      changed();
      said.replaceChildren(outcome);
      outcome.focus(); // the button that had the focus is gone
    }

    form.addEventListener("submit", (event) => {
      event.preventDefault();
      const choice = form.querySelector("input:checked");
      if (choice) show(choice.value);
      else said.textContent = "Choose your prediction first.";
    });
    form.querySelector("button[type=button]").addEventListener("click", () => show(""));
    return () => {
      const word = known.get(claim);
      const waits = word === undefined;
      trial.append(outcome);
      said.replaceChildren();
      if (form.hidden) check(form); // it may show again, and then starts anew
      form.hidden = !waits;
      outcome.hidden = waits;
      yours.textContent = waits ? "" : word ? `Your prediction: ${word}.` : "You made no prediction.";
    };
  });

  start(".bn-ledger", (ledger) => {
    const rows = [...ledger.querySelectorAll("tbody tr")];
    const [score, showAll] = [".bn-score", "button"].map((name) => ledger.querySelector(name));
    const prediction = (row) => known.get(row.dataset.claim);
    showAll.addEventListener("click", () => {
      rows.filter((row) => prediction(row) === undefined).forEach((row) => known.set(row.dataset.claim, ""));
      changed();
      score.focus(); // the button that had the focus is gone
    });
    return () => {
      rows.forEach((row) => {
        const waits = prediction(row) === undefined;
        row.querySelector(".bn-yours").textContent = prediction(row) || "none";
        row.querySelector(".bn-outcome").hidden = waits;
        row.querySelector(".bn-waiting").hidden = !waits;
      });
      const predicted = rows.filter(prediction);
      const right = predicted.filter((row) => prediction(row) === row.dataset.verdict);
      score.textContent = predicted.length
        ? `You were right about ${right.length} of ${predicted.length}.`
        : "You have made no prediction.";
      showAll.hidden = rows.every((row) => prediction(row) !== undefined);
    };
  });
})
