// The two views, the list and the study, and how they are joined to Gradio's parts of the page.
(() => {
  "use strict";
  const IDLE_MS = 30 * 60 * 1000; // without a hand on mouse or keyboard
  const PROBE_MS = 4000;
  const isTyping = (target) => target.closest && target.closest("input, textarea, select, dialog, [role=tab]");
  const show = (view) => {
    document.body.dataset.view = view;
  };

  Object.assign(window.wetread, {
    act: null, // of the study's view, for the list

    study(element, props, trigger, watch) {
      element.classList.add("study");
      const [strip, said] = [element.querySelector(".strip"), element.querySelector(".said")];
      const say = (sentence) => {
        said.textContent = sentence;
        said.hidden = !sentence;
      };
      // An answer that does not come may mean that the log-in has ended: what is on the screen stays there.
      const probe = async () => {
        if (!element.classList.contains("busy")) return;
        const answer = await fetch("/workbench/own/views.js").catch(() => null);
        if (answer && answer.ok) window.setTimeout(probe, PROBE_MS);
        else {
          element.classList.remove("busy");
          say(answer ? "Your log-in has ended. Log in again in another tab, then repeat this." : "The server does not answer.");
        }
      };
      const act = (sent) => {
        if (sent.act === "open" && reading.isChanged && !window.confirm("Leave the editor? What you changed is lost.")) return;
        say("");
        window.setTimeout(probe, PROBE_MS);
        element.classList.add("busy");
        trigger("act", sent);
      };
      const viewer = new window.wetread.Viewer(element.querySelector(".viewer"));
      const reading = new window.wetread.Reading(element.querySelector(".reading"), viewer, act);
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
        else if (sent.places) viewer.renewed(sent.places);
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
      let touched = Date.now();
      ["pointermove", "pointerdown", "keydown", "wheel"].forEach((each) =>
        window.addEventListener(each, () => (touched = Date.now()), { passive: true }),
      );
      // An editor with unsaved text keeps the log-in, until the session ends by itself.
      window.setInterval(() => {
        if (Date.now() - touched > IDLE_MS && !reading.isChanged) document.querySelector("#bar form")?.requestSubmit();
      }, 15000);
    },

    list(element, props, watch) {
      const open = (row) => row && window.wetread.act && window.wetread.act({ act: "open", key: row.dataset.key, number: 1, lines: [] });
      const search = element.querySelector(".filter");
      const filter = () => {
        const words = search.value.toLowerCase().split(" ");
        element.querySelectorAll("tr[data-key]").forEach((row) => {
          row.hidden = !words.every((word) => row.textContent.toLowerCase().includes(word));
        });
      };
      search.addEventListener("input", filter);
      const update = () => {
        const focused = element.contains(document.activeElement) ? document.activeElement.closest("tr")?.dataset.key : null;
        element.querySelector(".rows").innerHTML = props.value || ""; // the server's template, escaped there
        filter();
        if (focused) element.querySelector(`tr[data-key="${CSS.escape(focused)}"] button`)?.focus();
      };
      element.addEventListener("click", (event) => open(event.target.closest("tr.openable")));
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
  });
})();
