// A recording on the page: its waveform (caller above, agent below), play and pause, seeking by click and by key.
// The sound is fetched by Range, and not before somebody presses play: every listen is written down.
"use strict";
(() => {
  const SVG = "http://www.w3.org/2000/svg";
  const HEIGHT = 100;
  const BAR = 3; // pixels per bar, the gap included
  const QUIET = 48; // of 255: what stays below is drawn small, or mere noise would look like talk
  const STEP_SECONDS = 5;
  const PAGE_SECONDS = 30;
  const RATES = [1, 1.25, 1.5, 2];
  let sounding = null;
  let made = 0;

  const two = (number) => String(number).padStart(2, "0");
  function clock(seconds) {
    const whole = Math.round(seconds);
    const hours = Math.floor(whole / 3600);
    const minutes = Math.floor(whole / 60) % 60;
    return hours ? `${hours}:${two(minutes)}:${two(whole % 60)}` : `${minutes}:${two(whole % 60)}`;
  }

  // One path of bars that stand at `foot` and reach up (negative) or down.
  function bars(values, count, foot, reach) {
    const loudest = Math.max(QUIET, ...values);
    let path = "";
    for (let bar = 0; bar < count; bar += 1) {
      const start = Math.floor(bar * values.length / count);
      const end = Math.max(start + 1, Math.floor((bar + 1) * values.length / count));
      const share = Math.max(...values.slice(start, end)) / loudest;
      path += `M${bar * BAR + 1} ${foot}v${(Math.sign(reach) * Math.max(1.5, share * Math.abs(reach))).toFixed(1)}`;
    }
    return path;
  }

  function shape(name, attributes) {
    const element = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    return element;
  }

  class SoundPlayer extends HTMLElement {
    connectedCallback() {
      if (this.audio) return;
      // Not in the page, so that it plays on when the row around it moves.
      this.audio = new Audio();
      this.audio.preload = "none";
      this.seconds = Number(this.dataset.seconds) || 0;
      this.at = 0;
      this.sides = [];
      const part = (name) => this.querySelector(`.player-${name}`);
      [this.button, this.wave, this.now, this.rate, this.fault] = ["play", "wave", "now", "rate", "fault"].map(part);
      this.svg = this.wave.querySelector("svg");
      this.button.addEventListener("click", () => this.toggle());
      this.rate.addEventListener("click", () => this.faster());
      this.wave.addEventListener("pointerdown", (event) => this.drag(event));
      this.wave.addEventListener("keydown", (event) => this.key(event));
      for (const name of ["play", "pause", "ended"]) this.audio.addEventListener(name, () => this.show());
      for (const name of ["timeupdate", "seeked"]) this.audio.addEventListener(name, () => this.follow());
      this.audio.addEventListener("error", () => this.fail());
      new ResizeObserver(() => this.draw()).observe(this.wave);
      this.load();
    }

    disconnectedCallback() {
      setTimeout(() => { if (!this.isConnected) this.audio.pause(); });
    }

    // ---- the waveform ----
    async load() {
      try {
        const response = await fetch(this.dataset.peaks, { credentials: "same-origin" });
        if (!response.ok) throw new Error((await response.json()).title);
        this.sides = (await response.json()).sides.filter((side) => side.length).slice(0, 2);
        this.draw();
      } catch (error) {
        this.say(`No waveform: ${error.message}.`);
      }
    }

    draw() {
      const width = Math.floor(this.wave.clientWidth);
      if (!width || !this.sides.length) return;
      this.svg.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
      const middle = this.sides.length > 1 ? HEIGHT / 2 : HEIGHT;
      const paths = this.sides.map((side, index) => ({
        class: index ? "wave-agent" : "wave-caller",
        d: bars(side, Math.floor(width / BAR), index ? middle + 2 : middle - 2, (index ? 1 : -1) * (middle - 4)),
      }));
      made += 1;
      const clip = shape("clipPath", { id: `played-${made}` });
      this.played = shape("rect", { x: 0, y: 0, width: 0, height: HEIGHT });
      clip.append(this.played);
      const ahead = shape("g", { class: "wave-ahead" });
      const behind = shape("g", { "clip-path": `url(#played-${made})` });
      for (const path of paths) {
        ahead.append(shape("path", path));
        behind.append(shape("path", path));
      }
      this.head = shape("line", { class: "wave-head", y1: 0, y2: HEIGHT });
      this.svg.replaceChildren(clip, ahead, behind, this.head);
      this.place();
    }

    // ---- playing ----
    async toggle() {
      if (!this.audio.paused) { this.audio.pause(); return; }
      if (sounding !== this) sounding?.audio.pause();
      sounding = this;
      this.say("");
      if (this.at >= this.seconds - 0.2) this.seek(0);
      if (!this.audio.src) {
        this.audio.src = this.dataset.audio;
        this.audio.currentTime = this.at;
      }
      try { await this.audio.play(); } catch { /* the error event tells, or a pause came between */ }
      this.show();
    }

    faster() {
      const rate = RATES[(RATES.indexOf(this.audio.playbackRate) + 1) % RATES.length];
      this.audio.defaultPlaybackRate = rate;
      this.audio.playbackRate = rate;
      this.rate.textContent = `${rate}×`;
      this.rate.setAttribute("aria-label", `Speed ${rate}×`);
    }

    seek(seconds) {
      this.at = Math.min(Math.max(0, seconds), this.seconds);
      if (this.audio.src) this.audio.currentTime = this.at;
      this.place();
    }

    drag(event) {
      if (event.button !== 0) return;
      const box = this.wave.getBoundingClientRect();
      const to = (moved) => this.seek((moved.clientX - box.left) / box.width * this.seconds);
      this.wave.setPointerCapture(event.pointerId);
      to(event);
      this.wave.addEventListener("pointermove", to);
      this.wave.addEventListener("lostpointercapture", () => this.wave.removeEventListener("pointermove", to), { once: true });
    }

    key(event) {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      const to = {
        ArrowLeft: this.at - STEP_SECONDS, ArrowDown: this.at - STEP_SECONDS,
        ArrowRight: this.at + STEP_SECONDS, ArrowUp: this.at + STEP_SECONDS,
        PageDown: this.at - PAGE_SECONDS, PageUp: this.at + PAGE_SECONDS,
        Home: 0, End: this.seconds,
      }[event.key];
      if (to !== undefined) this.seek(to);
      else if (event.key === " " || event.key === "Enter") this.toggle();
      else return;
      event.preventDefault();
    }

    // ---- what is shown ----
    follow() {
      if (this.audio.seeking) return;
      this.at = Math.min(this.audio.currentTime, this.seconds);
      this.place();
    }

    show() {
      const isPlaying = !this.audio.paused && !this.audio.ended;
      this.classList.toggle("is-playing", isPlaying);
      this.button.setAttribute("aria-label", isPlaying ? "Pause" : "Play");
      this.place();
    }

    place() {
      const x = this.seconds ? this.at / this.seconds * this.svg.viewBox.baseVal.width : 0;
      this.played?.setAttribute("width", x);
      this.head?.setAttribute("x1", x);
      this.head?.setAttribute("x2", x);
      const text = clock(this.at);
      if (this.now.textContent === text) return;
      this.now.textContent = text;
      this.wave.setAttribute("aria-valuenow", Math.round(this.at));
      this.wave.setAttribute("aria-valuetext", `${text} of ${clock(this.seconds)}`);
    }

    say(text) {
      this.fault.textContent = text;
    }

    async fail() {
      this.audio.pause(); // it would go on to call itself playing
      this.show();
      let reason = "the sound broke off"; // the element does not say why; the server may
      try {
        const answer = await fetch(this.dataset.audio, { headers: { Range: "bytes=0-0" }, credentials: "same-origin" });
        if (answer.status === 401) { location.reload(); return; }
        if (!answer.ok) reason = (await answer.json()).title;
      } catch { reason = "no connection"; }
      this.say(`It cannot be played: ${reason}.`);
      this.audio.removeAttribute("src");
    }
  }

  customElements.define("sound-player", SoundPlayer);
})();
