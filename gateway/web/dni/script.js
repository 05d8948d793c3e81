// Shows each visitor the number that is theirs (docs/dni.md). Served as `/dni/v1/<site>.js`, which calls this function
// with the site's configuration. What the site wrote is never lost: every change is noted with what stood there before.
//
// For minify.py: no template literals, no shorthand properties, parentheses around parameters, a semicolon after every
// statement. Properties that end with `_` are our own.
((config) => {
  "use strict";
  const page = window;
  const site = document;
  const early = page.dialmark;
  if (early && early.status) {
    return;
  }
  const tag = site.currentScript;
  const base = config.base || tag.src.replace(/[^/]*([?#].*)?$/, "");
  const SKIPPED =
    "head,script,style,noscript,textarea,input,select,code,pre,template,[contenteditable]:not([contenteditable=false]),[data-dialmark-skip]";
  const TEXTLESS = SKIPPED + ",[data-dialmark]";
  const ATTRIBUTES = ["aria-label", "title"];
  const LINKS = '[href*="tel:" i],[href*="sms:" i],[href*="callto:" i]';
  const LINK = /^\s*(tel|sms|callto):(?:\/\/)?([^;?]*)([^]*)$/i;
  const SEPARATORS = "[\\s().\\-/\\u2010-\\u2015\\u2212\\u00ad\\u2060]";
  const JOINTS = /[-./\u2010-\u2015\u2212]/;
  const STORE = "dialmark." + config.site;

  // ---- Finding numbers; gateway/core/numberformats.py is the reference ----

  const targets = config.targets;
  const isWorded = config.worded;
  targets.forEach((target) => {
    target.name_ = "+" + target.digits[1];
    target.pattern = new RegExp(target.pattern.replace("#", target.digits[0].split("").join("_")).replace(/_/g, "\\s*" + SEPARATORS + "{0,3}\\s*"), "gi");
  });
  const digitsOf = (text) => text.replace(/\D/g, "");
  const withDigits = (text) => targets.find((target) => target.digits.includes(digitsOf(text)));

  // A piece of something longer, such as an order number.
  const isPart = (text, start, end) => {
    const before = text[start - 1] || " ";
    const after = text[end] || " ";
    return (
      // One pattern, as such a class takes a while to be made ready.
      /^\+|[\p{L}\p{N}]/u.test(before + after) ||
      (JOINTS.test(before) && /\d/.test(text[start - 2]) && text[start] != "+") ||
      (JOINTS.test(after) && /\d/.test(text[end + 1]))
    );
  };

  // All targets in one pass: a number that is put in place of one target may be another target.
  const find = (text) => {
    const matches = [];
    targets.forEach((target) => {
      let match;
      while ((isWorded || digitsOf(text)[target.digits[0].length - 1]) && (match = target.pattern.exec(text))) {
        const end = match.index + match[0].length;
        const start = match.index + (/^\([^)]*$/.test(match[1]) ? 1 : 0);
        if (!isPart(text, start, end)) {
          matches.push({ start_: start, end_: end, target_: target, form_: match[1] ? "" : "national" });
        }
      }
    });
    return matches.sort((one, other) => one.start_ - other.start_);
  };

  // The number shown instead, in the form in which `text` is written.
  const inForm = (text, target, form) => {
    const formats = swaps[target.name_];
    if (!formats || form) {
      return formats ? formats[form] : text;
    }
    const digits = digitsOf(text);
    const all = target.digits;
    if (formats.repaint) {
      let place = all[0].length - digits.length;
      return text.replace(/\d/g, (digit) => (place++ < 0 ? digit : formats.significant[place - 1]));
    }
    const isPlain = !text.match(SEPARATORS);
    return /^\(?\+/.test(text)
      ? isPlain ? formats.e164 : formats.international
      : digits == all[0]
        ? isPlain ? formats.significant : formats.national_no_trunk
        : digits == all[1]
          ? isPlain ? formats.e164.slice(1) : formats.international_no_plus
          : isPlain ? formats.national_digits : formats.national;
  };

  // ---- Writing them ----

  const notes = new WeakMap();
  let swaps = {};
  let found = 0;

  const read = (node, name) => (name ? node.getAttribute(name) : node.data);

  // What the site wrote, also where our number stands now.
  const original = (node, name) => {
    const note = (notes.get(node) || {})[name];
    const text = read(node, name);
    return note && note.after_ === text ? note.before_ : text;
  };

  const write = (node, name, before, after) => {
    const all = notes.get(node) || {};
    const note = all[name] || {};
    const times = note.after_ === after ? note.times_ + 1 : 0;
    // Another script that puts its own back for ever is left to win.
    if (read(node, name) !== after && times < 50) {
      all[name] = { before_: before, after_: after, times_: times };
      notes.set(node, all);
      if (name) {
        node.setAttribute(name, after);
      } else {
        node.data = after;
      }
    }
  };

  // Nodes, or an attribute of them, that read as one text. With `isWhole` that text must be one number; with `target` it
  // is that number, however it is written.
  const paint = (nodes, name, isWhole, target, form) => {
    const sources = nodes.map((node) => original(node, name));
    const text = sources.join("");
    const start = text.search(/\S/);
    const end = text.trimEnd().length;
    const matches = (target ? [{ start_: start, end_: end, target_: target, form_: form }] : find(text)).filter(
      (match) => !isWhole || (match.start_ <= start && match.end_ >= end),
    );
    let done = 0;
    // Asked only where there is something to write: it is slow.
    if (matches[0] ? nodes.some((node) => (node.localName ? node : node.parentElement)?.closest(target ? SKIPPED : TEXTLESS)) : isWhole) {
      return;
    }
    matches.forEach((match) => {
      found++;
      match.text_ = inForm(text.slice(match.start_, match.end_), match.target_, match.form_);
    });
    nodes.forEach((node, place) => {
      const start = done;
      const end = start + sources[place].length;
      let after = "";
      matches.forEach((match) => {
        const from = Math.max(match.start_, done);
        const to = Math.min(match.end_, end);
        if (from < to) {
          // Of one length: each node keeps its share. Else the node where it begins has all of it.
          after +=
            text.slice(done, from) +
            (match.text_.length == match.end_ - match.start_
              ? match.text_.slice(from - match.start_, to - match.start_)
              : match.start_ < start ? "" : match.text_);
          done = to;
        }
      });
      write(node, name, sources[place], after + text.slice(done, end));
      done = end;
    });
    return matches[0];
  };

  // The text nodes of an element; nothing for one that holds more than a number.
  const pieces = (element, isAny) => {
    const walker = site.createTreeWalker(element, 4);
    const nodes = [];
    let length = 0;
    while (walker.nextNode()) {
      const node = walker.currentNode;
      length += original(node, "").trim().length;
      if (!isAny && (length > 60 || nodes.length > 40)) {
        return;
      }
      nodes.push(node);
    }
    return nodes;
  };

  const link = (element) => {
    const before = original(element, "href");
    const parts = LINK.exec(before);
    const target = parts && !element.closest(SKIPPED) && withDigits(parts[2].replace(/%../g, ""));
    const formats = target && swaps[target.name_];
    if (target) {
      found++;
    }
    write(element, "href", before, formats ? parts[1].toLowerCase() + ":" + formats.e164 + parts[3] : before);
    return target && { number: formats ? formats.e164 : target.name_, scheme: parts[1].toLowerCase() };
  };

  // What the selector finds in and below an element, a document fragment or a text.
  const all = (root, selector) => [
    ...(root.matches?.(selector) ? [root] : []),
    ...(root.querySelectorAll?.(selector) || []),
  ];

  const shadow = (element) => {
    if (element.shadowRoot) {
      watch(element.shadowRoot);
      walk(element.shadowRoot);
    }
  };

  const named = (element) => {
    const target = withDigits(element.dataset.dialmark);
    if (target) {
      paint(pieces(element, 1), "", 1, target, "national");
    }
  };

  // Whether a text can be a number or a piece of one. Most have no digit at all, which is soon seen.
  const isLikely = (node, name) => {
    const text = read(node, name);
    const digits = /\d/.test(text) && digitsOf(text);
    return (
      isWorded ||
      notes.has(node) ||
      (digits && targets.some((target) => digits[target.digits[0].length - 1] || (target.digits + "").includes(digits)))
    );
  };

  // The smallest short element that is one number, else the texts around it.
  const swapText = (node) => {
    let parent = node.parentNode;
    let levels = 4;
    let nodes;
    while (levels-- && parent && (nodes = pieces(parent))) {
      if (nodes[1] && paint(nodes, "", 1)) {
        return nodes;
      }
      parent = parent.parentNode;
    }
    nodes = [];
    // Nothing but comments between: a framework cuts one text into several.
    while (node.previousSibling && !node.previousSibling.localName) {
      node = node.previousSibling;
    }
    while (node && !node.localName) {
      if (node.nodeType == 3) {
        nodes.push(node);
      }
      node = node.nextSibling;
    }
    paint(nodes, "");
    return nodes;
  };

  const walk = (root) => {
    const walker = site.createTreeWalker(root, 5);
    const done = new Set();
    let node = root;
    all(root, LINKS).forEach(link);
    ATTRIBUTES.forEach((attribute) =>
      all(root, "[" + attribute + "]").forEach((element) => isLikely(element, attribute) && paint([element], attribute)),
    );
    while (node) {
      if (!node.data) {
        shadow(node);
      } else if (!done.has(node) && isLikely(node)) {
        swapText(node).forEach((each) => done.add(each));
      }
      node = walker.nextNode();
    }
    all((root.data && root.parentElement?.closest("[data-dialmark]")) || root, "[data-dialmark]").forEach(named);
  };

  // ---- Watching the page ----

  let isReady;
  let frame;
  let touched = new Set();

  const observer = new MutationObserver((records) => {
    records.forEach((record) => {
      touched.add(record.target);
      if (record.type == "childList") {
        touched.delete(record.target);
        record.addedNodes.forEach((node) => touched.add(node));
      }
    });
    frame =
      frame ||
      requestAnimationFrame(() => {
        const nodes = touched;
        frame = 0;
        touched = new Set();
        nodes.forEach((node) => {
          if (node.isConnected) {
            walk(node);
          }
        });
        // Our own changes.
        observer.takeRecords();
        route();
      });
  });

  const watch = (root) =>
    observer.observe(root, {
      subtree: true,
      childList: true,
      characterData: true,
      attributeFilter: ["href", "data-dialmark"].concat(ATTRIBUTES),
    });

  const scan = (element) => {
    if (isReady) {
      found = element ? found : 0;
      walk(element || site.body);
      observer.takeRecords();
    }
  };

  // `numbers` by target.
  const show = (numbers) => {
    swaps = api.numbers = numbers;
    scan();
    listeners.forEach(tell);
  };

  // By itself, so that its errors are its own.
  const tell = (listener) => setTimeout(listener, 0, api.numbers);

  // ---- Talking to the gateway ----

  const cut = (text) => text.slice(0, 2e3);
  const first = {
    // A router may have taken the tags off the address already.
    url: cut((performance.getEntriesByType("navigation")[0] || location).name || location.href),
    referrer: cut(site.referrer),
    at: Date.now(),
  };
  const listeners = [];
  const vars = {};
  let consent = "pending";
  let session = {};
  let state;
  let reason;
  let turn = 0;
  let here = location.href;
  let came = first.referrer;
  let view;
  let stayed = 0;
  let since = 0;
  let told;
  let timer;

  // First of all who listen, whatever the page does with the event.
  const listen = (name, then) => page.addEventListener(name, then, true);
  const isGranted = () => consent == "granted";
  const isVisible = () => site.visibilityState == "visible";
  const newView = () => {
    view = Math.random().toString(36).slice(2, 12);
    stayed = 0;
  };

  const save = () => {
    try {
      localStorage[STORE] = JSON.stringify(session);
    } catch (error) {
      // Full or forbidden: the visitor is a new one on the next page.
    }
  };

  // What other tools call this visitor, and what the site said of them; again only when it changed.
  const identities = (message) => {
    const ids = { ga_sessions: {} };
    site.cookie.split("; ").forEach((pair) => {
      const match = /^_(ym_uid|fbp|fbc|ga)(?:_(\w+))?=(.*)/.exec(pair);
      if (match) {
        if (match[2]) {
          ids.ga_sessions[match[2]] = (/^GS\d\.\d\.s?(\d+)/.exec(match[3]) || "")[1];
        } else {
          ids[match[1]] = match[3];
        }
      }
    });
    const now = JSON.stringify([ids, vars]);
    if (now != told) {
      told = now;
      message.ids = ids;
      message.vars = vars;
    }
    return message;
  };

  // Seconds for which this page has been seen.
  const seconds = () => {
    const now = Date.now();
    stayed += since && now - since;
    since = isVisible() ? now : 0;
    return Math.round(stayed / 1e3);
  };

  const message = (more) =>
    Object.assign({ v: 1, site: config.site, page: view, visitor: session.visitor, lease: session.lease }, more);

  const beacon = (kind, more) => {
    if (session.visitor) {
      navigator.sendBeacon(base + kind, JSON.stringify(message(more)));
    }
  };

  const seen = (more) => Object.assign({ seconds: seconds(), found: found }, more);
  const leave = (more) => beacon("leave", seen(more));

  const post = (kind, more) =>
    fetch(base + kind, {
      method: "POST",
      body: JSON.stringify(message(more)),
      credentials: isGranted() ? "include" : "omit",
    }).then((response) => (response.ok ? response.json() : Promise.reject(response.status)));

  const ask = () => {
    const mine = ++turn;
    const sent = Date.now();
    const more = {
      consent: consent,
      url: state ? cut(here) : first.url,
      referrer: cut(came),
      automated: navigator.webdriver,
    };
    if (isGranted()) {
      const landing = (session.landing = session.landing?.at > sent - 18e5 ? session.landing : first);
      more.landing = { url: landing.url, referrer: landing.referrer, seconds: Math.round((sent - landing.at) / 1e3) };
      save();
      told = 0;
      identities(more);
    }
    state = "asking";
    setTimeout(() => {
      if (mine == turn && state == "asking") {
        state = "slow";
      }
    }, config.wait);
    post("visit", more).then(
      (answer) => {
        if (mine == turn) {
          const isLate = state == "slow";
          reason = answer.reason;
          if (isGranted()) {
            session.visitor = answer.visitor;
            session.lease = answer.lease;
            session.numbers = isLate ? {} : answer.numbers;
            kept(answer, sent);
          }
          if (isLate) {
            // Not shown, so not held; the next page asks again.
            leave({ shown: false });
            session.lease = null;
          } else {
            state = "ready";
            show(answer.numbers);
          }
        }
      },
      (error) => {
        if (mine == turn) {
          state = "failed";
          reason = String(error);
        }
      },
    );
  };

  // Until then the number is nobody else's, even if nothing more is heard of us.
  const kept = (answer, sent) => {
    session.until = sent + answer.expires_in * 1e3;
    save();
  };

  // A sign of life, or a new page of a site that never loads one.
  const beat = (more) => {
    const mine = turn;
    const sent = Date.now();
    if (consent != "pending" && isVisible()) {
      if (session.lease && sent > session.until) {
        show({});
        session.lease = null;
        ask();
      } else if (!state || (more && isGranted() && state != "ready")) {
        ask();
      } else if (session.visitor && state == "ready") {
        post(more ? "page" : "beat", identities(seen(more))).then(
          (answer) => {
            if (mine == turn) {
              if (answer.ok) {
                kept(answer, sent);
              } else {
                session.lease = null;
                ask();
              }
            }
          },
          () => {
            told = 0;
          },
        );
      }
    }
  };

  const viewed = () => {
    newView();
    beat({ url: cut(here), referrer: cut(came) });
  };

  const route = () => {
    if (location.href != here) {
      came = here;
      here = location.href;
      viewed();
    }
  };

  const start = (value) => {
    value = value || "granted";
    if (value != consent) {
      if (isGranted()) {
        leave({ forget: true });
        localStorage.removeItem(STORE);
      }
      consent = value;
      state = session = 0;
      reason = told = "";
      turn++;
      try {
        session = isGranted() && JSON.parse(localStorage[STORE]);
      } catch (error) {
        // None yet.
      }
      session = session || {};
      show(session.until > Date.now() ? session.numbers : {});
      if (value != "pending") {
        if (!timer) {
          settle();
          timer = setInterval(() => {
            // Elements may have got a shadow root since.
            scan();
            route();
            beat();
          }, config.beat * 1e3);
        }
        beat();
      }
    }
  };

  // After hydration: a framework must find what it wrote.
  const settle = () => {
    if (site.readyState == "loading") {
      listen("DOMContentLoaded", settle);
    } else {
      (page.requestIdleCallback || setTimeout)(
        () => {
          isReady = 1;
          watch(site.documentElement);
          scan();
        },
        { timeout: 200 },
      );
    }
  };

  const callback = (fields) => {
    const more = { url: cut(here), consent: !!fields.consent };
    ["number", "name", "message", "when"].forEach((name) => {
      more[name] = fields[name];
    });
    return post("callback", more);
  };

  // ---- What the visitor does ----

  listen("popstate", route);
  listen("pagehide", () => leave());
  listen("pageshow", (event) => {
    if (event.persisted) {
      viewed();
    }
  });
  listen("visibilitychange", () => {
    seconds();
    beat();
  });
  listen("click", (event) => {
    const element = event.composedPath().find((node) => node.localName && LINK.test(node.getAttribute("href")));
    const clicked = element && link(element);
    if (clicked) {
      beacon("click", clicked);
    }
  });
  listen("submit", (event) => {
    const data = event.target.dataset;
    if ("dialmarkCallback" in data) {
      event.preventDefault();
      if (data.dialmarkCallback != "sending") {
        data.dialmarkCallback = "sending";
        const ended = (answer) => {
          data.dialmarkCallback = answer.ok ? "sent" : "failed";
        };
        callback(Object.fromEntries(new FormData(event.target))).then(ended, ended);
      }
    }
  });

  const api = {
    numbers: swaps,
    swap: scan,
    start: start,
    callback: callback,
    on: (listener) => {
      listeners.push(listener);
      tell(listener);
    },
    setVar: (name, value) => {
      if (Object.keys(vars).length < 20 || name in vars) {
        vars[name] = String(value).slice(0, 200);
      }
    },
    status: () => ({
      consent: consent,
      state: state || "idle",
      reason: reason,
      visitor: session.visitor,
      lease: session.lease,
      found: found,
    }),
    push: (call) => api[call[0]](call[1], call[2]),
  };
  page.dialmark = api;
  newView();
  seconds();
  start(tag?.dataset.consent || config.consent);
  (early || []).forEach(api.push);
})
