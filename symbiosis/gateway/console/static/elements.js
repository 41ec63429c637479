// Builds elements. Whatever comes from the gateway becomes a text node or an attribute, never HTML.

const SVG = "http://www.w3.org/2000/svg";

function build(node, properties, children) {
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === "function") node.addEventListener(name, value);
    else node.setAttribute(name, value === true ? "" : String(value));
  }
  node.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== ""));
  return node;
}

/** An HTML element; a property that is a function listens to the event of its name. */
export function element(name, properties = {}, ...children) {
  return build(document.createElement(name), properties, children);
}

/** An SVG element. */
export function drawn(name, properties = {}, ...children) {
  return build(document.createElementNS(SVG, name), properties, children);
}

/** The element of an id that the page has. */
export function byId(id) {
  return document.getElementById(id);
}

/** Show one line of text in an element, or hide it. */
export function say(node, text) {
  node.textContent = text;
  node.hidden = !text;
}

/**
 * A table that becomes a list of cards where it has no room, and each cell says its column's name.
 *
 * columns: [{label, kind}]; kind is "", "number" or "name". rows: [{cells, kind}]; a cell is text or a node.
 * Roles are written out because a changed `display` takes them away.
 */
export function table(caption, columns, rows) {
  const head = columns.map(({ label, kind }) =>
    element("th", { scope: "col", role: "columnheader", class: kind }, label));
  const body = rows.map(({ cells, kind }) =>
    element("tr", { role: "row", class: kind },
      cells.map((cell, i) =>
        element(i ? "td" : "th", {
          role: i ? "cell" : "rowheader", scope: i ? null : "row", class: columns[i].kind, "data-label": columns[i].label,
        }, i ? element("span", {}, cell) : cell))));
  return element("div", { class: "fitted" }, element("table", { class: "cards", role: "table" },
    element("caption", { class: "unseen" }, caption),
    element("thead", { role: "rowgroup" }, element("tr", { role: "row" }, head)),
    element("tbody", { role: "rowgroup" }, body)));
}
