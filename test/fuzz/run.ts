// Searches for inputs that break a promise of the code that reads bytes of others: `./scripts/fuzz`.
// Loaded behind coverage.ts, so that inputs which reach new lines are kept.

import { readFileSync, writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { seededRandom } from "../support/seeded-random.ts";
import { loadCorpus, saveCorpus } from "./corpus.ts";
import { counterCount, counters } from "./coverage.ts";
import { type Found, Session } from "./session.ts";
import { Chance } from "./target.ts";
import { TARGETS } from "./targets/index.ts";
import { watch } from "./watch.ts";

const HANG_MS = 30_000;
const HANG_FILE = "dist/fuzz-hang.txt";
/** Of an input in base64; a longer one goes into a file. */
const MAX_SHOWN_CHARS = 1_000;
const FLOODS_PER_TARGET = 8;
const LOOK_EVERY_STEPS = 64;

const { values } = parseArgs({
  options: {
    seconds: { type: "string", default: "60" },
    inputs: { type: "string" },
    target: { type: "string", multiple: true, default: [] },
    seed: { type: "string", default: "1" },
    save: { type: "boolean", default: false },
    list: { type: "boolean", default: false },
    input: { type: "string" },
  },
});

const chosen = values.target.length === 0 ? TARGETS : TARGETS.filter(({ name }) => values.target.includes(name));
const seconds = Number(values.seconds);
/** Of each target, instead of a time: the same search on every machine. */
const inputs = values.inputs === undefined ? undefined : Number(values.inputs);
const seed = Number(values.seed);

function report({ target, error }: Found, smallest: Uint8Array): void {
  const base64 = smallest.toBase64();
  let given = base64;
  if (base64.length > MAX_SHOWN_CHARS) {
    given = `@dist/fuzz-${target}.txt`;
    writeFileSync(given.slice(1), base64);
  }
  console.log(`\nFOUND in ${target}: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`);
  console.log(
    `input of ${smallest.length} bytes: ${JSON.stringify(new TextDecoder().decode(smallest.subarray(0, 300)))}`,
  );
  console.log(`to repeat: ./scripts/fuzz --target ${target} --input ${given}`);
}

/** Tries one input of the command line. */
async function repeat(given: string): Promise<number> {
  const input = Uint8Array.fromBase64(given.startsWith("@") ? readFileSync(given.slice(1), "utf8") : given);
  for (const target of chosen) console.log(`${target.name}: ${await target.run(input)}`);
  return 0;
}

async function fuzz(): Promise<number> {
  const watchdog = watch(HANG_MS, HANG_FILE);
  let failures = 0;
  for (const target of chosen) {
    const chance = new Chance(seededRandom(seed));
    const lines = { counters, count: counterCount };
    const session = new Session(target, chance, { lines, announce: watchdog.announce });
    const saved = loadCorpus(target.name);
    const began = performance.now();
    const spent = (): number => performance.now() - began;
    const share = (): number =>
      inputs === undefined ? (spent() * chosen.length) / (seconds * 1000) : session.executions / inputs;
    let found = await session.start(saved);
    for (let floods = 0; found === undefined && share() < 1; ) {
      if (share() > floods / FLOODS_PER_TARGET) {
        floods += 1;
        found = session.flood();
      }
      for (let i = 0; found === undefined && i < LOOK_EVERY_STEPS; i += 1) found = await session.step();
    }
    const rate = Math.round((session.executions * 1000) / spent());
    console.log(
      `${target.name.padEnd(18)} ${String(session.executions).padStart(9)} inputs ${String(rate).padStart(7)}/s  ` +
        `${String(session.corpus.length).padStart(5)} kept, ${saved.length} saved before`,
    );
    if (found !== undefined) {
      failures += 1;
      report(found, await session.minimised(found));
    } else if (values.save) saveCorpus(target.name, await session.minimal());
  }
  watchdog.stop();
  console.log(failures === 0 ? `no violation (seed ${seed})` : `${failures} targets with a violation (seed ${seed})`);
  return failures === 0 ? 0 : 1;
}

if (values.list) for (const { name } of TARGETS) console.log(name);
else if (chosen.length === 0 || !(seconds > 0) || !((inputs ?? 1) > 0) || !Number.isInteger(seed)) {
  console.error(
    "usage: ./scripts/fuzz [--seconds N | --inputs N] [--target NAME]... [--seed N] [--save] [--input BASE64|@FILE] [--list]",
  );
  process.exitCode = 2;
} else process.exitCode = values.input === undefined ? await fuzz() : await repeat(values.input);
