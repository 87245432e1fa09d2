// Mounts a page: its markup, copied into a shadow root with its own style, and each part that has data brought to life.
// Safe to run any number of times: a root that has a shadow is left alone; if anything fails, the markup stays.

function mount(root) {
  if (root.shadowRoot) return;
  const view = document.createElement("div");
  view.className = "view";
  const parts = [];
  for (const child of root.children) {
    if (child.type === "application/json") parts.push([view.lastChild, child.textContent]);
    else if (child.tagName !== "SCRIPT") view.append(child.cloneNode(true));
  }
  for (const [part, data] of parts) views[part.dataset.view](part, JSON.parse(data));
  const style = document.createElement("style");
  style.textContent = root.querySelector("script[type='text/css']").textContent;
  root.attachShadow({ mode: "open" }).append(style, view);
  if (!OURS) return;
  const follow = () => view.dispatchEvent(new CustomEvent("ecco-place", { detail: [location.hash.slice(1)] }));
  addEventListener("hashchange", follow);
  if (location.hash) follow();
}

const OURS = document.documentElement.hasAttribute("data-ecco-document");
const own = document.currentScript && document.currentScript.closest("[data-ecco-html]");
for (const root of new Set([own, ...document.querySelectorAll(`[data-ecco-html="${MARK}"]`)])) {
  if (!root) continue;
  try { mount(root); } catch (error) { console.error("ecco-html", error); }
}
