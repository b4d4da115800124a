import { expect, test } from "bun:test";
import { createServer } from "node:http";
import type { AddressInfo, LookupFunction } from "node:net";
import { sendJson } from "../../../src/api-client/http-json.ts";
import { systemLookup } from "../../../src/net/happy-eyeballs.ts";
import { answerLocal, lookupFrom, lookupLocal } from "../../../src/net/local-names.ts";
import { isLocalName } from "../../../src/net/loopback.ts";

test("names below localhost, and none that only look like one", async () => {
  expect(["edge.localhost", "A.B.LocalHost", "edge.localhost."].map(isLocalName)).toEqual([true, true, true]);
  const others = ["localhost", ".localhost", "localhost.example", "notlocalhost", "edge.localhost.example", ""];
  expect(others.filter(isLocalName)).toEqual([]);
  expect(await lookupLocal("edge.example")).toBeUndefined();
  const found = await systemLookup("edge.localhost");
  expect(found.length).toBeGreaterThan(0);
  expect(found.every((address) => address === "127.0.0.1" || address === "::1")).toBe(true);
});

/** What a lookup calls back with, an error as its code. */
function ask(lookup: LookupFunction, options: Parameters<LookupFunction>[1]): Promise<readonly unknown[]> {
  const { promise, resolve } = Promise.withResolvers<readonly unknown[]>();
  lookup("edge.localhost", options, (error, ...rest) => resolve(error === null ? rest : [error.code]));
  return promise;
}

test("Node's clients get the family that they ask for, and the order that the system gives", async () => {
  const both = lookupFrom(async () => ["::1", "127.0.0.1", "127.0.0.2"]);
  for (const family of [undefined, 0]) expect(await ask(both, { family })).toEqual(["::1", 6]);
  for (const family of [6, "IPv6"] as const) expect(await ask(both, { family })).toEqual(["::1", 6]);
  for (const family of [4, "IPv4"] as const) expect(await ask(both, { family })).toEqual(["127.0.0.1", 4]);

  const six = { address: "::1", family: 6 };
  const four = ["127.0.0.1", "127.0.0.2"].map((address) => ({ address, family: 4 }));
  expect(await ask(both, { all: true })).toEqual([[six, ...four]]);
  expect(await ask(both, { all: true, family: 4 })).toEqual([four]);
  expect(await ask(both, { all: true, family: 6 })).toEqual([[six]]);

  const old = lookupFrom(async () => ["127.0.0.1"]);
  for (const all of [false, true]) expect(await ask(old, { all, family: 6 })).toEqual(["ENOTFOUND"]);
});

test("names below localhost have the addresses of localhost itself", async () => {
  const [first = ""] = (await lookupLocal("edge.localhost")) ?? [];
  expect(await ask(answerLocal, {})).toEqual([first, first.includes(":") ? 6 : 4]);
});

test("the API's client finds such a name, and tells it to the server", async () => {
  const server = createServer((request, response) => response.end(request.headers.host));
  const { promise: listening, resolve } = Promise.withResolvers<void>();
  server.listen(0, "localhost", resolve);
  await listening;
  try {
    const { port } = server.address() as AddressInfo;
    const { status, text } = await sendJson({
      ...{ method: "GET", url: new URL(`http://edge.localhost:${port}/`), headers: {}, body: undefined },
      ...{ ca: undefined, timeoutMs: 5_000, signal: new AbortController().signal },
    });
    expect([status, text]).toEqual([200, `edge.localhost:${port}`]);
  } finally {
    server.close();
  }
});
