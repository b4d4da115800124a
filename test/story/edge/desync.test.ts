import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { appendFileSync } from "node:fs";
import { http2 } from "../../../src/transport/http2/connector.ts";
import { createQuicTransport } from "../../../src/transport/quic/connector.ts";
import { startSecondParsers } from "../../support/second-parsers.ts";
import { seededRandom } from "../../support/seeded-random.ts";
import { HOSTNAME } from "../../support/whole-path.ts";
import { DESYNC_CASES, followed } from "./desync-cases.ts";
import { H2_DESYNC_CASES } from "./desync-h2-cases.ts";
import { h2Mutant, mutant } from "./desync-mutants.ts";
import { DesyncRig } from "./desync-rig.ts";
import { requestFrame } from "./h2-visitor.ts";

/** Mutated conversations over each transport, and what they may take. */
const MUTANTS = Number(process.env["CULVERT_DESYNC_MUTANTS"] ?? 2_000) / 2;
const FUZZ_MS = 5_000 + 10 * MUTANTS;
const AT_ONCE = 16;
/** Set to repeat a run. */
const SEED = Number(process.env["CULVERT_DESYNC_SEED"] ?? Date.now() % 1_000_000);

/** What every server takes, written as a refusal names it. */
const PLAIN = /^(GET|HEAD|POST|PUT|DELETE) \/((?!%00)[!-~])* \d+$/;

/** Where `scripts/conformance` wants the figures of a run that no count of tests tells, a line of JSON each. */
const FIGURES = process.env["CULVERT_DESYNC_FIGURES"];

function note(figures: Readonly<Record<string, string | number>>): void {
  if (FIGURES !== undefined) appendFileSync(FIGURES, `${JSON.stringify(figures)}\n`);
}

const nextStream = (path: string) => (id: number) =>
  requestFrame(id, [":method", "GET", ":scheme", "http", ":authority", HOSTNAME, ":path", `${path}/next`], true);

describe.each([
  { name: "HTTP/2", transport: http2, firstSeed: 2 * SEED * MUTANTS },
  { name: "QUIC", transport: createQuicTransport(), firstSeed: (2 * SEED + 1) * MUTANTS },
])("over $name", ({ transport, firstSeed }) => {
  let rig: DesyncRig;
  beforeAll(async () => {
    rig = await DesyncRig.start(transport);
  });
  afterAll(async () => {
    await rig[Symbol.asyncDispose]();
  });

  test.each(DESYNC_CASES.map((one, i) => [`${one.group}: ${one.name}`, one, `/c${i}`] as const))(
    "%s",
    async (_name, one, path) => {
      const before = rig.requests;
      const answers = await rig.converse(one.send(path) + followed(path), { ends: one.waits === true });
      expect(answers.map(({ status }) => status)).toEqual([...one.answers]);
      expect(answers.filter(({ fields }) => fields.has("x-seq"))).toHaveLength(rig.requests - before);
      expect(answers.every(({ status, fields }) => (status === 200) === fields.has("x-seq"))).toBe(true);
    },
  );

  test.each(H2_DESYNC_CASES.map((one, i) => [one.name, one, `/h${i}`] as const))(
    "from HTTP/2: %s",
    async (_name, one, path) => {
      const outcome = await rig.converseH2(one.send(path), nextStream(path));
      const seq = outcome.kind === "answered" ? outcome.seq : undefined;
      if (seq !== undefined) rig.claim(seq, one.arrives?.(path));
      expect(seq !== undefined).toBe(one.arrives !== undefined);
      if (outcome.kind === "answered" && seq === undefined) expect(outcome.status).toBeGreaterThanOrEqual(400);
      const others = rig.arrived(path).filter((request) => request.seq !== seq);
      expect(others.map(({ target }) => target)).toEqual(
        outcome.kind === "broken" && others.length === 0 ? [] : [`${path}/next`],
      );
    },
  );

  test(
    `${MUTANTS} conversations with something changed (seed ${SEED})`,
    async () => {
      const endMs = performance.now() + FUZZ_MS;
      let next = 0;
      let ran = 0;
      const work = async (): Promise<void> => {
        while (next < MUTANTS && performance.now() < endMs) {
          const seed = firstSeed + next;
          next += 1;
          await (seed % 4 === 0 ? mutateH2(seed) : mutateH1(seed)).catch((cause: unknown) => {
            throw new Error(`With CULVERT_DESYNC_SEED=${SEED}, mutant ${seed}`, { cause });
          });
          ran += 1;
        }
      };
      await Promise.all(Array.from({ length: AT_ONCE }, work));
      note({ mutants: ran });
      expect(ran).toBeGreaterThan(MUTANTS / 10);
    },
    FUZZ_MS + 10_000,
  );

  const mutateH1 = async (seed: number): Promise<void> => {
    await rig.converse(mutant(seededRandom(seed), `/m${seed}`), { ends: true });
  };

  const mutateH2 = async (seed: number): Promise<void> => {
    const { frames, meaning } = h2Mutant(seededRandom(seed), `/m${seed}`);
    const outcome = await rig.converseH2(frames, nextStream(`/m${seed}`));
    if (outcome.kind === "answered" && outcome.seq !== undefined) rig.claim(outcome.seq, meaning);
  };

  test("in the end the service has read requests alone, each for one visitor; nginx and Node read the same", async () => {
    await rig.settle();
    const parsers = await startSecondParsers();
    expect(parsers.length).toBeGreaterThan(0);
    for (const parser of parsers) {
      await using _ = parser;
      const refusals = await rig.compare(parser);
      note({ parser: parser.name, version: parser.version, requests: rig.requests, refused: refusals.length });
      expect(refusals.map(({ request }) => request).filter((request) => PLAIN.test(request))).toEqual([]);
    }
  }, 120_000);
});

test("there are enough of them, and each has its name", () => {
  const names = DESYNC_CASES.map(({ group, name }) => `${group}: ${name}`);
  expect(new Set(names).size).toBe(names.length);
  expect(names.length).toBeGreaterThanOrEqual(200);
  expect(new Set(H2_DESYNC_CASES.map(({ name }) => name)).size).toBe(H2_DESYNC_CASES.length);
});
