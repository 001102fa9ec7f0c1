// Asks for pairs, shows them, and brings every answer to the server, however long that takes.

import { Player, prepared } from "/clips.js";
import { showStatus } from "/strip.js";

const byId = (id) => document.getElementById(id);
const POLL = 1500; // milliseconds between two looks at the queue
const RETRY = 1000;
const FLASH = 160;
const CHOICES = { ArrowLeft: "left", ArrowRight: "right", ArrowUp: "equal", ArrowDown: "skip" };
const SAID = {
  left: "Left is better.",
  right: "Right is better.",
  equal: "Equally good.",
  skip: "Left out.",
};
const EMPTY = {
  waiting: "Others have the clips that are left.\nMore come when they are done, or in two minutes.",
  learning: "No clips left: the learner is learning from your answers.\nNew ones appear here by themselves.",
  complete: "Training is complete. Thank you!",
  silent: "No clips left, and training has stopped.\nThe same `lab train` command goes on with it.",
  absent: "Training has not begun to ask yet.",
};

const player = new Player([byId("left"), byId("right")], byId("played"));
const queue = []; // pairs that are here, the first on the screen
const outbox = stored("outbox", []); // answers that the server has not confirmed
let secret = document.querySelector("meta[name=page]").content;
let rater = stored("rater", "");
let run = null;
let isSending = false;
let isFlashing = false;

function stored(name, otherwise) {
  try {
    return JSON.parse(localStorage.getItem(`lab-${name}`)) ?? otherwise;
  } catch {
    return otherwise;
  }
}

function store(name, value) {
  localStorage.setItem(`lab-${name}`, JSON.stringify(value));
}

class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/** Posts to the server; a page older than its server takes the new secret once. */
async function post(path, body, isAgain = false) {
  const answer = await fetch(`/api/${path}`, {
    method: "POST",
    headers: { "Content-Type": "application/json", "X-Lab-Page": secret },
    body: JSON.stringify({ rater, ...body }),
  });
  const said = await answer.json();
  if (answer.ok) return said;
  if (answer.status === 403 && !isAgain) {
    const text = await (await fetch("/")).text();
    const page = new DOMParser().parseFromString(text, "text/html");
    secret = page.querySelector("meta[name=page]")?.content ?? secret;
    return post(path, body, true);
  }
  throw new Refused(answer.status, said.error);
}

function say(text, isBad = false) {
  byId("said").textContent = text;
  byId("said").classList.toggle("bad", isBad);
}

/** What the server need not send again: what is on the page, and what is answered on its way. */
function held(besides = "") {
  const all = [...outbox.map((sent) => sent.showing), ...queue.map((pair) => pair.nonce)];
  return [...new Set(all)].filter((nonce) => nonce !== besides).slice(0, 3);
}

async function receive(said, isFirst = false) {
  for (const pair of said.showings ?? []) {
    const known = [...queue.map((other) => other.nonce), ...outbox.map((sent) => sent.showing)];
    if (known.includes(pair.nonce)) continue;
    const clips = await Promise.all([prepared(pair.left), prepared(pair.right)]);
    const ready = { nonce: pair.nonce, clips };
    if (isFirst) queue.unshift(ready);
    else queue.push(ready);
  }
  if (said.status) showStatus(said.status);
  present(said.status);
}

function present(status) {
  const first = queue[0] ?? null;
  const { body } = document;
  if (first !== null && body.dataset.showing !== first.nonce) player.show(...first.clips);
  if (first === null && body.dataset.showing) player.show(null, null);
  body.dataset.showing = first?.nonce ?? "";
  body.dataset.held = queue.length;
  body.dataset.outbox = outbox.length;
  if (first !== null) body.dataset.state = "ready";
  else if (status) {
    body.dataset.state = "empty";
    byId("veil-text").textContent = EMPTY[status.learner];
  }
  for (const button of document.querySelectorAll("[data-choice]")) button.disabled = first === null;
}

function offline(error) {
  if (error instanceof Refused) return say(error.message, true);
  say("The server does not answer; your answers are kept and sent when it does.", true);
  document.body.dataset.outbox = outbox.length;
  return undefined;
}

