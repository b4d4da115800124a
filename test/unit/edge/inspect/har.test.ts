import { describe, expect, test } from "bun:test";
import { setImmediate } from "node:timers";
import { brotliCompressSync, deflateSync, gzipSync, zstdCompressSync } from "node:zlib";
import { z } from "zod";
import type { TunnelId } from "../../../../src/core/ids.ts";
import { BodyViews, showBody } from "../../../../src/edge/inspect/body-text.ts";
import { harText } from "../../../../src/edge/inspect/har.ts";
import { BodyCopy, MAX_BODY_BYTES, type Recording, Recordings } from "../../../../src/edge/inspect/recording.ts";

/** HTTP Archive 1.2, with its own fields only, and those of ours that begin with `_` as it asks. */
const own = (key: string): boolean => key.startsWith("_");
const strict = <T extends z.ZodRawShape>(shape: T) =>
  z
    .looseObject(shape)
    .refine((value) => Object.keys(value).every((key) => key in shape || own(key)), "Fields that HAR does not have");
const Pair = strict({ name: z.string(), value: z.string(), comment: z.string().optional() });
const Head = {
  httpVersion: z.string(),
  cookies: z.array(Pair),
  headers: z.array(Pair),
  headersSize: z.number().int(),
  bodySize: z.number().int(),
};
const HAR = strict({
  log: strict({
    version: z.literal("1.2"),
    creator: strict({ name: z.string(), version: z.string() }),
    entries: z.array(
      strict({
        startedDateTime: z.iso.datetime(),
        time: z.number().min(0),
        request: strict({
          ...Head,
          method: z.string(),
          url: z.url(),
          queryString: z.array(Pair),
          postData: strict({
            mimeType: z.string(),
            params: z.array(Pair),
            text: z.string(),
            comment: z.string().optional(),
          }).optional(),
        }),
        response: strict({
          ...Head,
          status: z.number().int(),
          statusText: z.string(),
          content: strict({
            size: z.number().int(),
            mimeType: z.string(),
            text: z.string().optional(),
            comment: z.string().optional(),
          }),
          redirectURL: z.string(),
        }),
        cache: strict({}),
        timings: strict({ send: z.number().min(0), wait: z.number().min(0), receive: z.number().min(0) }),
      }).refine(({ time, timings: { send, wait, receive } }) => Math.abs(time - send - wait - receive) < 0.01),
    ),
  }),
});

const TUNNEL = "2f1c7a80-5d0e-4f5c-9d55-0c7a6c2f4b11" as TunnelId;

function record(recordings: Recordings, method: string, path: string, headers: readonly string[] = []): Recording {
  const head = ["X-Forwarded-Proto", "https", ...headers];
  const request = {
    kind: "http",
    method,
    authority: "app.example.test",
    path,
    headers: head,
    bodyless: false,
  } as const;
  return recordings.begin(TUNNEL, request, 1_700_000_000_000, undefined);
}

async function saved(recordings: readonly Recording[]): Promise<string> {
  return (await Array.fromAsync(harText(recordings))).join("");
}

function copyOf(bytes: Uint8Array): BodyCopy {
  const copy = new BodyCopy();
  copy.add(bytes);
  return copy;
}

