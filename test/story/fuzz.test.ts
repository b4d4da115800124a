import { describe, expect, test } from "bun:test";
import { loadCorpus, MAX_CORPUS_INPUTS } from "../fuzz/corpus.ts";
import { MAX_INPUT_BYTES } from "../fuzz/mutate.ts";
import { Session } from "../fuzz/session.ts";
import { Chance } from "../fuzz/target.ts";
import { TARGETS } from "../fuzz/targets/index.ts";
import { seededRandom } from "../support/seeded-random.ts";

/** Fresh inputs a target, and the time they may take where the machine is slow, in ms. */
const STEPS = 2_000;
const STEPS_MS = 1_500;
/** Long streams made of saved inputs. */
const FLOODS = 4;
const SEED = 2026;

describe.each(TARGETS.map((target) => ({ name: target.name, target })))("fuzzing $name", ({ name, target }) => {
  const saved = loadCorpus(name);

  test("the saved inputs are few and short, and break no promise", async () => {
    expect(saved.length).toBeGreaterThan(0);
    expect(saved.length).toBeLessThanOrEqual(MAX_CORPUS_INPUTS);
    for (const input of saved) {
      expect(input.length).toBeLessThanOrEqual(MAX_INPUT_BYTES);
      await target.run(input);
    }
  });

  test("neighbours of them break none either, and are not kept in memory", async () => {
    const session = new Session(target, new Chance(seededRandom(SEED)));
    let found = await session.start(saved);
    for (let i = 0; i < FLOODS && found === undefined; i += 1) found = session.flood();
    const began = performance.now();
    for (let i = 0; i < STEPS && found === undefined && performance.now() - began < STEPS_MS; i += 1) {
      found = await session.step();
    }
    if (found === undefined) return;
    const smallest = await session.minimised(found);
    throw new Error(`./scripts/fuzz --target ${name} --input ${smallest.toBase64()}`, { cause: found.error });
  });
});
