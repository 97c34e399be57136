// The report: sentences that light what they rest on, tabs, the editor, signing.
// Nothing is loaded but from this server, and no text becomes markup here: markup comes escaped from the server's
// templates, everything else is put in as text.
(() => {
  "use strict";
  const { make, shares } = window.wetread;

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
      const way = { ArrowDown: 1, ArrowUp: -1 }[event.key];
      if (source && event.target === source && way) {
        const all = [...source.closest("[role=tabpanel]").querySelectorAll("[data-lights]")];
        const next = all[all.indexOf(source) + way];
        if (next) {
          event.preventDefault();
          next.focus();
          this.pin(next);
        }
      }
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
          source.after(cited);
        });
        source.scrollIntoView({ block: "nearest" });
        this.root.querySelector(".cited")?.scrollIntoView({ block: "nearest" });
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
        item.append(link, make("span", "quiet", `${each.what} · ${Math.max(1, Math.round(each.bytes / 1024))} kB`));
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
      else {
        const is = row.classList.toggle("removed");
        button.setAttribute("aria-pressed", String(is));
        button.textContent = is ? "Restore" : "Remove";
      }
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

  window.wetread.Reading = Reading;
})();
