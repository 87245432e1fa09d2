// Mounts a page: its markup, copied into a shadow root with its own style, and brought to life if it has data.
// Safe to run any number of times: a root that has a shadow is left alone; if anything fails, the markup stays.

function mount(root) {
  if (root.shadowRoot) return;
  const view = document.createElement("div");
  view.className = "view";
  for (const child of root.children) if (child.tagName !== "SCRIPT") view.append(child.cloneNode(true));
  const data = root.querySelector('script[type="application/json"]');
  if (data && typeof tokenScores === "function") tokenScores(view, JSON.parse(data.textContent));
  const style = document.createElement("style");
  style.textContent = root.querySelector('script[type="text/css"]').textContent;
  root.attachShadow({ mode: "open" }).append(style, view);
}

const own = document.currentScript && document.currentScript.closest("[data-ecco-html]");
for (const root of new Set([own, ...document.querySelectorAll(`[data-ecco-html="${MARK}"]`)])) {
  if (!root) continue;
  try { mount(root); } catch (error) { console.error("ecco-html: the page stays without interaction.", error); }
}
