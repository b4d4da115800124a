import { expect, test } from "bun:test";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { sendJson } from "../../../src/api-client/http-json.ts";
import { systemLookup } from "../../../src/net/happy-eyeballs.ts";
import { isLocalName, lookupLocal } from "../../../src/net/local-names.ts";

test("names below localhost, and none that only look like one", async () => {
  expect(["edge.localhost", "A.B.LocalHost", "edge.localhost."].map(isLocalName)).toEqual([true, true, true]);
  const others = ["localhost", ".localhost", "localhost.example", "notlocalhost", "edge.localhost.example", ""];
  expect(others.filter(isLocalName)).toEqual([]);
  expect(await lookupLocal("edge.example")).toBeUndefined();
  const found = await systemLookup("edge.localhost");
  expect(found.length).toBeGreaterThan(0);
  expect(found.every((address) => address === "127.0.0.1" || address === "::1")).toBe(true);
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