test("what is saved is HAR 1.2, with secrets hidden", async () => {
  const recordings = new Recordings(10);
  const form = record(recordings, "POST", "/login?next=%2Fhome&token=hunter2", [
    ...["Cookie", "sid=hunter2; theme=dark", "Content-Type", "application/x-www-form-urlencoded"],
  ]);
  form.requestBody.add(Buffer.from("user=ann&password=hunter2"));
  form.status = 302;
  form.headers = ["Location", "/home?code=hunter2", "Set-Cookie", "sid=hunter2; HttpOnly"];
  form.firstByteMs = 3.25;
  form.durationMs = 4.5;
  const packed = record(recordings, "GET", "/");
  packed.status = 200;
  packed.headers = ["Content-Type", "application/json", "Content-Encoding", "gzip"];
  packed.body.add(gzipSync('{"greeting":"hello","secret":"hunter2"}'));
  packed.durationMs = 1;
  const binary = record(recordings, "GET", "/logo.png");
  binary.headers = ["Content-Type", "image/png"];
  binary.body.add(Uint8Array.of(0x89, 0x50, 0, 1, 2));
  record(recordings, "GET", "/running");
  const failed = record(recordings, "PUT", "/failed");
  failed.requestBody.add(Uint8Array.of(0xff, 0xfe));
  failed.error = "Nobody answers";
  failed.durationMs = 2;

  const har = HAR.parse(JSON.parse(await saved(recordings.newestFirst)));
  expect(JSON.stringify(har)).not.toContain("hunter2");
  const { entries } = har.log;
  expect(entries.map(({ request }) => request.url)).toEqual([
    "https://app.example.test/login?next=%2Fhome&token=REDACTED",
    ...["/", "/logo.png", "/running", "/failed"].map((path) => `https://app.example.test${path}`),
  ]);
  expect(entries[0]).toMatchObject({
    time: 4.5,
    timings: { send: 0, wait: 3.25, receive: 1.25 },
    request: {
      queryString: [
        { name: "next", value: "/home" },
        { name: "token", value: "REDACTED" },
      ],
      postData: { text: "user=ann&password=REDACTED", params: [{ name: "user", value: "ann" }, { name: "password" }] },
      cookies: [
        { name: "sid", value: "REDACTED" },
        { name: "theme", value: "REDACTED" },
      ],
    },
    response: { status: 302, statusText: "Found", redirectURL: "/home?code=REDACTED", cookies: [{ name: "sid" }] },
  });
  expect(JSON.parse(entries[1]?.response.content.text ?? "")).toEqual({ greeting: "hello", secret: "REDACTED" });
});

test("nothing of what is saved steers a terminal, and it is the same text", async () => {
  const steering = "\u001b[31mred\u009b2J\u007f\u202eabc\u2028\u{e0041} Grüße 🚇";
  const recordings = new Recordings(1);
  const one = record(recordings, "POST", "/a\u009b31m", ["X-Note", "b\u009b31m", "Content-Type", "text/plain"]);
  one.requestBody.add(Buffer.from(`in ${steering}\r\n\tend`));
  one.headers = ["Content-Type", "application/json"];
  one.body.add(Buffer.from(JSON.stringify({ steering })));
  one.status = 200;
  one.error = `because ${steering}`;
  const text = await saved(recordings.newestFirst);
  expect(text).not.toMatch(/(?!\n)[\p{Cc}\p{Cf}\u2028\u2029]/u);
  expect(text).toContain("Grüße 🚇");
  const { request, response, ...entry } = JSON.parse(text).log.entries[0];
  expect(request.postData.text).toBe(`in ${steering}\r\n\tend`);
  expect(request.headers).toContainEqual({ name: "X-Note", value: "b\u009b31m" });
  expect(JSON.parse(response.content.text)).toEqual({ steering });
  expect(entry._error).toBe(`because ${steering}`);
});

test("bodies are kept up to a limit, and the newest requests", () => {
  const recordings = new Recordings(2);
  const first = record(recordings, "GET", "/1");
  const chunk = new Uint8Array(40_000).fill(0x61);
  first.requestBody.add(chunk);
  first.requestBody.add(chunk);
  chunk.fill(0x62);
  expect([first.requestBody.total, first.requestBody.bytes.length, first.requestBody.cut]).toEqual([
    80_000,
    MAX_BODY_BYTES,
    true,
  ]);
  expect(first.requestBody.bytes.every((byte) => byte === 0x61)).toBe(true);
  record(recordings, "GET", "/2");
  record(recordings, "GET", "/3");
  expect(recordings.newestFirst.map(({ request }) => request.path)).toEqual(["/3", "/2"]);
  expect([recordings.seen, recordings.get(first.id)]).toEqual([3, undefined]);
});

test("a copy does not share the memory of a Buffer, and what was read of it stays when more comes", () => {
  const buffer = Buffer.from("first");
  const copy = copyOf(buffer);
  buffer.fill("x");
  const read = copy.bytes;
  for (let i = 0; i < 1_000; i += 1) copy.add(Buffer.from("."));
  expect([Buffer.from(read).toString(), copy.kept, copy.cut]).toEqual(["first", 1_005, false]);
  expect(Buffer.from(copy.bytes).toString()).toBe(`first${".".repeat(1_000)}`);
});

