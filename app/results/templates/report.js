(() => {
  "use strict";
  const body = document.body;
  const sources = [...document.querySelectorAll("[data-lights]")];
  const targets = [...document.querySelectorAll("[data-target]")];
  const figures = [...document.querySelectorAll("figure")];
  let pinned = null;

  const idsOf = (source) => (source ? source.dataset.lights.split(" ") : []);
  const shares = (mine, ids) => mine.split(" ").some((id) => ids.includes(id));

  function light(source, follow) {
    const ids = idsOf(source);
    targets.forEach((each) => each.classList.toggle("on", shares(each.dataset.target, ids)));
    sources.forEach((each) => each.classList.toggle("lit", each === source));
    const lit = figures.filter((each) => {
      const has = each.querySelector(".shape.on") !== null;
      each.classList.toggle("lit", has);
      return has;
    });
    body.classList.toggle("lighting", lit.length > 0);
    if (follow && lit.length) lit[0].scrollIntoView({ block: "nearest", behavior: "smooth" });
  }

  function pin(source) {
    pinned = pinned === source ? null : source;
    sources.forEach((each) => each.hasAttribute("aria-pressed") && each.setAttribute("aria-pressed", String(each === pinned)));
    light(pinned, true);
    if (pinned) {
      const ids = idsOf(pinned);
      document.querySelectorAll("details[data-target]").forEach((each) => {
        if (ids.includes(each.dataset.target)) each.open = true;
      });
    }
  }

  sources.forEach((source) => {
    source.addEventListener("mouseenter", () => light(source, false));
    source.addEventListener("mouseleave", () => light(pinned, false));
    source.addEventListener("focus", () => light(source, true));
    source.addEventListener("blur", () => light(pinned, false));
    source.addEventListener("click", () => pin(source));
    source.addEventListener("keydown", (event) => {
      if (event.key === "Enter" || event.key === " ") { event.preventDefault(); pin(source); }
      if (event.key === "Escape") { pinned = source; pin(source); }
    });
  });

  document.querySelectorAll(".shape").forEach((shape) => {
    shape.addEventListener("click", () => {
      const source = sources.find((each) => shares(shape.dataset.target, idsOf(each)));
      if (source) { pin(source); source.scrollIntoView({ block: "nearest", behavior: "smooth" }); }
    });
  });

  document.querySelectorAll(".choice button").forEach((button) => {
    button.addEventListener("click", () => {
      document.querySelectorAll(".choice button").forEach((each) => each.setAttribute("aria-pressed", String(each === button)));
      document.querySelectorAll("image[data-window]").forEach((image) => {
        const alone = image.parentNode.querySelectorAll("image").length === 1;
        image.classList.toggle("hidden", !alone && image.dataset.window !== button.dataset.window);
      });
    });
  });

  const toggle = (id, name, inverted) => {
    const button = document.getElementById(id);
    if (!button) return;
    button.addEventListener("click", () => {
      const on = button.getAttribute("aria-pressed") !== "true";
      button.setAttribute("aria-pressed", String(on));
      body.classList.toggle(name, inverted ? !on : on);
    });
  };
  toggle("regions", "bare", true);
  toggle("labels", "labelled", false);
})();
