// Thousands of points on one canvas: hover names one, a click chooses one, a line drawn around some chooses those;
// arrow keys walk from point to point.

const SIDE = 14; // pixels left free at each border
const NEAR = 9; // pixels within which the pointer means a point
const STEPS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

export default function (component) {
  const { data, parentElement, setStateValue } = component;
  const box = parentElement.querySelector(".map");
  const canvas = box.querySelector("canvas");
  const tip = box.querySelector(".tip");
  const n = data.x.length;
  const [spanX, spanY] = [span(data.x), span(data.y)];
  let [width, height] = [0, 0];
  let chosen = box.chosen ?? new Set(); // the page may be drawn anew while some are chosen
  let lasso = [];
  let ink = "";
  let whole = null; // the points, drawn once for each size of the window

  const px = (i) => SIDE + ((data.x[i] - spanX[0]) / spanX[1]) * (width - 2 * SIDE);
  const py = (i) => height - SIDE - ((data.y[i] - spanY[0]) / spanY[1]) * (height - 2 * SIDE);

  function fit() {
    [width, height] = [box.clientWidth, box.clientHeight];
    const scale = window.devicePixelRatio || 1;
    canvas.width = width * scale;
    canvas.height = height * scale;
    ink = getComputedStyle(box).color;
    whole = document.createElement("canvas");
    [whole.width, whole.height] = [canvas.width, canvas.height];
    const pen = whole.getContext("2d");
    pen.scale(scale, scale);
    pen.globalAlpha = 0.85;
    pen.lineWidth = 2;
    for (let i = 0; i < n; i++) dot(pen, i, data.size);
    draw();
    canvas.dataset.points = n; // says that they stand
  }

  function dot(pen, i, size) {
    const [x, y] = [px(i), py(i)];
    pen.beginPath();
    if (data.control[i]) {
      pen.strokeStyle = data.palette[data.colour[i]];
      pen.moveTo(x - size, y - size);
      pen.lineTo(x + size, y + size);
      pen.moveTo(x + size, y - size);
      pen.lineTo(x - size, y + size);
      pen.stroke();
    } else {
      pen.fillStyle = data.palette[data.colour[i]];
      pen.arc(x, y, size, 0, 7);
      pen.fill();
      pen.strokeStyle = ink; // yellow on white, or the darkest dose on black, would hardly be seen
      pen.lineWidth = 0.5;
      pen.stroke();
      pen.lineWidth = 2;
    }
  }

  function draw() {
    const pen = canvas.getContext("2d");
    pen.setTransform(1, 0, 0, 1, 0, 0);
    pen.clearRect(0, 0, canvas.width, canvas.height);
    pen.globalAlpha = chosen.size ? 0.3 : 1;
    pen.drawImage(whole, 0, 0);
    pen.globalAlpha = 1;
    const scale = window.devicePixelRatio || 1;
    pen.scale(scale, scale);
    pen.lineWidth = 2;
    for (const i of chosen) dot(pen, i, data.size + 1);
    if (lasso.length > 1) {
      pen.strokeStyle = ink;
      pen.setLineDash([5, 4]);
      pen.beginPath();
      lasso.forEach(([x, y], k) => (k ? pen.lineTo(x, y) : pen.moveTo(x, y)));
      pen.stroke();
    }
  }

  function nearest(x, y) {
    let [best, least] = [-1, NEAR * NEAR];
    for (let i = 0; i < n; i++) {
      const away = (px(i) - x) ** 2 + (py(i) - y) ** 2;
      if (away < least) [best, least] = [i, away];
    }
    return best;
  }

  function choose(found) {
    chosen = box.chosen = new Set(found);
    draw();
    setStateValue("chosen", found);
  }

  function name(i) {
    tip.textContent = `${data.names[data.name[i]]}\n${data.replicates[data.replicate[i]]}, field ${data.field[i]}`;
    tip.hidden = false;
    const [x, y] = [px(i), py(i)];
    tip.style.left = `${Math.min(x + 12, Math.max(0, width - tip.offsetWidth - 4))}px`;
    tip.style.top = `${y + tip.offsetHeight + 20 > height ? y - tip.offsetHeight - 8 : y + 14}px`;
  }

  // The nearest point in a direction, those ahead before those aside; from the middle where none is chosen.
  function beside([dx, dy]) {
    const [from] = chosen;
    const [x, y] = from === undefined ? [width / 2, height / 2] : [px(from), py(from)];
    let [best, least] = [-1, Infinity];
    for (let i = 0; i < n; i++) {
      const along = (px(i) - x) * dx + (py(i) - y) * dy;
      const across = Math.abs((px(i) - x) * dy) + Math.abs((py(i) - y) * dx);
      if (along > 0 && along + 2 * across < least) [best, least] = [i, along + 2 * across];
    }
    return best;
  }

  const where = (event) => {
    const frame = canvas.getBoundingClientRect();
    return [event.clientX - frame.left, event.clientY - frame.top];
  };
  canvas.onpointerdown = (event) => {
    lasso = [where(event)];
    canvas.setPointerCapture(event.pointerId);
  };
  canvas.onpointermove = (event) => {
    const [x, y] = where(event);
    if (lasso.length) {
      lasso.push([x, y]);
      tip.hidden = true;
      draw();
      return;
    }
    const i = nearest(x, y);
    canvas.style.cursor = i < 0 ? "crosshair" : "pointer";
    if (i < 0) tip.hidden = true;
    else name(i);
  };
  canvas.onpointerup = (event) => {
    const path = lasso;
    lasso = [];
    const [x, y] = where(event);
    const moved = path.some(([a, b]) => Math.abs(a - x) + Math.abs(b - y) > 6);
    if (moved) choose(Array.from({ length: n }, (_, i) => i).filter((i) => inside(path, px(i), py(i))));
    else {
      const i = nearest(x, y);
      choose(i < 0 ? [] : [i]);
    }
  };
  canvas.onpointerleave = canvas.onblur = () => (tip.hidden = true);
  canvas.onkeydown = (event) => {
    if (event.key === "Escape") choose([]);
    if (!(event.key in STEPS)) return;
    event.preventDefault();
    const next = beside(STEPS[event.key]);
    if (next < 0) return;
    choose([next]);
    name(next);
  };
  canvas.setAttribute("aria-label", data.says);

  box.watch?.disconnect();
  box.watch = new ResizeObserver(fit);
  box.watch.observe(box);
  return () => box.watch.disconnect();
}

// The least value, and how far the values reach.
function span(values) {
  let [low, high] = [Infinity, -Infinity];
  for (const value of values) {
    if (value < low) low = value;
    if (value > high) high = value;
  }
  return [low, high - low || 1];
}

// Whether a point lies within a closed line: an odd number of its edges lie to one side.
function inside(path, x, y) {
  let odd = false;
  for (let i = 0, j = path.length - 1; i < path.length; j = i++) {
    const [[a, b], [c, d]] = [path[i], path[j]];
    if (b > y !== d > y && x < ((c - a) * (y - b)) / (d - b) + a) odd = !odd;
  }
  return odd;
}
