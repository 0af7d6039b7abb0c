// Makes elements, and brings what is shown in line with what it should be without disturbing focus or selection.

const SVG = "http://www.w3.org/2000/svg";

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === true) element.setAttribute(name, "");
    else if (value !== undefined && value !== null && value !== false) element.setAttribute(name, value);
  }
  element.append(
    ...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false),
  );
  return element;
}

/** h("a", {href: "#/"}, "text", …): strings become text, never markup. */
export const h = (name, attributes, ...children) => fill(document.createElement(name), attributes, children);
export const s = (name, attributes, ...children) => fill(document.createElementNS(SVG, name), attributes, children);

const keyOf = (node) => (node.nodeType === Node.ELEMENT_NODE ? node.getAttribute("data-key") : null);
const isAlike = (one, other) => one.nodeName === other.nodeName && keyOf(one) === keyOf(other);

/** Makes `live` look like `fresh`. Elements with `data-kept` look after themselves. */
export function patch(live, fresh) {
  if (!isAlike(live, fresh)) return live.replaceWith(fresh);
  if (live.nodeType !== Node.ELEMENT_NODE) {
    if (live.data !== fresh.data) live.data = fresh.data;
    return undefined;
  }
  if (live.hasAttribute("data-kept")) return undefined;
  for (const { name } of [...live.attributes]) if (!fresh.hasAttribute(name)) live.removeAttribute(name);
  for (const { name, value } of fresh.attributes) if (live.getAttribute(name) !== value) live.setAttribute(name, value);
  return patchChildren(live, fresh);
}

function patchChildren(live, fresh) {
  const byKey = new Map();
  for (const child of live.childNodes) if (keyOf(child) !== null) byKey.set(keyOf(child), child);
  let place = live.firstChild;
  for (const wanted of [...fresh.childNodes]) {
    const known = byKey.get(keyOf(wanted));
    if (known && known !== place) live.insertBefore(known, place);
    else if (!known && (place === null || !isAlike(place, wanted))) {
      live.insertBefore(wanted, place);
      continue;
    }
    const here = known ?? place;
    place = here.nextSibling;
    patch(here, wanted);
  }
  while (place !== null) {
    const gone = place;
    place = place.nextSibling;
    gone.remove();
  }
}
