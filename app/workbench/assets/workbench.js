// The workbench in the browser: nothing is loaded but from this server, and no text becomes markup here: markup comes
// escaped from the server's templates, everything else is put in as text.
(() => {
  "use strict";
  if (window.wetread) return;
  const ROOT = "/workbench";
  const AXIAL = 0;
  const SVG = "http://www.w3.org/2000/svg";
  const MOST_PLANES = 400; // kept in memory

  const make = (tag, classes = "", text = "") => {
    const made = document.createElement(tag);
    if (classes) made.className = classes;
    if (text) made.textContent = text;
    return made;
  };
  const clamp = (value, low, high) => Math.min(Math.max(value, low), high);
  const shares = (element, name, ids) => (element.dataset[name] || "").split(" ").some((id) => ids.includes(id));
  const isTyping = (target) => target.closest && target.closest("input, textarea, select, dialog, [role=tab]");
  const show = (view) => {
    document.body.dataset.view = view;
  };

  // ------------------------------------------------------------------------------------------------------- one image
  class Pane {
    constructor(viewer, title) {
      this.viewer = viewer;
      this.position = null;
      this.axis = AXIAL;
      this.index = 0;
      this.window = [0, 1];
      this.zoom = 1;
      this.pan = [0, 0];
      this.turn = 0; // of requests: a late answer for a plane that was left is dropped
      this.root = make("figure", "pane");
      const head = make("figcaption", "head");
      this.choice = make("select");
      this.choice.setAttribute("aria-label", `${title}: series`);
      this.planes = make("span", "choice");
      this.planes.setAttribute("role", "group");
      this.planes.setAttribute("aria-label", "Plane");
      this.title = make("strong", "", title);
      head.append(this.title, this.choice, this.planes);
      this.frame = make("div", "frame");
      this.frame.tabIndex = 0;
      this.frame.setAttribute("role", "img");
      this.stage = make("div", "stage");
      this.canvas = make("canvas");
      this.overlay = document.createElementNS(SVG, "svg");
      this.edges = make("div", "edges");
      this.notes = make("div", "notes");
      this.stage.append(this.canvas, this.overlay);
      this.frame.append(this.stage, this.edges, this.notes);
      this.slider = make("input", "slider");
      this.slider.type = "range";
      this.slider.min = "1";
      this.slider.setAttribute("aria-label", `${title}: slice`);
      this.root.append(head, this.frame, this.slider);
      this.choice.addEventListener("change", () => this.choose(Number(this.choice.value)));
      this.slider.addEventListener("input", () => this.go(Number(this.slider.value) - 1));
      this.frame.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
      this.frame.addEventListener("pointerdown", (event) => this.drag(event));
      this.frame.addEventListener("dblclick", () => this.reset());
      this.frame.addEventListener("keydown", (event) => this.key(event));
      this.overlay.addEventListener("click", (event) => {
        const shape = event.target.closest(".shape");
        if (shape) viewer.reading.pick(shape.dataset.target.split(" "));
      });
      new ResizeObserver(() => this.fit()).observe(this.frame);
    }

    get series() {
      return this.viewer.data.series[this.position];
    }

    get plane() {
      return this.series.planes[this.axis];
    }

    offer(positions) {
      this.choice.replaceChildren(
        ...positions.map((at) => {
          const each = this.viewer.data.series[at];
          const option = make("option", "", `${each.day} · ${each.label}`);
          option.value = String(at);
          return option;
        }),
      );
      this.choice.disabled = positions.length < 2;
    }

    choose(position, index = null) {
      const before = this.position === null ? null : this.series;
      this.position = position;
      this.choice.value = String(position);
      const series = this.series;
      if (!before || before.is_film !== series.is_film) this.preset(0);
      this.axis = AXIAL;
      this.planes.replaceChildren(
        ...(series.planes.length < 2 ? [] : ["Axial", "Coronal"]).map((name, axis) => {
          const button = make("button", "", name);
          button.type = "button";
          button.addEventListener("click", () => this.turnTo(axis));
          return button;
        }),
      );
      this.reset();
      this.go(index === null ? Math.floor(series.planes[AXIAL].count / 2) : index);
      this.viewer.changed(this);
    }

    turnTo(axis) {
      if (axis === this.axis) return;
      this.axis = axis;
      this.reset();
      this.go(Math.floor(this.plane.count / 2));
    }

    preset(number) {
      const preset = this.series.presets[number];
      if (preset) this.windowTo(preset[1], preset[2]);
    }

    windowTo(centre, width) {
      this.window = [centre, Math.max(width, 2)];
      this.draw();
      this.viewer.windowed(this);
    }

    go(index, follow = true) {
      this.index = clamp(index, 0, this.plane.count - 1);
      this.slider.max = String(this.plane.count);
      this.slider.value = String(this.index + 1);
      this.slider.hidden = this.plane.count < 2;
      [...this.planes.children].forEach((each, axis) => each.setAttribute("aria-pressed", String(axis === this.axis)));
      this.load();
      if (follow) this.viewer.moved(this);
    }

    async load() {
      const turn = ++this.turn;
      const plane = await this.viewer.values(this.position, this.axis, this.index);
      if (turn !== this.turn || !plane) return;
      this.values = plane;
      this.fit();
      this.draw();
      this.describe();
      const shapes = await this.viewer.shapes(this.position, this.axis, this.index);
      if (turn !== this.turn || shapes === null) return;
      this.overlay.setAttribute("viewBox", `0 0 ${this.plane.width} ${this.plane.height}`);
      this.overlay.innerHTML = shapes; // the server's template, escaped there
      this.light();
      this.root.dataset.ready = `${this.position}/${this.axis}/${this.index}`;
      for (const step of [1, -1, 2, -2]) {
        const next = this.index + step;
        if (next >= 0 && next < this.plane.count) this.viewer.values(this.position, this.axis, next);
      }
    }

    draw() {
      if (!this.values) return;
      const { values, rows, columns } = this.values;
      const [centre, width] = this.window;
      this.canvas.width = columns;
      this.canvas.height = rows;
      const image = new ImageData(columns, rows);
      const out = new Uint32Array(image.data.buffer);
      const scale = 255 / (width - 1);
      const shift = 127.5 - (centre - 0.5) * scale; // linear, DICOM PS3.3 C.11.2.1.2
      for (let at = 0; at < values.length; at += 1) {
        const grey = clamp(values[at] * scale + shift + 0.5, 0, 255) | 0;
        out[at] = 0xff000000 | (grey << 16) | (grey << 8) | grey;
      }
      this.canvas.getContext("2d").putImageData(image, 0, 0);
      this.describe();
    }

    describe() {
      const many = this.plane.count > 1;
      const [centre, width] = this.window.map(Math.round);
      const place = many ? `${this.axis === AXIAL ? "slice" : "row"} ${this.index + 1}/${this.plane.count}` : "";
      const unit = this.series.is_film ? "" : " HU";
      this.notes.textContent = [place, `C ${centre} W ${width}${unit}`].filter(Boolean).join(" · ");
      this.frame.setAttribute("aria-label", `${this.title.textContent}: ${this.series.label}, ${this.series.day}, ${place}`);
    }

    light() {
      const ids = this.viewer.lit;
      let any = false;
      this.overlay.querySelectorAll(".shape").forEach((each) => {
        const is = shares(each, "target", ids);
        each.classList.toggle("on", is);
        any = any || is;
      });
      this.overlay.classList.toggle("lighting", any);
    }

    fit() {
      if (this.position === null) return;
      const { width, height, edges } = this.plane;
      const room = this.frame.getBoundingClientRect();
      const scale = Math.min(room.width / width, room.height / height);
      Object.assign(this.stage.style, {
        width: `${width * scale}px`,
        height: `${height * scale}px`,
        transform: `translate(${this.pan[0]}px, ${this.pan[1]}px) scale(${this.zoom})`,
      });
      this.edges.replaceChildren(...["left", "right", "top", "bottom"].map((side, at) => make("span", side, edges[at])));
    }

    reset() {
      this.zoom = 1;
      this.pan = [0, 0];
      this.fit();
    }

    zoomBy(factor) {
      this.zoom = clamp(this.zoom * factor, 1, 12);
      if (this.zoom === 1) this.pan = [0, 0];
      this.fit();
    }

    wheel(event) {
      event.preventDefault();
      if (event.ctrlKey || this.plane.count < 2) this.zoomBy(event.deltaY < 0 ? 1.15 : 1 / 1.15);
      else this.go(this.index + Math.sign(event.deltaY));
    }

    drag(event) {
      if (event.button > 1) return;
      const [x, y] = [event.clientX, event.clientY];
      const [centre, width] = this.window;
      const [panX, panY] = this.pan;
      const isPan = event.shiftKey || event.button === 1;
      const pace = width / 400; // the wider the window, the coarser the step
      const move = (to) => {
        const [dx, dy] = [to.clientX - x, to.clientY - y];
        if (Math.hypot(dx, dy) < 4) return;
        if (isPan) {
          this.pan = [panX + dx, panY + dy];
          this.fit();
        } else this.windowTo(centre + dy * pace, width + dx * pace * 2);
      };
      const end = () => {
        window.removeEventListener("pointermove", move);
        window.removeEventListener("pointerup", end);
      };
      window.addEventListener("pointermove", move);
      window.addEventListener("pointerup", end);
    }

    key(event) {
      const steps = { ArrowUp: -1, ArrowDown: 1, ArrowLeft: -1, ArrowRight: 1, PageUp: -10, PageDown: 10 };
      if (event.key in steps) this.go(this.index + steps[event.key]);
      else if (event.key === "Home") this.go(0);
      else if (event.key === "End") this.go(this.plane.count - 1);
      else if (event.key === "+") this.zoomBy(1.25);
      else if (event.key === "-") this.zoomBy(0.8);
      else if (event.key === "0") this.reset();
      else return;
      event.preventDefault();
      event.stopPropagation();
    }
  }

  // ------------------------------------------------------------------------------------------------ the two of them
  class Viewer {
    constructor(root) {
      this.root = root;
      this.data = null;
      this.lit = [];
      this.kept = new Map();
      this.isLinked = true;
      this.tools = make("div", "tools");
      this.presets = make("span", "choice");
      this.presets.setAttribute("role", "group");
      this.presets.setAttribute("aria-label", "Window");
      this.panes = make("div", "panes");
      this.tools.append(this.presets, this.toggle("Regions", "bare", true, "r"), this.toggle("Labels", "labelled", false, "l"));
      this.link = this.button("Link", () => this.setLinked(!this.isLinked));
      this.link.title = "Move the prior with the current study";
      this.reset = this.button("Reset", () => this.both((pane) => (pane.reset(), pane.preset(0))));
      this.hint = make("span", "hint", "wheel or arrows: slices · drag: window · shift-drag: move · ctrl-wheel: zoom");
      this.tools.append(this.link, this.reset, this.hint);
      root.append(this.tools, this.panes);
      this.current = new Pane(this, "Current");
      this.prior = new Pane(this, "Prior");
      this.prior.root.classList.add("prior");
      this.panes.append(this.current.root, this.prior.root);
    }

    button(name, act) {
      const made = make("button", "", name);
      made.type = "button";
      made.addEventListener("click", act);
      return made;
    }

    toggle(name, css, inverted, key) {
      const made = this.button(name, () => {
        const on = made.getAttribute("aria-pressed") !== "true";
        made.setAttribute("aria-pressed", String(on));
        this.root.classList.toggle(css, inverted ? !on : on);
      });
      made.setAttribute("aria-pressed", String(inverted));
      made.dataset.shortcut = key;
      made.title = `Shortcut: ${key}`;
      return made;
    }

    both(act) {
      [this.current, this.prior].filter((pane) => pane.position !== null).forEach(act);
    }

    open(data) {
      this.data = data;
      this.kept.clear();
      this.lit = [];
      const own = [];
      const before = [];
      data.series.forEach((each, at) => (each.is_prior ? before : own).push(at));
      this.current.position = this.prior.position = null;
      this.anchor = null;
      this.current.offer(own);
      this.prior.offer(before);
      this.prior.root.hidden = before.length === 0;
      this.root.classList.toggle("alone", before.length === 0);
      this.link.hidden = before.length === 0;
      this.setLinked(true);
      this.current.choose(data.first[0], data.first[1]);
    }

    /** A pane shows another series: the prior shows what is best beside it. */
    changed(pane) {
      if (pane === this.current) {
        const partner = this.current.series.partner;
        if (partner !== null && this.prior.position !== partner) this.prior.choose(partner, this.beside(partner));
        this.presets.replaceChildren(
          ...this.current.series.presets.map(([name, centre, width], at) => {
            const made = this.button(name, () => this.both((each) => this.fits(each) && each.windowTo(centre, width)));
            made.dataset.window = `${centre}/${width}`;
            made.title = `Shortcut: ${at + 1}`;
            made.dataset.shortcut = String(at + 1);
            return made;
          }),
        );
        this.windowed(this.current);
      }
      this.anchor = null;
    }

    fits(pane) {
      return pane.series.is_film === this.current.series.is_film;
    }

    windowed(pane) {
      if (pane !== this.current) return;
      const now = this.current.window.join("/");
      [...this.presets.children].forEach((each) => each.setAttribute("aria-pressed", String(each.dataset.window === now)));
    }

    setLinked(is) {
      this.isLinked = is;
      this.link.setAttribute("aria-pressed", String(is));
      this.anchor = null;
    }

    /** The slice of a prior's series at the same height, by the lungs' extent or the whole stack's. */
    beside(position) {
      const [foot, head] = this.current.series.extent;
      const [priorFoot, priorHead] = this.data.series[position].extent;
      const part = head === foot ? 0.5 : (this.current.index - foot) / (head - foot);
      return Math.round(priorFoot + part * (priorHead - priorFoot));
    }

    moved(pane) {
      if (pane !== this.current || !this.isLinked || this.prior.position === null) return;
      if (pane.axis !== AXIAL || this.prior.axis !== AXIAL || !this.fits(this.prior)) return;
      const shift = this.anchor === null ? 0 : this.anchor;
      this.prior.go(this.beside(this.prior.position) + shift, false);
    }

    /** Light what these ids are drawn as; with `follow`, show where it is seen best, in both panes. */
    light(ids, follow) {
      this.lit = ids;
      if (follow) {
        const best = (isPrior) => {
          const found = ids.flatMap((id) => this.data.places[id] || []);
          const fit = found.filter(([at]) => this.data.series[at].is_prior === isPrior);
          return fit.find(([, , isOrgan]) => !isOrgan) || fit[0];
        };
        const [now, before] = [best(false), best(true)];
        if (now) this.bring(this.current, now);
        if (before) {
          this.bring(this.prior, before);
          this.anchor = this.prior.index - this.beside(this.prior.position); // from here on they move together
        }
      }
      this.both((pane) => pane.light());
    }

    bring(pane, [position, index]) {
      if (pane.position !== position) pane.choose(position, index);
      else {
        pane.axis = AXIAL;
        pane.go(index, pane === this.current);
      }
    }

    async fetched(position, axis, index, what, read) {
      const address = `${ROOT}/studies/${this.data.key}/series/${position}/${axis}/${index}/${what}`;
      if (!this.kept.has(address)) {
        if (this.kept.size >= 2 * MOST_PLANES) this.kept.delete(this.kept.keys().next().value);
        this.kept.set(
          address,
          fetch(address)
            .then((answer) => {
              if (!answer.ok) throw new Error(`status ${answer.status}`);
              return read(answer);
            })
            .catch(() => {
              this.kept.delete(address);
              this.say("An image could not be loaded. If your log-in has ended, load the page again.");
              return null;
            }),
        );
      }
      return this.kept.get(address);
    }

    values(position, axis, index) {
      return this.fetched(position, axis, index, "pixels", async (answer) => ({
        rows: Number(answer.headers.get("X-Rows")),
        columns: Number(answer.headers.get("X-Columns")),
        values: new Int16Array(await answer.arrayBuffer()),
      }));
    }

    shapes(position, axis, index) {
      return this.fetched(position, axis, index, "shapes", (answer) => answer.text());
    }
  }

  // ------------------------------------------------------------------------------------------------------ the report
  class Reading {
    constructor(root, viewer, act) {
      this.root = root;
      this.viewer = viewer;
      this.act = act;
      this.picked = null;
      root.addEventListener("click", (event) => this.click(event));
      root.addEventListener("keydown", (event) => this.key(event));
      root.addEventListener("mouseover", (event) => this.hover(event));
      root.addEventListener("mouseleave", () => viewer.data && viewer.light(this.ids(this.picked), false));
      root.addEventListener("input", (event) => {
        this.isChanged = true;
        if (event.target.matches("textarea")) this.grow(event.target);
      });
      root.addEventListener("submit", (event) => event.preventDefault());
    }

    get report() {
      return this.root.querySelector(".report");
    }

    open(html, isChanged = false) {
      const tab = this.root.querySelector("[role=tab][aria-selected=true]");
      this.root.innerHTML = html; // the server's template, escaped there
      this.picked = null;
      this.isChanged = isChanged;
      this.viewer.light([], false);
      this.root.querySelectorAll("textarea").forEach((each) => this.grow(each));
      if (tab && this.report.dataset.mode === "view") this.select(this.root.querySelector(`#${tab.id}`), false);
    }

    ids(source) {
      return source ? source.dataset.lights.split(" ") : [];
    }

    grow(area) {
      area.style.height = "auto";
      area.style.height = `${area.scrollHeight + 2}px`;
    }

    hover(event) {
      const source = event.target.closest("[data-lights]");
      this.viewer.light(this.ids(source || this.picked), false);
    }

    click(event) {
      const tab = event.target.closest("[role=tab]");
      const act = event.target.closest("[data-act]");
      const chip = event.target.closest(".sentence .reference");
      const source = event.target.closest("[data-lights]");
      if (tab) this.select(tab);
      else if (act) this.do(act);
      else if (event.target.closest("a, .cited, summary")) return;
      else if (chip && chip.textContent.startsWith("e")) this.cite(chip.textContent);
      else if (source) this.pin(this.picked === source ? null : source);
    }

    key(event) {
      const source = event.target.closest("[data-lights]");
      if (source && event.target === source && (event.key === "Enter" || event.key === " ")) {
        event.preventDefault();
        this.pin(this.picked === source ? null : source);
      } else if (event.key === "Escape" && !event.target.closest("dialog")) this.pin(null);
      const tabs = [...this.root.querySelectorAll("[role=tab]")];
      const at = tabs.indexOf(event.target);
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (at >= 0 && step) {
        const next = tabs[(at + step + tabs.length) % tabs.length];
        this.select(next);
        next.focus();
      }
    }

    /** A sentence or finding is chosen: its regions are lit and brought into view, its citations opened beneath it. */
    pin(source) {
      this.picked = source;
      this.root.querySelectorAll("[data-lights]").forEach((each) => {
        each.classList.toggle("lit", each === source);
        each.setAttribute("aria-pressed", String(each === source));
      });
      this.root.querySelectorAll(".cited").forEach((each) => each.remove());
      const ids = this.ids(source);
      this.viewer.light(ids, source !== null);
      if (source && source.matches(".sentence")) {
        this.root.querySelectorAll("details.citation").forEach((each) => {
          if (!shares(each, "target", ids)) return;
          const cited = make("div", "cited");
          cited.append(...[...each.cloneNode(true).children].filter((child) => !child.matches("summary")));
          source.append(cited);
        });
      }
    }

    /** A shape was clicked: the first sentence that speaks of it. */
    pick(ids) {
      const found = [...this.root.querySelectorAll(".sentence")].find((each) => shares(each, "lights", ids));
      if (!found) return;
      this.select(this.root.querySelector("#tab-report"));
      this.pin(found);
      found.scrollIntoView({ block: "nearest" });
    }

    cite(id) {
      this.select(this.root.querySelector("#tab-literature"));
      this.root.querySelectorAll("details.citation").forEach((each) => {
        each.open = each.dataset.target === id;
        if (each.open) each.scrollIntoView({ block: "nearest" });
      });
    }

    select(tab, focus = true) {
      this.root.querySelectorAll("[role=tab]").forEach((each) => {
        const is = each === tab;
        each.setAttribute("aria-selected", String(is));
        each.tabIndex = is ? 0 : -1;
        this.root.querySelector(`#${each.getAttribute("aria-controls")}`).hidden = !is;
      });
      if (tab.id === "tab-files") this.files();
    }

    async files() {
      const list = this.root.querySelector(".files");
      if (list.children.length) return;
      list.append(make("li", "quiet", "Making the files…"));
      const answer = await fetch(list.dataset.from);
      const found = answer.ok ? await answer.json() : [];
      const line = (each) => {
        const item = make("li");
        const link = make("a", "", each.name);
        link.href = `${list.dataset.from}/${each.name}`;
        link.download = each.name;
        item.append(link, make("span", "quiet", ` ${Math.max(1, Math.round(each.bytes / 1024))} kB`));
        return item;
      };
      list.replaceChildren(...(answer.ok ? found.map(line) : [make("li", "doubt", "The files cannot be made now.")]));
    }

    do(button) {
      const { act } = button.dataset;
      const dialog = this.root.querySelector("dialog");
      if (act === "ask-sign") dialog.showModal();
      else if (act === "close") dialog.close();
      else if (act === "remove") this.remove(button);
      else if (act === "add") this.add(button);
      else if (act === "cancel" && this.isChanged && !window.confirm("Leave the editor? What you changed is lost.")) return;
      else {
        if (dialog && dialog.open) dialog.close();
        this.send(act, button);
      }
    }

    remove(button) {
      const row = button.closest(".row");
      this.isChanged = true;
      if (row.dataset.position === "") row.remove();
      else button.setAttribute("aria-pressed", String(row.classList.toggle("removed")));
    }

    add(button) {
      const part = button.closest(".part");
      const row = make("div", "row");
      row.dataset.position = "";
      const area = make("textarea");
      area.rows = 1;
      area.maxLength = 2000;
      area.setAttribute("aria-label", `${part.querySelector("h2").textContent}, new sentence`);
      const remove = make("button", "", "Remove");
      remove.type = "button";
      remove.dataset.act = "remove";
      row.append(area, remove);
      part.insertBefore(row, button);
      area.focus();
      this.isChanged = true;
    }

    send(act, button) {
      const { key, number } = this.report.dataset;
      const sent = { act, key, number: Number(button.dataset.version || number), lines: [] };
      if (act === "check" || act === "save") {
        sent.lines = [...this.root.querySelectorAll(".row")].map((row) => ({
          position: row.dataset.position === "" ? null : Number(row.dataset.position),
          section: row.closest(".part").dataset.section,
          text: row.querySelector("textarea").value,
          removed: row.classList.contains("removed"),
        }));
      }
      this.act(sent);
    }
  }

  // ------------------------------------------------------------------------------------------------------- the views
  window.wetread = {
    act: null, // of the study's view, for the list

    study(element, props, trigger, watch) {
      element.classList.add("study");
      const [strip, said] = [element.querySelector(".strip"), element.querySelector(".said")];
      const say = (sentence) => {
        said.textContent = sentence;
        said.hidden = !sentence;
      };
      const act = (sent) => {
        say("");
        element.classList.add("busy");
        trigger("act", sent);
      };
      const viewer = new Viewer(element.querySelector(".viewer"));
      const reading = new Reading(element.querySelector(".reading"), viewer, act);
      viewer.reading = reading;
      viewer.say = say;
      window.wetread.act = act;
      const leave = () => {
        if (reading.isChanged && !window.confirm("Leave the editor? What you changed is lost.")) return;
        reading.isChanged = false;
        history.pushState(null, "", location.pathname);
        show("list");
      };
      strip.addEventListener("click", (event) => event.target.closest("[data-act=back]") && leave());
      const update = () => {
        element.classList.remove("busy");
        if (!props.value) return;
        const sent = JSON.parse(props.value);
        if (sent.viewer) {
          show("study"); // before the images are fitted into it
          viewer.open(sent.viewer);
          if (location.hash !== `#${sent.viewer.key}`) history.pushState(null, "", `#${sent.viewer.key}`);
        }
        if (sent.strip) strip.innerHTML = sent.strip;
        if (sent.reading) reading.open(sent.reading, sent.changed === true);
        say(sent.said || "");
        if (sent.said && document.body.dataset.view !== "study") window.wetread.tell(sent.said);
      };
      watch("value", update);
      update();
      const byAddress = () => {
        const key = location.hash.slice(1);
        if (/^[0-9a-f]{32}$/.test(key)) act({ act: "open", key, number: 1, lines: [] });
        else show("list");
      };
      window.addEventListener("popstate", byAddress);
      window.addEventListener("beforeunload", (event) => reading.isChanged && event.preventDefault());
      document.addEventListener("keydown", (event) => {
        if (document.body.dataset.view !== "study" || isTyping(event.target) || event.ctrlKey || event.altKey || event.metaKey) return;
        const button = viewer.tools.querySelector(`[data-shortcut="${CSS.escape(event.key)}"]`);
        if (button) button.click();
        else if (!event.target.closest(".reading, button")) viewer.current.key(event);
      });
      byAddress();
    },

    list(element, props, watch) {
      const open = (row) => row && window.wetread.act && window.wetread.act({ act: "open", key: row.dataset.key, number: 1, lines: [] });
      const update = () => {
        const focused = element.contains(document.activeElement) ? document.activeElement.dataset.key : null;
        element.querySelector(".rows").innerHTML = props.value || ""; // the server's template, escaped there
        if (focused) element.querySelector(`tr[data-key="${CSS.escape(focused)}"]`)?.focus();
      };
      element.addEventListener("click", (event) => open(event.target.closest("tr[role=button]")));
      element.addEventListener("keydown", (event) => {
        const row = event.target.closest("tr[role=button]");
        if (row && (event.key === "Enter" || event.key === " ")) {
          event.preventDefault();
          open(row);
        }
      });
      window.wetread.tell = (sentence) => {
        element.querySelector(".said").textContent = sentence;
      };
      watch("value", update);
      update();
    },

    arrivals(element, props, watch) {
      let opened = null;
      const update = () => {
        const sent = props.value ? JSON.parse(props.value) : { html: "", open: null };
        element.querySelector(".slot").innerHTML = sent.html; // the server's template, escaped there
        if (sent.open && sent.open !== opened && document.body.dataset.view !== "study") {
          opened = sent.open;
          window.wetread.act({ act: "open", key: sent.open, number: 1, lines: [] });
        }
      };
      watch("value", update);
      update();
    },
  };
})();
