"""One HTML page with a surface to turn: everything is in the file, nothing is loaded from a net."""

import html
import json
from pathlib import Path

import numpy as np

from common.files.storage import storage_errors
from landscape.figures import plane_values
from landscape.grids import Surface

_PAGE = """<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>@TITLE@</title>
<style>
body { font: 14px sans-serif; margin: 1em; }
canvas { width: 100%; max-width: 900px; border: 1px solid #ccc; touch-action: none; cursor: grab; }
label { margin-right: 1.5em; }
</style></head>
<body>
<h1>@TITLE@</h1>
<p><label>Cut off at <input id="ceiling" type="range" min="0" max="1" step="0.01" value="@CUT@">
<output id="shown"></output></label>
<label><input id="log" type="checkbox"> logarithm</label>
Drag to turn, scroll to zoom, point at the surface to read a value.</p>
<canvas id="view" width="1350" height="900"></canvas>
<p id="value">&nbsp;</p>
<script id="data" type="application/json">@DATA@</script>
<script>
"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const [xs, ys] = data.axes, z = data.values, name = data.name;
const canvas = document.getElementById("view"), pen = canvas.getContext("2d");
const ceilingInput = document.getElementById("ceiling"), logInput = document.getElementById("log");
const finite = z.flat().filter(v => v !== null), low = Math.min(...finite);
const high = Math.max(...finite), span = Math.max(high - low, 1e-12);
let turn = -0.7, tilt = 0.9, zoom = 1, drawn = [];
// The slider is logarithmic: its left end is a thousandth of the range.
const ceiling = () => low + span * Math.pow(1000, Number(ceilingInput.value) - 1);
const bend = v => logInput.checked ? Math.log(v - low + 0.01 * span / 10) : v;
function color(t) {  // blue over gray to red
  const mix = (a, b, s) => a.map((v, i) => Math.round(v + (b[i] - v) * s));
  const [cold, middle, warm] = [[59, 76, 192], [221, 221, 221], [180, 4, 38]];
  return `rgb(${t < 0.5 ? mix(cold, middle, 2 * t) : mix(middle, warm, 2 * t - 1)})`;
}
function draw() {
  const top = ceiling(), bottom = bend(low), range = Math.max(bend(top) - bottom, 1e-12);
  document.getElementById("shown").value = top.toPrecision(3);
  const at = (i, j) => {  // z === null: infinite, or not done
    const value = z[i][j] === null ? top : Math.min(z[i][j], top);
    const h = (bend(value) - bottom) / range;
    const u = 2 * (xs[i] - xs[0]) / (xs[xs.length - 1] - xs[0]) - 1;
    const v = 2 * (ys[j] - ys[0]) / (ys[ys.length - 1] - ys[0]) - 1;
    const p = u * Math.cos(turn) - v * Math.sin(turn), q = u * Math.sin(turn) + v * Math.cos(turn);
    const scale = 300 * zoom, w = 1.4 * h - 0.7;
    return { x: canvas.width / 2 + scale * p, h, depth: q * Math.sin(tilt) + w * Math.cos(tilt),
             y: canvas.height / 2 + scale * (q * Math.cos(tilt) - w * Math.sin(tilt)) };
  };
  const points = xs.map((_, i) => ys.map((_, j) => at(i, j)));
  drawn = [];
  for (let i = 0; i + 1 < xs.length; i++) for (let j = 0; j + 1 < ys.length; j++) {
    const c = [points[i][j], points[i + 1][j], points[i + 1][j + 1], points[i][j + 1]];
    const mean = key => (c[0][key] + c[1][key] + c[2][key] + c[3][key]) / 4;
    drawn.push({ c, i, j, depth: mean("depth"), h: mean("h") });
  }
  drawn.sort((a, b) => a.depth - b.depth);
  pen.clearRect(0, 0, canvas.width, canvas.height);
  for (const quad of drawn) {
    trace(quad.c);
    pen.fillStyle = pen.strokeStyle = color(Math.min(Math.max(quad.h, 0), 1));
    pen.fill();
    pen.stroke();
  }
}
function trace(corners) {
  pen.beginPath();
  corners.forEach((p, k) => k ? pen.lineTo(p.x, p.y) : pen.moveTo(p.x, p.y));
  pen.closePath();
}
function read(event) {
  const box = canvas.getBoundingClientRect(), k = canvas.width / box.width;
  const x = (event.clientX - box.left) * k, y = (event.clientY - box.top) * k;
  for (let n = drawn.length - 1; n >= 0; n--) {  // the nearest is drawn last
    trace(drawn[n].c);
    if (!pen.isPointInPath(x, y)) continue;
    const { i, j } = drawn[n];
    const v = z[i][j] === null ? "infinite or not done" : z[i][j].toPrecision(5);
    document.getElementById("value").textContent =
      `a = ${xs[i].toPrecision(4)}, b = ${ys[j].toPrecision(4)}: ${name} ${v}`;
    return;
  }
}
canvas.addEventListener("pointerdown", e => canvas.setPointerCapture(e.pointerId));
canvas.addEventListener("pointermove", e => {
  if (!e.buttons) return read(e);
  turn -= e.movementX * 0.008;
  tilt = Math.min(Math.max(tilt + e.movementY * 0.008, 0), Math.PI / 2);
  draw();
});
canvas.addEventListener("wheel", e => {
  e.preventDefault();
  zoom *= Math.exp(-e.deltaY * 0.001);
  draw();
}, { passive: false });
ceilingInput.addEventListener("input", draw);
logInput.addEventListener("change", draw);
draw();
</script>
</body></html>
"""


def write_page(
    path: Path, surface: Surface, *, title: str, name: str = "loss", ceiling: float = 10.0
) -> None:
    """Writes a plane as a page that opens in a browser: turn, zoom, cut off, read values.

    Raises:
        ValueError: If the surface is no plane, has no such values, or none is finite.
        DataError: If the file cannot be written.
    """
    values = plane_values(surface, name)
    known = values[np.isfinite(values)]
    if not known.size:
        raise ValueError(f"{name}: none of {values.size} points has a finite value")
    plain = [[v if np.isfinite(v) else None for v in row] for row in values.tolist()]
    axes = [coordinates.tolist() for coordinates in surface.axes]
    data = json.dumps({"axes": axes, "values": plain, "name": name}, allow_nan=False)
    span = max(float(np.ptp(known)), 1e-12)
    share = np.clip((ceiling - known.min()) / span, 1e-3, 1)  # of the range; the slider is its log
    filled = {
        "TITLE": html.escape(title),
        "CUT": f"{1 + np.log(share) / np.log(1000):.2f}",
        "DATA": data.replace("<", "\\u003c"),
    }
    text = _PAGE
    for mark, value in filled.items():
        text = text.replace(f"@{mark}@", value)
    with storage_errors(path):
        path.write_text(text)
