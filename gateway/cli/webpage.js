// What stands on a page, for `dialmark verify --web`: runs in a world of its own, where the page's scripts cannot reach.
// Lines of text as a reader sees them, without what the script never touches (docs/dni.md); links to numbers; JSON-LD.
(() => {
  const skipped =
    "head,script,style,noscript,textarea,input,select,code,pre,template," +
    "[contenteditable]:not([contenteditable=false]),[data-dialmark-skip]";
  const texts = [], links = [], jsonLd = [];
  let line = "";
  const end = () => { if (line.trim()) texts.push(line); line = ""; };
  const walk = (node) => {
    if (node.nodeType === 3) { line += node.data; return; }
    if (node.nodeType !== 1 && node.nodeType !== 11) return;
    if (node.nodeType === 1) {
      if (node.matches(skipped)) return;
      if (/^\s*(tel|sms|callto):/i.test(node.getAttribute("href") || "")) links.push(node.getAttribute("href"));
      for (const name of ["title", "aria-label"]) if (node.hasAttribute(name)) texts.push(node.getAttribute(name));
    }
    const isBlock = node.nodeType === 1 && !/^(inline|contents)/.test(getComputedStyle(node).display);
    if (isBlock || node.localName === "br") end();
    node.childNodes.forEach(walk);
    if (node.shadowRoot) { end(); walk(node.shadowRoot); end(); }
    if (isBlock) end();
  };
  if (document.body) walk(document.body);
  end();
  document.querySelectorAll('script[type="application/ld+json"]').forEach((each) => jsonLd.push(each.textContent));
  return JSON.stringify({ texts, links, json_ld: jsonLd, blocked: globalThis.dialmarkBlocked || [] });
})()
