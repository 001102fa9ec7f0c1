// Two clips on two canvases, by one clock: both begin together, hold their last frame, begin again.

const HOLD_SECONDS = 0.25;
const GHOSTS = 3; // earlier frames behind the current one, so that a still picture has a direction

/** Returns a clip as it came, with its images decompressed. */
export async function prepared(clip) {
  if (clip.frames === undefined) {
    return { kind: "poses", count: clip.segments.length, ...clip };
  }
  const packed = Uint8Array.from(atob(clip.frames), (sign) => sign.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  const bytes = new Uint8Array(await new Response(stream).arrayBuffer());
  const { width, height, channels, count } = clip;
  const images = [];
  for (let frame = 0; frame < count; frame++) {
    const image = new ImageData(width, height);
    for (let pixel = 0; pixel < width * height; pixel++) {
      const at = (frame * width * height + pixel) * channels;
      for (let color = 0; color < 3; color++) {
        image.data[4 * pixel + color] = bytes[at + (channels === 3 ? color : 0)];
      }
      image.data[4 * pixel + 3] = 255;
    }
    images.push(image);
  }
  return { kind: "images", count, width, height, images };
}

/** Draws one frame of a clip on a canvas. */
export function draw(canvas, clip, frame, region) {
  const context = canvas.getContext("2d");
  context.setTransform(1, 0, 0, 1, 0, 0);
  context.clearRect(0, 0, canvas.width, canvas.height);
  if (clip === null) return;
  if (clip.kind === "images") drawImage(context, clip, frame);
  else drawPose(context, clip, frame, region);
}

function drawImage(context, clip, frame) {
  const { canvas } = context;
  const scale = Math.min(canvas.width / clip.width, canvas.height / clip.height);
  const whole = scale > 1 ? Math.floor(scale) : scale;
  const [width, height] = [clip.width * whole, clip.height * whole];
  const source = new OffscreenCanvas(clip.width, clip.height);
  source.getContext("2d").putImageData(clip.images[frame], 0, 0);
  context.imageSmoothingEnabled = scale < 1;
  context.drawImage(source, (canvas.width - width) / 2, (canvas.height - height) / 2, width, height);
}

function drawPose(context, clip, frame, region) {
  const { canvas } = context;
  const style = getComputedStyle(document.documentElement);
  const color = (name) => style.getPropertyValue(name).trim();
  const [left, right, bottom, top] = region;
  const scale = Math.min(canvas.width / (right - left), canvas.height / (top - bottom));
  const x = (value) => canvas.width / 2 + (value - (left + right) / 2) * scale;
  const y = (value) => canvas.height / 2 - (value - (bottom + top) / 2) * scale;
  drawGrid(context, color("--grid"), x, y, scale);
  context.lineCap = "round";
  const from = clip.segments[frame].length > 8 ? frame : Math.max(0, frame - GHOSTS);
  for (let shown = from; shown <= frame; shown++) {
    context.globalAlpha = shown === frame ? 1 : 0.07 + 0.05 * (GHOSTS - (frame - shown));
    context.strokeStyle = color("--body");
    for (const [x1, y1, x2, y2, radius] of clip.segments[shown]) {
      if (radius < 0) continue;
      context.lineWidth = Math.max(2 * radius * scale, 1.5);
      context.beginPath();
      context.moveTo(x(x1), y(y1));
      context.lineTo(x(x2), y(y2));
      context.stroke();
    }
    context.fillStyle = color("--joint");
    for (const [cx, cy, radius] of clip.circles[shown]) {
      if (radius < 0) continue;
      context.beginPath();
      context.arc(x(cx), y(cy), Math.max(radius * scale, 1.5), 0, 2 * Math.PI);
      context.fill();
    }
  }
  context.globalAlpha = 1;
}

function drawGrid(context, color, x, y, scale) {
  const { width, height } = context.canvas;
  const step = [0.1, 0.2, 0.5, 1, 2, 5, 10].find((size) => size * scale > width / 9) ?? 20;
  context.strokeStyle = color;
  context.lineWidth = Math.max(1, width / 500);
  context.beginPath();
  for (let at = x(0) % (step * scale); at < width; at += step * scale) {
    context.moveTo(at, 0);
    context.lineTo(at, height);
  }
  for (let at = y(0) % (step * scale); at < height; at += step * scale) {
    context.moveTo(0, at);
    context.lineTo(width, at);
  }
  context.stroke();
}

export class Player {
  constructor(canvases, bar) {
    this.canvases = canvases;
    this.bar = bar;
    this.clips = [null, null];
    this.region = [-1, 1, -1, 1];
    this.fps = 20;
    this.speed = 1;
    this.isPaused = false;
    this.time = 0; // seconds of the clip, at its own speed
    this.last = null;
    this.watched = 0; // milliseconds since the pair is on the screen, while the page is visible
    const fit = () => this.fit();
    for (const canvas of canvases) new ResizeObserver(fit).observe(canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", fit);
    requestAnimationFrame((now) => this.tick(now));
  }

  /** Shows two clips from their beginning, or none. */
  show(left, right) {
    this.clips = [left, right];
    this.time = 0;
    this.watched = 0;
    this.paint();
  }

  get count() {
    return Math.max(...this.clips.map((clip) => clip?.count ?? 1));
  }

  get frame() {
    return Math.min(Math.floor(this.time * this.fps + 1e-6), this.count - 1);
  }

  /** Goes some frames on or back, and stays there. */
  step(frames) {
    this.isPaused = true;
    const next = (this.frame + frames + this.count) % this.count;
    this.time = (next + 0.001) / this.fps;
    this.paint();
  }

  fit() {
    const ratio = Math.min(window.devicePixelRatio || 1, 2);
    for (const canvas of this.canvases) {
      canvas.width = Math.max(1, Math.round(canvas.clientWidth * ratio));
      canvas.height = Math.max(1, Math.round(canvas.clientHeight * ratio));
    }
    this.paint();
  }

  paint() {
    this.painted = this.frame;
    this.canvases.forEach((canvas, side) => {
      const clip = this.clips[side];
      draw(canvas, clip, clip === null ? 0 : Math.min(this.frame, clip.count - 1), this.region);
    });
    const share = this.count > 1 ? this.frame / (this.count - 1) : 0;
    this.bar.style.transform = `scaleX(${share})`;
  }

  tick(now) {
    const passed = this.last === null ? 0 : Math.min((now - this.last) / 1000, 0.25);
    this.last = now;
    this.watched += 1000 * passed;
    if (!this.isPaused && this.clips[0] !== null) {
      this.time += passed * this.speed;
      if (this.time > this.count / this.fps + HOLD_SECONDS * this.speed) this.time = 0;
      if (this.frame !== this.painted) this.paint();
    }
    requestAnimationFrame((next) => this.tick(next));
  }
}
