"use strict";
(() => {
  const search = document.querySelector(".search");
  const field = search.querySelector("input");
  const count = search.querySelector("output");
  const entries = [...document.querySelectorAll(".entry")].map((element) => ({
    element, turn: element.closest(".turn"), text: element.textContent.toLowerCase(),
  }));
  const turns = [...document.querySelectorAll(".turn")];
  let opened = [];
  let timer;

  function show() {
    const wanted = field.value.trim().toLowerCase();
    for (const details of opened) details.open = false;
    opened = [];
    let found = 0;
    const visible = new Set();
    for (const { element, turn, text } of entries) {
      const hit = text.includes(wanted);
      element.hidden = !hit;
      if (!hit) continue;
      visible.add(turn);
      found += 1;
      const details = wanted && element.querySelector("details:not([open])");
      const folded = details && details.textContent.toLowerCase().includes(wanted);
      if (folded && opened.length < 50) {
        details.open = true;
        opened.push(details);
      }
    }
    for (const turn of turns) turn.hidden = wanted !== "" && !visible.has(turn);
    count.value = wanted ? `${found} of ${entries.length}` : "";
  }

  search.hidden = false;
  const given = new URLSearchParams(location.hash.slice(1)).get("search");
  if (given) {
    field.value = given;
    show();
  }
  field.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(show, 120);
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "/" && document.activeElement !== field) {
      event.preventDefault();
      field.focus();
    }
    if (event.key === "Escape" && field.value) {
      field.value = "";
      show();
    }
  });
})();
