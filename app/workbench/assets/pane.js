// One image: its pixels in a window, what is drawn over them, and how it is moved with mouse and keys.
// Nothing is loaded but from this server, and no text becomes markup here: markup comes escaped from the server's
// templates, everything else is put in as text.
(() => {
  "use strict";
  const AXIAL = 0;
  const LETTER_PX = 15; // of labels, however large the image is shown
  const SVG = "http://www.w3.org/2000/svg";
  const make = (tag, classes = "", text = "") => {
    const made = document.createElement(tag);
    if (classes) made.className = classes;
    if (text) made.textContent = text;
    return made;
  };
  const clamp = (value, low, high) => Math.min(Math.max(value, low), high);
  const shares = (element, name, ids) => (element.dataset[name] || "").split(" ").some((id) => ids.includes(id));

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
      this.overlay.style.setProperty("--letter", `${LETTER_PX / (scale * this.zoom)}px`);
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
      else {
        // A notch of a mouse wheel is one slice; a touch pad sends many small steps, which are added up.
        this.rolled = Math.abs(event.deltaY) >= 50 ? event.deltaY : (this.rolled || 0) + event.deltaY;
        if (Math.abs(this.rolled) < 30) return;
        this.go(this.index + Math.sign(this.rolled));
        this.rolled = 0;
      }
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

  window.wetread = { ...window.wetread, Pane, make, shares, AXIAL, ROOT: "/workbench" };
})();
