// A figure that was drawn as an SVG, in the colours of the page.

export default function (component) {
  const { data, parentElement } = component;
  const holder = parentElement.querySelector("figure");
  if (holder.drawn === data.svg) return;
  holder.innerHTML = data.svg;
  holder.drawn = data.svg;
  holder.setAttribute("aria-label", data.says);
}
