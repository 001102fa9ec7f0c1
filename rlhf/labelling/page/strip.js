// The strip below the clips: labels against the schedule, the reward model, returns, people.

const byId = (id) => document.getElementById(id);
const WORDS = {
  waiting: "The learner waits for you",
  learning: "The learner is learning",
  complete: "Training is complete",
  silent: "Training has stopped",
  absent: "Training has not begun",
};

function number(value, digits = 3) {
  return value === null || value === undefined ? "–" : Number(value.toPrecision(digits)).toString();
}

/** Shows what the server says of labels, learner and people. */
export function showStatus(status) {
  const pill = byId("learner");
  pill.className = `pill ${status.learner}`;
  pill.textContent = WORDS[status.learner];
  showLabels(status);
  const ratio = status.train_loss ? status.valid_loss / status.train_loss : null;
  setList(byId("losses"), [
    ["Loss", number(status.train_loss)],
    ["Held out", `${number(status.valid_loss)}${ratio ? ` (${number(ratio, 2)}×)` : ""}`],
    ["l2 weight", number(status.coefficient, 2)],
    ["Correlation", number(status.correlation, 2)],
  ]);
  showCurve(status);
  showPeople(status);
}

function showLabels(status) {
  const { answered, due, total } = status;
  const percent = (count) => `${total ? (100 * Math.min(count, total)) / total : 0}%`;
  byId("done").style.width = percent(answered);
  byId("due").style.left = percent(due);
  const behind = Math.max(0, due - answered);
  const text = byId("labels-text");
  text.textContent = `${answered} of ${total} · ${number(status.a_minute, 2)} a minute · step ${status.step} of ${status.num_steps}`;
  if (behind) {
    const late = document.createElement("span");
    late.className = "behind";
    late.textContent = ` · ${behind} behind`;
    text.append(late);
  }
  byId("meter").setAttribute("aria-label", `${answered} labels of ${total}, ${due} are due by now`);
}

function showCurve({ returns }) {
  const curve = byId("curve");
  if (returns.length < 2) return;
  const [low, high] = [Math.min(...returns), Math.max(...returns)];
  const place = (value, index) => {
    const x = (120 * index) / (returns.length - 1);
    const y = 34 - (32 * (value - low)) / (high - low || 1);
    return `${index ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`;
  };
  curve.firstElementChild.setAttribute("d", returns.map(place).join(""));
  const text = `${number(returns.at(-1))} (${number(low)} to ${number(high)})`;
  curve.setAttribute("aria-label", `Returns of the policy: ${text}`);
  byId("return-text").textContent = text;
}

function showPeople({ raters, kappa, shared_pairs: shared, yours }) {
  byId("kappa").textContent = kappa === null ? "" : `κ ${number(kappa, 2)} of ${shared}`;
  byId("kappa").title = "Agreement beyond chance on pairs that several people answered";
  byId("raters").replaceChildren(
    ...raters.map((rater) => {
      const [row, name, said] = ["li", "b", "span"].map((tag) => document.createElement(tag));
      name.textContent = rater.name;
      const facts = [`${rater.answers}`];
      if (rater.seconds !== null) facts.push(`${number(rater.seconds, 2)} s`);
      if (rater.checks) facts.push(`${rater.checks_right}/${rater.checks} ✓`);
      if (rater.error !== null) facts.push(`ε ${rater.error.toFixed(2)}`);
      said.textContent = facts.join(" · ");
      said.title = "answers · seconds for one · checks passed · share given at random";
      if (rater.id === yours) row.className = "you";
      row.append(name, said);
      return row;
    }),
  );
}

function setList(list, rows) {
  list.replaceChildren(
    ...rows.flatMap(([term, value]) => {
      const [left, right] = ["dt", "dd"].map((tag) => document.createElement(tag));
      left.textContent = term;
      right.textContent = value;
      return [left, right];
    }),
  );
}
