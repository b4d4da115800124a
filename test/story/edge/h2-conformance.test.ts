import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { MAX_H2_STREAMS } from "../../../src/edge/listener/limits.ts";
import { CLIENT_PREFACE, FLAG, FRAME } from "../../../src/wire/h2/constants.ts";
import { HpackDecoder } from "../../../src/wire/h2/hpack-decoder.ts";
import { headerValue } from "../../../src/wire/headers.ts";
import { H2SPEC_DEVIATIONS, runH2spec } from "../../support/h2spec.ts";
import { pollUntil } from "../../support/poll-until.ts";
import { storeHostnames } from "../../support/stored.ts";
import { H2_CASES, LONG_BODY_BYTES, LONG_PATH, type Reaction, SILENT_PATH, type Step } from "./h2-cases.ts";
import { FrameVisitor, frame, type SeenFrame } from "./h2-visitor.ts";
import { RawVisitor } from "./raw-visitor.ts";
import { answer, readBody, type Serve, type SmallEdge, startSmallEdge } from "./small-edge.ts";

/** A stream above all that cases use. */
const LATER = 101;

/** Says what came: method, path, bytes of body, and two fields that header blocks are tried with. */
const serve: Serve = (stream) =>
  readBody(stream, (body) => {
    const { method, path, headers } = stream.request;
    if (path === SILENT_PATH) return;
    const seen = [headerValue(headers, "user-agent"), headerValue(headers, "custom-key")];
    const text = path === LONG_PATH ? "a".repeat(LONG_BODY_BYTES) : `${method} ${path} ${body.length} bytes ${seen}`;
    answer(stream, { headers: ["Content-Length", String(text.length)], body: method === "HEAD" ? "" : text });
  });

let edge: SmallEdge;
beforeAll(async () => {
  edge = await startSmallEdge({ serve });
});
afterAll(async () => {
  await edge[Symbol.asyncDispose]();
});

async function take(visitor: FrameVisitor, steps: readonly Step[]): Promise<void> {
  for (const step of steps) {
    if (typeof step === "string") visitor.raw.send(step);
    else await pollUntil(() => step.holds(visitor), { what: step.until });
  }
}

async function show(visitor: FrameVisitor, outcome: Reaction): Promise<void> {
  switch (outcome.kind) {
    case "connection":
      await visitor.raw.untilOver();
      expect(visitor.goaway).toBe(outcome.code);
      return;
    case "http1":
      expect(await visitor.raw.untilOver()).toStartWith(`HTTP/1.1 ${outcome.status} `);
      return;
    case "stream": {
      const seen = await pollUntil(() => visitor.of(FRAME.rstStream)[0], { what: "RST_STREAM" });
      expect([seen.streamId, seen.payload.readUInt32BE(0)]).toEqual([outcome.id, outcome.code]);
      break;
    }
    case "answered": {
      const got = await answerOn(visitor, outcome.id);
      expect(got.status).toBe(outcome.status);
      expect(got.body).toContain(outcome.says ?? "");
      break;
    }
    case "tolerated":
      break;
  }
  visitor.request(LATER);
  // Some cases leave new streams a window of next to nothing.
  visitor.send(FRAME.windowUpdate, 0, LATER, [0, 0, 0xff, 0xff]);
  expect((await answerOn(visitor, LATER)).status).toBe(200);
  expect(visitor.of(FRAME.goaway)).toEqual([]);
  if (outcome.kind === "stream") expect(visitor.of(FRAME.rstStream)).toHaveLength(1);
}

/** Waits for a whole answer. */
async function answerOn(visitor: FrameVisitor, id: number): Promise<{ status: number; body: string }> {
  const mine = (): SeenFrame[] => visitor.frames.filter((seen) => seen.streamId === id);
  await pollUntil(() => mine().some(({ type, flags }) => type <= FRAME.headers && (flags & FLAG.endStream) !== 0), {
    what: `an answer on stream ${id}`,
  });
  const head = mine().find(({ type }) => type === FRAME.headers);
  const block = head?.payload ?? Buffer.alloc(0);
  const decoded = new HpackDecoder(100_000).decode(block, 0, block.length);
  const body = mine().filter(({ type }) => type === FRAME.data);
  return {
    status: decoded.kind === "headers" ? Number(decoded.fields[1]) : 0,
    body: Buffer.concat(body.map(({ payload }) => payload)).toString("latin1"),
  };
}

describe("the rules of HTTP/2, one at a time", () => {
  test.each(H2_CASES.map((one) => [`${one.section} ${one.name}`, one] as const))("%s", async (_name, one) => {
    using visitor =
      one.bare === true
        ? FrameVisitor.over(await RawVisitor.connect(edge.listener.port))
        : await FrameVisitor.connect(edge.listener.port);
    await take(visitor, one.steps);
    await show(visitor, one.outcome);
  });

  test("5.1.2 more streams than the edge takes: those over the limit are refused", async () => {
    using visitor = await FrameVisitor.connect(edge.listener.port);
    const fields = [":method", "GET", ":scheme", "http", ":authority", "app.example.com", ":path", SILENT_PATH];
    for (let i = 0; i <= MAX_H2_STREAMS; i += 1) visitor.request(1 + 2 * i, fields);
    const refused = await pollUntil(() => visitor.of(FRAME.rstStream)[0], { what: "a refusal" });
    expect([refused.streamId, refused.payload.readUInt32BE(0)]).toEqual([1 + 2 * MAX_H2_STREAMS, 7]);
  });
});

test("a case is one rule: no two have the same name", () => {
  const names = H2_CASES.map(({ section, name }) => `${section} ${name}`);
  expect(new Set(names).size).toBe(names.length);
  expect(names.length).toBeGreaterThan(140);
});

test("SETTINGS are the first that the edge sends", async () => {
  using visitor = await RawVisitor.connect(edge.listener.port);
  visitor.send(CLIENT_PREFACE + frame(FRAME.settings, 0, 0));
  await pollUntil(() => visitor.received.length > 9, { what: "frames" });
  expect(visitor.received.charCodeAt(3)).toBe(FRAME.settings);
});

const H2SPEC = process.env["H2SPEC_BIN"] ?? "";

test.skipIf(H2SPEC === "")(
  "h2spec itself, against the listener without TLS",
  async () => {
    const tunnel = edge.store.tunnels.get(edge.tunnelId);
    if (tunnel !== undefined) storeHostnames(edge.store, tunnel, ["localhost"]);
    const run = await runH2spec(H2SPEC, { host: "localhost", port: edge.listener.port, tls: false });
    expect(run.failures).toEqual(H2SPEC_DEVIATIONS);
  },
  120_000,
);
