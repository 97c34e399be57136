// The current image and the prior beside it: windows, slices that move together, and going to what a sentence names.
(() => {
  "use strict";
  const { Pane, make, AXIAL, ROOT } = window.wetread;
  const MOST_PLANES = 400; // kept in memory

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
      this.single = this.toggle("Prior", "single", true, "p");
      this.single.addEventListener("click", () => this.both((pane) => pane.fit()));
      this.tools.append(this.toggle("Invert", "inverted", false, "i"), this.single, this.link, this.reset, this.hint);
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
      this.single.hidden = before.length === 0;
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
        this.link.hidden = partner === null || this.current.series.is_film || !this.fits(this.prior);
      }
      this.anchor = null;
    }

    /** The report has a new version: sentences may have moved, and with them the ids of their own regions. */
    renewed(places) {
      this.data.places = places;
      [...this.kept.keys()].filter((each) => each.endsWith("/shapes")).forEach((each) => this.kept.delete(each));
      this.both((pane) => pane.load());
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

  window.wetread.Viewer = Viewer;
})();
