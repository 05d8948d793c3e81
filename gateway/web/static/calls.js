// Keeps the page up to date: listens to /api/v1/live and fetches the fragments that changed. Texts of callers are never
// put together here: the server renders and escapes every call.
"use strict";
(() => {
  const STALE_MS = 12_000; // two heartbeats and a little
  const LIVE_PAUSE_MS = 200; // at most five refreshes of the live part a second, however many calls come
  const RECENT_PAUSE_MS = 1_000;
  const BEHIND_SECONDS = 5;
  const HEALTH_MS = 15_000; // what the node complains of may change without a call
  const FIGURES_MS = 300_000; // and today becomes yesterday

  const live = document.getElementById("live");
  const recent = document.getElementById("recent");
  const freshness = document.getElementById("freshness");
  const freshnessText = document.getElementById("freshness-text");
  let heardAt = 0;
  let behind = 0;
  let clockOffset = 0;
  let hasLoaded = false;

  // ---- merging fresh HTML into the page, keyed by data-key, so that focus, open records and tooltips stay ----
  const KEPT_ATTRIBUTES = new Set(["aria-expanded", "open"]);
  const keyOf = (node) => (node.nodeType === 1 ? node.dataset.key : undefined);
  const isKept = (node) => node.nodeType === 1 && node.dataset.keep !== undefined;

  function merge(old, fresh) {
    for (const { name, value } of [...fresh.attributes]) {
      if (!KEPT_ATTRIBUTES.has(name) && old.getAttribute(name) !== value) old.setAttribute(name, value);
    }
    for (const { name } of [...old.attributes]) {
      if (!KEPT_ATTRIBUTES.has(name) && !fresh.hasAttribute(name)) old.removeAttribute(name);
    }
    mergeChildren(old, fresh);
  }

  function mergeChildren(old, fresh) {
    // What is kept stays where it is: taken out and put back it would lose the focus.
    const kept = new Map([...old.childNodes].filter(isKept).map((node) => [node.dataset.keep, node]));
    const others = [...old.childNodes].filter((node) => !isKept(node));
    const keyed = new Map(others.filter(keyOf).map((node) => [keyOf(node), node]));
    const unkeyed = others.filter((node) => !keyOf(node));
    const wanted = [...fresh.childNodes].map((node) => {
      const key = keyOf(node);
      let match = key ? keyed.get(key) : unkeyed.find((other) => other.nodeName === node.nodeName);
      if (match && match.nodeName !== node.nodeName) match = undefined;
      if (!match) {
        const added = document.importNode(node, true);
        if (key && added.nodeType === 1) added.classList.add("is-new");
        return added;
      }
      if (key) keyed.delete(key); else unkeyed.splice(unkeyed.indexOf(match), 1);
      if (match.nodeType === 1) merge(match, node);
      else if (match.nodeValue !== node.nodeValue) match.nodeValue = node.nodeValue;
      return match;
    }).flatMap((node) => (kept.has(keyOf(node)) ? [node, kept.get(keyOf(node))] : [node]));
    for (const node of [...keyed.values(), ...unkeyed, ...kept.values()]) if (!wanted.includes(node)) node.remove();
    wanted.forEach((node, index) => {
      if (old.childNodes[index] !== node) old.insertBefore(node, old.childNodes[index] ?? null);
    });
  }

  async function fetchHtml(address) {
    const response = await fetch(address, { headers: { Accept: "text/html" }, credentials: "same-origin" });
    if (response.status === 401) { location.reload(); throw new Error("logged out"); }
    if (!response.ok) throw new Error(`${response.status}`);
    return new DOMParser().parseFromString(await response.text(), "text/html").body;
  }

  // One refresh at a time, a pause between two, and one more when something changed meanwhile.
  function refresher(container, address, pauseMs) {
    let isBusy = false;
    let isWanted = false;
    return async function refresh() {
      isWanted = true;
      if (isBusy || !container) return;
      isBusy = true;
      while (isWanted) {
        isWanted = false;
        try {
          mergeChildren(container, await fetchHtml(address()));
          tick();
        } catch { /* the stream's state tells; the next change tries again */ }
        await new Promise((done) => setTimeout(done, pauseMs));
      }
      isBusy = false;
    };
  }
  const refreshLive = refresher(live, () => "/fragments/live", LIVE_PAUSE_MS);
  const refreshRecent = refresher(recent, () => `/fragments/recent${location.search}`, RECENT_PAUSE_MS);

  // ---- the stream ----
  function heard(at) {
    heardAt = Date.now();
    if (at) clockOffset = Date.parse(at) - heardAt;
    show();
  }

  function listen() {
    const stream = new EventSource("/api/v1/live");
    stream.addEventListener("snapshot", (event) => {
      heard(JSON.parse(event.data).at);
      refreshLive();
      if (hasLoaded) refreshRecent();
      hasLoaded = true;
    });
    stream.addEventListener("call", (event) => {
      heard();
      refreshLive();
      if (JSON.parse(event.data).state !== "open") refreshRecent();
    });
    stream.addEventListener("heartbeat", (event) => {
      const beat = JSON.parse(event.data);
      behind = beat.behind_seconds ?? 0;
      heard(beat.at);
    });
    stream.addEventListener("error", () => {
      show();
      // After an HTTP error the browser gives up by itself: look whether the session ended, and begin anew.
      if (stream.readyState !== EventSource.CLOSED) return;
      refreshLive();
      setTimeout(listen, 5_000);
    });
  }

  function show() {
    if (!freshness) return;
    const silence = Date.now() - heardAt;
    let state = "live";
    let text = `updated ${Math.max(0, Math.round(silence / 1000))} s ago`;
    if (!heardAt) { state = "connecting"; text = "connecting…"; }
    else if (silence > STALE_MS) { state = "lost"; text = `connection lost, as of ${Math.round(silence / 1000)} s ago`; }
    else if (behind > BEHIND_SECONDS) { state = "behind"; text = `journal ${Math.round(behind)} s behind`; }
    if (freshness.dataset.state !== state) freshness.dataset.state = state;
    if (freshnessText.textContent !== text) freshnessText.textContent = text;
    live?.classList.toggle("is-stale", state === "lost");
  }

  // ---- timers ----
  const two = (number) => String(number).padStart(2, "0");
  function tick() {
    show();
    const now = Date.now() + clockOffset;
    const isLost = live?.classList.contains("is-stale");
    for (const timer of document.querySelectorAll("time[data-since]")) {
      const seconds = Math.max(0, Math.floor((now - Date.parse(timer.dataset.since)) / 1000));
      if (isLost || Number.isNaN(seconds)) continue;
      const hours = Math.floor(seconds / 3600);
      const minutes = Math.floor(seconds / 60) % 60;
      const text = hours ? `${hours}:${two(minutes)}:${two(seconds % 60)}` : `${minutes}:${two(seconds % 60)}`;
      if (timer.textContent !== text) timer.textContent = text;
    }
  }

  // ---- records that unfold under their row ----
  async function toggle(link) {
    const row = link.closest("tr");
    const next = row.nextElementSibling;
    if (next?.dataset.keep === link.dataset.open) {
      next.remove();
      link.setAttribute("aria-expanded", "false");
      return;
    }
    link.setAttribute("aria-expanded", "true");
    const unfolded = document.createElement("tr");
    unfolded.className = "unfolded";
    unfolded.dataset.keep = link.dataset.open;
    const cell = unfolded.insertCell();
    cell.colSpan = row.cells.length;
    cell.textContent = "Loading…";
    row.after(unfolded);
    try {
      cell.replaceChildren(...(await fetchHtml(`/fragments/calls/${link.dataset.open}`)).childNodes);
    } catch {
      cell.textContent = "The record could not be loaded.";
    }
  }

  // ---- pause and resume of a recording ----
  let toastTimer = 0;
  function say(text) {
    const toast = document.getElementById("toast");
    toast.textContent = text;
    clearTimeout(toastTimer);
    toastTimer = setTimeout(() => { toast.textContent = ""; }, 10_000);
  }

  async function pause(button) {
    const isPause = button.dataset.pause === "true";
    button.disabled = true;
    try {
      const response = await fetch(`/api/v1/calls/${button.dataset.of}/recording`, {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        credentials: "same-origin",
        body: JSON.stringify({ paused: isPause }),
      });
      if (response.status === 401) { location.reload(); return; }
      const answer = await response.json();
      if (!response.ok) say(`The recording was not ${isPause ? "paused" : "resumed"}: ${answer.detail || answer.title}`);
    } catch {
      say(`Nobody knows whether the recording was ${isPause ? "paused" : "resumed"}: there was no answer. Try again.`);
    }
    button.disabled = false;
    refreshLive();
  }

  async function copy(button) {
    const target = document.getElementById(button.dataset.copy);
    const label = button.querySelector("span");
    try {
      await navigator.clipboard.writeText(target.textContent);
      label.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(target); // without HTTPS there is no clipboard: select it, Ctrl+C does the rest
      label.textContent = "Selected";
    }
    setTimeout(() => { label.textContent = "Copy"; }, 2_000);
  }

  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-copy]");
    if (button) { copy(button); return; }
    const pauser = event.target.closest("[data-pause]");
    if (pauser) { pause(pauser); return; }
    if (event.ctrlKey || event.metaKey || event.shiftKey || event.button !== 0) return;
    const link = event.target.closest("[data-open]") ??
      (event.target.closest("a, button, input, summary, .unfolded") || String(getSelection()) ? null : event.target.closest("tr.row")?.querySelector("[data-open]"));
    if (!link) return;
    event.preventDefault();
    toggle(link);
  });

  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") document.activeElement?.closest(".tip")?.querySelector("button").blur();
  });

  if (live) {
    if (live.dataset.allowed === "yes") {
      listen();
      setInterval(() => { if (!document.hidden) refreshLive(); }, HEALTH_MS);
      setInterval(() => { if (!document.hidden) refreshRecent(); }, FIGURES_MS);
      document.addEventListener("visibilitychange", () => { if (!document.hidden) { refreshLive(); refreshRecent(); } });
    }
    else if (freshness) { freshness.dataset.state = "off"; freshnessText.textContent = "not live"; }
    setInterval(tick, 1_000);
    tick();
  }
})();
