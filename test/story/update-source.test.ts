import { expect, test } from "bun:test";
import { createServer, type RequestListener } from "node:http";
import type { AddressInfo } from "node:net";
import { TunnelError } from "../../src/core/errors.ts";
import { openSource, type ReleaseFolder, SILENCE_LIMIT_MS } from "../../src/update/source.ts";
import { pollUntil } from "../support/poll-until.ts";
import { VirtualClock } from "../support/virtual-clock.ts";

/** A folder on a server that answers like this. */
async function serve(listener: RequestListener, login = "") {
  const server = createServer(listener);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const clock = new VirtualClock();
  const stop = new AbortController();
  const { port } = server.address() as AddressInfo;
  const source = await openSource(`http://${login}127.0.0.1:${port}/dl`, { clock, signal: stop.signal });
  return {
    folder: source.folder,
    clock,
    stop,
    [Symbol.asyncDispose]: () =>
      new Promise<void>((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

async function failure(reading: Promise<unknown>): Promise<TunnelError> {
  const error = await reading.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  if (!(error instanceof TunnelError)) throw new Error(`no TunnelError: ${error}`);
  return error;
}

async function drain(folder: ReleaseFolder, onChunk: () => void): Promise<void> {
  const { chunks } = await folder.open("culvert", 0);
  for await (const _ of chunks) onChunk();
}

test("a server that never answers is given up after the silence limit, to be tried again", async () => {
  let asked = false;
  await using at = await serve(() => {
    asked = true;
  });
  const reading = failure(at.folder.read("manifest.json", 1000));
  await pollUntil(() => asked, { what: "the server is asked" });
  await at.clock.advance(SILENCE_LIMIT_MS);
  expect(await reading).toMatchObject({ code: "update.failed", retry: "same" });
});

test("a server that falls silent is given up, and one that is only slow is not", async () => {
  const write: { more?: () => void } = {};
  await using at = await serve((_, response) => {
    response.writeHead(200, { "content-length": 1000 }).flushHeaders();
    write.more = () => void response.write("x");
  });
  let chunks = 0;
  const reading = failure(
    drain(at.folder, () => {
      chunks += 1;
    }),
  );
  for (let round = 1; round <= 5; round++) {
    await pollUntil(() => write.more !== undefined, { what: "the head" });
    write.more?.();
    await pollUntil(() => chunks === round, { what: "a chunk" });
    await at.clock.advance(SILENCE_LIMIT_MS - 1);
  }
  await at.clock.advance(1);
  expect(await reading).toMatchObject({ code: "update.failed", retry: "same" });
});

test("being told to stop ends a download at once", async () => {
  let asked = false;
  await using at = await serve(() => {
    asked = true;
  });
  const reading = failure(at.folder.read("manifest.json", 1000));
  await pollUntil(() => asked, { what: "the server is asked" });
  at.stop.abort();
  expect(await reading).toMatchObject({ code: "aborted" });
});

test.each([
  [404, "never"],
  [403, "never"],
  [416, "never"],
  [429, "same"],
  [500, "same"],
  [503, "same"],
] as const)("a server that answers %i: %s again", async (status, retry) => {
  await using at = await serve((_, response) => void response.writeHead(status).end("no"));
  expect(await failure(at.folder.read("manifest.json", 1000))).toMatchObject({ retry });
});

test("another part than was asked for is refused", async () => {
  await using at = await serve((_, response) => {
    response.writeHead(206, { "content-range": "bytes 10-19/100" }).end("0123456789");
  });
  expect(await failure(at.folder.open("culvert", 50))).toMatchObject({ retry: "never" });
  expect((await at.folder.open("culvert", 10)).offset).toBe(10);
});

test("a login goes to the server and is in no message", async () => {
  const seen: (string | undefined)[] = [];
  await using at = await serve((request, response) => {
    seen.push(request.headers.authorization, request.url);
    response.writeHead(404).end();
  }, "me:s%40cret@");
  const error = await failure(at.folder.read("manifest.json", 1000));
  expect(seen).toEqual([`Basic ${btoa("me:s@cret")}`, "/dl/manifest.json"]);
  expect(`${at.folder.name} ${error.message}`).not.toContain("cret");
});
