import { expect, test } from "bun:test";
import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { findConnectors, placesToLook } from "../../../src/diag/local-status.ts";
import { makeTempDir } from "../../support/temp-dir.ts";

const AUTH = "ops:pass-word";

test.each([
  { what: "nothing was configured", configured: undefined },
  { what: "any port was", configured: { host: "127.0.0.1", port: 0 } },
])("the password is for none of the known ports: $what", ({ configured }) => {
  const places = placesToLook(configured, AUTH);
  expect(places.length).toBeGreaterThan(1);
  expect(places.filter(({ auth }) => auth !== undefined)).toEqual([]);
});

test.each([
  { configured: { host: "0.0.0.0", port: 20241 }, address: { host: "127.0.0.1", port: 20241 } },
  { configured: { host: "::", port: 9 }, address: { host: "::1", port: 9 } },
  { configured: { path: "/run/metrics.sock" }, address: { path: "/run/metrics.sock" } },
])("the password is for the address that was configured, $address", ({ configured, address }) => {
  const places = placesToLook(configured, AUTH);
  expect(places.filter(({ auth }) => auth !== undefined)).toEqual([{ address, auth: AUTH }]);
  expect(places[0]?.address).toEqual(address);
});

test("a listener that plays a connector sees the password of its own place only", async () => {
  using dir = makeTempDir();
  const seen: (string | undefined)[] = [];
  const server = createServer((request, response) => {
    if (request.url !== "/ready") seen.push(request.headers.authorization);
    response.statusCode = request.url === "/ready" ? 200 : 401;
    response.end(JSON.stringify({ readyConnections: 4, connectorId: "x" }));
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  const address = { host: "127.0.0.1", port };
  const elsewhere = placesToLook({ path: `${dir.path}/none.sock` }, AUTH).slice(0, 1);
  try {
    const ask = async (auth: string | undefined) =>
      (await findConnectors([...elsewhere, { address, auth }], 5_000)).map((one) => [
        one.address,
        one.auth,
        one.denied,
      ]);
    expect(await ask(undefined)).toEqual([[address, undefined, true]]);
    expect(seen.splice(0)).toEqual([undefined, undefined]);
    expect(await ask(AUTH)).toEqual([[address, AUTH, true]]);
    const basic = `Basic ${btoa(AUTH)}`;
    expect(seen).toEqual([basic, basic]);
  } finally {
    server.close();
  }
});
