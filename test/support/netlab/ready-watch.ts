/**
 * Asks a connector again and again how many connections it has: `ready-watch.ts METRICS_PORT`. Prints a line
 * `TIME COUNT` (ms since the epoch) whenever the answer changes; a connector that does not answer has none.
 */
const EVERY_MS = 20;
const url = `http://127.0.0.1:${process.argv[2]}/ready`;
let last = -1;

for (;;) {
  const count = await ask();
  if (count !== last) console.log(`${Date.now()} ${count}`);
  last = count;
  await new Promise((resolve) => setTimeout(resolve, EVERY_MS));
}

async function ask(): Promise<number> {
  try {
    const answer = await fetch(url, { signal: AbortSignal.timeout(2_000) });
    return ((await answer.json()) as { readonly readyConnections: number }).readyConnections;
  } catch {
    return 0;
  }
}