/** Sends answers one after the other; one that the server has already is done, too. */
async function send() {
  if (isSending) return;
  isSending = true;
  while (outbox.length) {
    try {
      const said = await post("answer", { ...outbox[0].body, held: held(outbox[0].showing) });
      outbox.shift();
      store("outbox", outbox);
      await receive(said);
    } catch (error) {
      if (error instanceof Refused && [404, 409, 422].includes(error.status)) {
        outbox.shift();
        store("outbox", outbox);
        say(error.message, true);
        continue;
      }
      offline(error);
      await new Promise((done) => setTimeout(done, RETRY));
    }
  }
  isSending = false;
}

function choose(choice) {
  if (!queue.length || isFlashing || byId("hello").open) return;
  const pair = queue[0];
  isFlashing = true;
  const button = document.querySelector(`[data-choice=${choice}]`);
  const lit = [button, ...(["left", "right"].includes(choice) ? [byId(`${choice}-clip`)] : [])];
  lit.forEach((element) => element.classList.add("chosen"));
  const body = { rater, showing: pair.nonce, choice, latency_ms: Math.round(player.watched) };
  outbox.push({ showing: pair.nonce, body });
  store("outbox", outbox);
  say(SAID[choice]);
  setTimeout(() => {
    lit.forEach((element) => element.classList.remove("chosen"));
    queue.shift();
    isFlashing = false;
    present(null);
    if (!queue.length) refill();
  }, FLASH);
  send();
}

async function undo() {
  if (isFlashing || byId("hello").open) return;
  if (outbox.length) return say("Your last answer is on its way; try again.", true);
  try {
    const said = await post("undo", {});
    await receive(said, true);
    say(`Taken back: ${SAID[said.undone].toLowerCase()}`);
  } catch (error) {
    offline(error);
  }
  return undefined;
}

async function refill() {
  if (!rater || document.hidden) return;
  try {
    await receive(await post("queue", { held: held() }));
    if (byId("said").classList.contains("bad") && !outbox.length) say("");
  } catch (error) {
    offline(error);
  }
}

function pause(isPaused = !player.isPaused) {
  player.isPaused = isPaused;
  byId("pause").setAttribute("aria-pressed", isPaused);
  byId("pause").lastElementChild.textContent = isPaused ? "Play" : "Pause";
}

function setSpeed(speed) {
  player.speed = speed;
  for (const button of document.querySelectorAll("[data-speed]")) {
    button.setAttribute("aria-checked", Number(button.dataset.speed) === speed);
  }
}

function frames(count) {
  player.step(count);
  pause(true);
}

function onKey(event) {
  const isTyping = event.target.matches("input") || byId("hello").open;
  if (isTyping || event.ctrlKey || event.metaKey || event.altKey) return;
  const actions = {
    " ": () => pause(),
    u: undo,
    U: undo,
    Backspace: undo,
    ",": () => frames(-1),
    ".": () => frames(1),
    1: () => setSpeed(0.5),
    2: () => setSpeed(1),
    3: () => setSpeed(2),
  };
  const action = event.key in CHOICES ? () => choose(CHOICES[event.key]) : actions[event.key];
  if (!action || event.repeat) return;
  event.preventDefault();
  action();
}

function askName() {
  const dialog = byId("hello");
  byId("name-field").value = rater;
  dialog.showModal();
  dialog.addEventListener(
    "close",
    () => {
      const name = byId("name-field").value.trim().replace(/\s+/g, " ");
      if (!name) return askName();
      if (name !== rater) queue.length = 0;
      rater = name;
      store("rater", rater);
      byId("name").textContent = rater;
      return refill();
    },
    { once: true },
  );
}

async function begin() {
  run = await (await fetch("/api/run")).json();
  byId("title").textContent = run.title;
  byId("instruction").textContent = run.instruction;
  document.title = `${run.title}: which clip is better?`;
  player.region = run.window;
  player.fps = run.fps;
  document.addEventListener("keydown", onKey);
  for (const button of document.querySelectorAll("[data-choice]")) {
    button.addEventListener("click", () => choose(button.dataset.choice));
  }
  for (const button of document.querySelectorAll("[data-speed]")) {
    button.addEventListener("click", () => setSpeed(Number(button.dataset.speed)));
  }
  byId("undo").addEventListener("click", undo);
  byId("pause").addEventListener("click", () => pause());
  byId("back").addEventListener("click", () => frames(-1));
  byId("forth").addEventListener("click", () => frames(1));
  byId("who").addEventListener("click", askName);
  byId("name").textContent = rater || "–";
  setInterval(refill, POLL);
  document.addEventListener("visibilitychange", refill);
  if (!rater) return askName();
  send();
  return refill();
}

begin().catch(offline);
