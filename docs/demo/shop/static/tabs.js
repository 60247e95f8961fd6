// Sends what two tabs of a browser send at the same moment, and shows what became of it.

const form = document.querySelector("#tabs");
const tabs = [...document.querySelectorAll(".tab")];
const outcome = document.querySelector("#outcome");

async function ask(path, options) {
  const answer = await fetch(path, options);
  if (!answer.ok) throw new Error(`The shop answered ${answer.status}. Reload this page.`);
  return answer.json();
}

async function write(tab) {
  const headers = { "X-CSRF-Token": form.elements.csrf_token.value };
  const { found, attempt } = await ask(tab.dataset.path, { method: "POST", headers });
  const line = document.createElement("li");
  line.className = attempt > 1 ? "again" : "";
  line.textContent = `${attempt > 1 ? "Retry: " : ""}${found} → ${found + 1}`;
  tab.querySelector("ol").append(line);
  return attempt;
}

function compare(sent, before, after) {
  let lost = 0;
  for (const [key, count] of Object.entries(sent)) {
    const stored = after[key] - before[key];
    form.querySelector(`[data-sent="${key}"]`).textContent = count;
    form.querySelector(`[data-stored="${key}"]`).textContent = stored;
    lost += Math.max(0, count - stored); // more is stored if another window writes, too
  }
  form.querySelector("[data-version]").textContent = `${before.version} → ${after.version}`;
  return lost;
}

async function writeFromBoth(rounds) {
  for (const tab of tabs) tab.querySelector("ol").replaceChildren();
  const row = form.dataset.row;
  const before = await ask(row);
  const attempts = [];
  for (let round = 0; round < rounds; round++) {
    attempts.push(...(await Promise.all(tabs.map(write))));
  }
  const both = 2 * rounds;
  const sent = { "tab a": rounds, "tab b": rounds, "both tabs": both, messages: both };
  const lost = compare(sent, before, await ask(row));
  const again = attempts.filter((attempt) => attempt > 1).length;
  return `${both} requests, ${again} retried, ${lost || "nothing"} lost.`;
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const buttons = [...form.querySelectorAll("button")];
  for (const button of buttons) button.disabled = true;
  outcome.textContent = "Writing …";
  try {
    outcome.textContent = await writeFromBoth(Number(event.submitter.value));
  } catch (error) {
    outcome.textContent = error.message;
  }
  for (const button of buttons) button.disabled = false;
});