describe.each([
  ["gzip", gzipSync],
  ["x-gzip", gzipSync],
  ["Deflate", deflateSync],
  ["br", brotliCompressSync],
  ["zstd", zstdCompressSync],
] as const)("a body in %s", (encoding, pack) => {
  const headers = ["Content-Type", "text/plain", "Content-Encoding", encoding];
  const show = (bytes: Uint8Array) => showBody(copyOf(bytes), headers);

  test("is unpacked", async () => {
    expect(await show(pack(Buffer.from("hello")))).toEqual({
      kind: "text",
      text: "hello",
      type: "text/plain",
      cut: false,
    });
    const fits = "x".repeat(MAX_BODY_BYTES);
    expect(await show(pack(Buffer.from(fits)))).toEqual({ kind: "text", text: fits, type: "text/plain", cut: false });
  });

  test("that unpacks to far more shows its beginning", async () => {
    const text = "password=hunter2 hello, ".repeat(1024 * 1024);
    const shown = await show(pack(Buffer.from(text)));
    expect(shown).toMatchObject({ kind: "text", cut: true });
    if (shown.kind !== "text") throw new Error("It is text");
    expect(shown.text.startsWith("password=REDACTED hello, password=")).toBe(true);
    expect(shown.text.length).toBeLessThan(2 * MAX_BODY_BYTES);
    expect(shown.text).not.toContain("hunter2");
  });

  test("that is something else is not shown", async () => {
    expect(await show(Buffer.from("certainly not packed"))).toEqual({ kind: "binary", bytes: 20, type: "text/plain" });
  });
});

test("a body that was cut off while packed is unpacked as far as it goes", async () => {
  const text = Array.from({ length: 20_000 }, (_, i) => (i * 2_654_435_761).toString(36)).join(" ");
  const packed = gzipSync(text);
  expect(packed.length).toBeGreaterThan(MAX_BODY_BYTES);
  const shown = await showBody(copyOf(packed), ["Content-Encoding", "gzip"]);
  if (shown.kind !== "text") throw new Error("It is text");
  expect(shown.cut).toBe(true);
  expect(shown.text.length).toBe(MAX_BODY_BYTES);
  expect(text.startsWith(shown.text)).toBe(true);
});

test("the page decodes a body again when it has changed, and only then", async () => {
  const views = new BodyViews();
  const headers = ["Content-Type", "application/json"];
  const body = copyOf(Buffer.from('{"a":'));
  const first = views.show(body, headers);
  expect(views.show(body, headers)).toBe(first);
  expect(await first).toMatchObject({ text: '{"a":' });
  body.add(Buffer.from('{"token":1}}'));
  const second = views.show(body, headers);
  expect(views.show(body, headers)).toBe(second);
  expect(await second).toMatchObject({ text: '{\n  "a": {\n    "token": "REDACTED"\n  }\n}' });
  expect(views.show(body, ["Content-Type", "text/plain"])).not.toBe(second);
});

test("JSON of many levels is shown without the spaces that would be most of it", async () => {
  const json = "[".repeat(30_000) + "]".repeat(30_000);
  expect(await new BodyViews().show(copyOf(Buffer.from(json)), [])).toMatchObject({ text: json });
});

test("visitors have their turn between two entries of what is saved", async () => {
  const recordings = new Recordings(20);
  for (let i = 0; i < 20; i += 1) {
    const one = record(recordings, "POST", "/", ["Content-Type", "multipart/form-data; boundary=x"]);
    one.requestBody.add(Buffer.from('name="a"\n'.repeat(7_000)));
  }
  let turns = 0;
  let running = true;
  const turn = (): void => {
    turns += 1;
    if (running) setImmediate(turn);
  };
  setImmediate(turn);
  const text = await saved(recordings.newestFirst);
  running = false;
  expect(JSON.parse(text).log.entries).toHaveLength(20);
  expect(turns).toBeGreaterThanOrEqual(20);
});
