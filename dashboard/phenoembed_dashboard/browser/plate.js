// A drawn plate whose wells answer: a tooltip for each, a click or Enter chooses one, arrow keys walk over them.

const STEPS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

export default function (component) {
  const { data, parentElement, setTriggerValue } = component;
  const holder = parentElement.querySelector(".plate");
  if (holder.drawn !== data.svg) {
    holder.innerHTML = data.svg;
    holder.drawn = data.svg;
  }
  const svg = holder.querySelector("svg");
  const marks = [...svg.querySelectorAll("path[aria-roledescription='rect mark']")];
  svg.setAttribute("tabindex", "0");
  svg.setAttribute("aria-label", data.says);
  let at = data.wells.indexOf(data.chosen);

  const show = (index) => {
    marks.forEach((mark, i) => mark.classList.toggle("chosen", i === index));
    at = index;
  };
  const choose = (index) => {
    show(index);
    setTriggerValue("well", data.wells[index]);
  };
  marks.forEach((mark, i) => {
    if (!mark.querySelector("title")) {
      const title = document.createElementNS("http://www.w3.org/2000/svg", "title");
      title.textContent = mark.getAttribute("aria-label");
      mark.append(title);
    }
    mark.onclick = () => choose(i);
  });
  svg.onkeydown = (event) => {
    if (event.key === "Enter" && at >= 0) choose(at);
    if (!(event.key in STEPS)) return;
    event.preventDefault();
    const next = beside(data.places, Math.max(at, 0), STEPS[event.key]);
    if (next >= 0) choose(next);
  };
  show(at);
}

// The nearest well in a direction: the row (or column) one walks along counts first.
function beside(places, from, [dx, dy]) {
  const [x, y] = places[from];
  let best = -1;
  let least = Infinity;
  places.forEach(([a, b], i) => {
    const along = (a - x) * dx + (b - y) * dy;
    const across = Math.abs((a - x) * dy) + Math.abs((b - y) * dx);
    if (along > 0 && along + 8 * across < least) [best, least] = [i, along + 8 * across];
  });
  return best;
}
