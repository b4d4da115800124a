import { expect, test } from "bun:test";
import { createPrivateKey } from "node:crypto";
import { connect } from "node:tls";
import { silentLogger } from "../../../src/core/log.ts";
import { createAuthority, createEdgeCertificate } from "../../../src/edge/certificates.ts";
import { startEdge } from "../../../src/edge/edge.ts";
import { openSqliteStore } from "../../../src/edge/store/sqlite/index.ts";
import { pollUntil } from "../../support/poll-until.ts";
import { VirtualClock } from "../../support/virtual-clock.ts";

const HALF_DAY_MS = 12 * 3_600_000;

/** Serial number of the certificate that is shown at this address. */
function serialAt(port: number, ca: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host: "127.0.0.1", port, ca, servername: "h2.cftunnel.com" }, () => {
      resolve(socket.getPeerCertificate().serialNumber);
      socket.destroy();
    });
    socket.on("error", reject);
  });
}

test("an edge that runs for long shows a new certificate on the same ports before the old one runs out", async () => {
  const clock = new VirtualClock();
  const authority = createAuthority(Date.now());
  const store = openSqliteStore(":memory:", new Uint8Array(32), clock);
  const certificates = [0, 1].map(() => createEdgeCertificate(authority, [], Date.now()));
  const [first, second] = certificates;
  if (first === undefined || second === undefined) throw new Error("two certificates");
  const answers = [undefined, second, undefined];
  const edge = await startEdge(
    {
      store,
      certificate: first,
      renewCertificate: () => answers.shift(),
      http: { host: "127.0.0.1", port: 0 },
      tunnel: { host: "127.0.0.1", port: 0 },
      api: {
        ...{ host: "127.0.0.1", port: 0, certificate: first, ca: authority.cert, optional: false },
        key: createPrivateKey(first.key),
      },
      location: "test01",
      trustedProxies: [],
    },
    { clock, log: silentLogger },
  );
  const port = Number(edge.tunnelAddress.split(":")[1]);
  const apiPort = Number(new URL(edge.apiUrl ?? "").port);
  const before = await serialAt(port, authority.cert);
  await clock.advance(HALF_DAY_MS);
  expect(await serialAt(port, authority.cert)).toBe(before);
  expect(await serialAt(apiPort, authority.cert)).toBe(before);
  await clock.advance(HALF_DAY_MS);
  const after = await pollUntil(() => serialAt(port, authority.cert), { what: "the listener is back" });
  expect(after).not.toBe(before);
  expect(await pollUntil(() => serialAt(apiPort, authority.cert), { what: "the API is back" })).toBe(after);
  await clock.advance(HALF_DAY_MS);
  expect(await serialAt(port, authority.cert)).toBe(after);
  expect(answers).toEqual([]);
  await edge.close(0);
  store.close();
});
