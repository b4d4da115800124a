/**
 * What pages do beside links and forms, which work without it: keep `[data-live]` parts up to date (from the address
 * `data-from`, or the page's own) and say when they are not, copy, ask before what cannot be undone, and follow a log. One ES module for the browser, kept as text because it is served as it is.
 */
export const SCRIPT = `const said = document.getElementById("said");
const say = (text) => {
  said.textContent = "";
  requestAnimationFrame(() => (said.textContent = text));
};

// ---- parts that keep up with the server ----

const live = () => [...document.querySelectorAll("[data-live]")];
const inUse = (part) => {
  const selection = getSelection();
  return selection !== null && !selection.isCollapsed && part.contains(selection.anchorNode);
};
const focusedId = (part) => (part.contains(document.activeElement) ? document.activeElement.id : "");

const from = live().find((part) => part.dataset.from !== undefined)?.dataset.from;
// Never a form again that led here.
const leave = () => (from === undefined ? location.reload() : location.replace(from));

// Why there was no news, and how long to wait at least, in ms; undefined = all is as the server has it.
async function refresh() {
  const answer = await fetch(from ?? location.href, {
    headers: { "X-Refresh": "1" },
    signal: AbortSignal.timeout(15_000),
  });
  // Gone: what is shown is no longer true.
  if (answer.redirected || answer.status === 401 || answer.status === 404) return leave();
  if (!answer.ok) return { answered: true, atLeastMs: (Number(answer.headers.get("Retry-After")) || 0) * 1000 };
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
  // Signed out elsewhere.
  if (live().some((part) => fresh.getElementById(part.id) === null)) return leave();
  for (const part of live()) {
    const next = fresh.getElementById(part.id);
    if (next === null || next.innerHTML === part.innerHTML || inUse(part)) continue;
    const focus = focusedId(part);
    part.replaceChildren(...next.childNodes);
    if (focus !== "") document.getElementById(focus)?.focus({ preventScroll: true });
    if (next.dataset.say !== undefined && next.dataset.say !== part.dataset.say) say(next.dataset.say);
    if (next.dataset.say !== undefined) part.dataset.say = next.dataset.say;
  }
}

const SLOWEST_MS = 60_000;
const everyMs = Math.min(...live().map((part) => Number(part.dataset.live)));
const stale = document.createElement("p");
stale.className = "note wrong stale";
let failures = 0;
let freshAt = new Date();

function tellFresh() {
  failures = 0;
  freshAt = new Date();
  if (!stale.isConnected) return;
  stale.remove();
  say("Up to date again");
}

function tellStale(answered) {
  failures += 1;
  // A page that is being left gets no answer, either.
  if (stale.isConnected || (!answered && failures === 1)) return;
  stale.textContent = "Not up to date: the edge gives no news since " + freshAt.toLocaleTimeString() + ". Trying again.";
  document.getElementById("main").append(stale);
  say(stale.textContent);
}

const again = (waitMs) =>
  setTimeout(async () => {
    if (document.visibilityState !== "visible") return again(waitMs);
    const late = await refresh().catch(() => ({ answered: false, atLeastMs: 0 }));
    if (late === undefined) tellFresh();
    else tellStale(late.answered);
    again(Math.max(late?.atLeastMs ?? 0, Math.min(everyMs * 2 ** failures, SLOWEST_MS)));
  }, waitMs);
if (Number.isFinite(everyMs)) again(everyMs);

// ---- buttons ----

addEventListener("click", async (event) => {
  const button = event.target.closest("button[data-copy]");
  if (button === null) return;
  const text = document.getElementById(button.dataset.copy).textContent;
  try {
    await navigator.clipboard.writeText(text);
    say("Copied");
    const name = button.textContent;
    button.textContent = "Copied";
    setTimeout(() => (button.textContent = name), 2000);
  } catch {
    getSelection().selectAllChildren(document.getElementById(button.dataset.copy));
    say("Selected: copy it with your keyboard");
  }
});

addEventListener("submit", (event) => {
  const question = event.target.dataset.confirm;
  if (question !== undefined && !confirm(question)) event.preventDefault();
});

// ---- a log ----

const MAX_LINES = 1000;

function follow(log, tell) {
  const source = new EventSource(log.dataset.log);
  source.addEventListener("open", () => tell("Connected: new lines show as they are written.", true));
  source.addEventListener("line", (event) => {
    const atEnd = log.scrollTop + log.clientHeight >= log.scrollHeight - 4;
    const line = document.createElement("div");
    line.textContent = event.data;
    log.append(line);
    while (log.childElementCount > MAX_LINES) log.firstElementChild.remove();
    if (atEnd) log.scrollTop = log.scrollHeight;
  });
  source.addEventListener("gone", (event) => {
    source.close();
    tell(event.data, false);
  });
  source.addEventListener("error", () => {
    const over = source.readyState === EventSource.CLOSED;
    tell(over ? "The log cannot be read: your token may not, or you are signed out." : "The connection is lost; trying again.", !over);
  });
  return () => source.close();
}

for (const button of document.querySelectorAll("button[data-follow]")) {
  const log = document.getElementById(button.dataset.follow);
  const state = document.getElementById(log.dataset.state);
  let stop;
  const tell = (text, going) => {
    state.textContent = text;
    if (!going) stop = undefined;
    button.textContent = going ? "Stop" : "Start";
  };
  button.hidden = false;
  button.addEventListener("click", () => {
    if (stop === undefined) {
      stop = follow(log, tell);
      tell("Connecting.", true);
      return;
    }
    stop();
    tell("Stopped.", false);
  });
}
`;
