import { expect, test } from "bun:test";
import { singleRule } from "../../src/ingress/rules.ts";
import { http2 } from "../../src/transport/http2/connector.ts";
import type { Transport } from "../../src/transport/port.ts";
import { createQuicTransport } from "../../src/transport/quic/connector.ts";
import { createUdpCut } from "../support/faults/udp/gate.ts";
import { pollUntil } from "../support/poll-until.ts";
import { startUdpFaultProxy } from "../support/udp-fault-proxy.ts";
import { HOSTNAME, startWholePath, type WholePath } from "../support/whole-path.ts";

async function status(path: WholePath, init: RequestInit = {}): Promise<number> {
  const answer = await fetch(`http://127.0.0.1:${path.publicPort}/`, { ...init, headers: { Host: HOSTNAME } });
  await answer.arrayBuffer();
  return answer.status;
}

const ANSWER = singleRule({ kind: "http_status", status: 200 });

function protocols(path: WholePath): string[] {
  return path.edge.registry
    .all()
    .filter(({ draining }) => !draining)
    .map(({ session }) => session.protocol);
}

test("UDP that is blocked and works again: HTTP/2 meanwhile, then QUIC, without a failed request", async () => {
  await using path = await startWholePath();
  const cut = createUdpCut();
  await using udp = await startUdpFaultProxy(
    { host: "127.0.0.1", port: path.tunnelPort },
    { up: [cut.fault], down: [cut.fault] },
  );
  // Both transports dial one port; only UDP goes through the fault.
  const tcp: Transport = { ...http2, dial: (to, options) => http2.dial({ ...to, port: path.tunnelPort }, options) };
  cut.begin();
  await path.connect({ rules: ANSWER, transports: [createQuicTransport(), tcp], via: udp.port });
  await pollUntil(() => protocols(path).includes("http2"), { what: "HTTP/2 serves", deadlineMs: 10_000 });
  await pollUntil(() => protocols(path).length === 4, { what: "all connections are up", deadlineMs: 10_000 });
  cut.end();
  const failed: number[] = [];
  await pollUntil(
    async () => {
      const got = await status(path);
      if (got !== 200) failed.push(got);
      return protocols(path).filter((name) => name === "quic").length === 4;
    },
    { what: "QUIC carries all again", deadlineMs: 60_000, everyMs: 10 },
  );
  expect(failed).toEqual([]);
}, 90_000);

test("a connector that dies without a word costs a visitor less than a second, and the next ones nothing", async () => {
  await using path = await startWholePath();
  const cut = createUdpCut();
  await using udp = await startUdpFaultProxy(
    { host: "127.0.0.1", port: path.tunnelPort },
    { up: [cut.fault], down: [cut.fault] },
  );
  await path.connect({ rules: ANSWER, transports: [createQuicTransport()], via: udp.port });
  await path.connect({ rules: ANSWER, transports: [createQuicTransport()] });
  await pollUntil(() => path.edge.registry.size === 8, { what: "two connectors", deadlineMs: 10_000 });
  cut.begin();
  const tookMs: number[] = [];
  for (let i = 0; i < 40; i++) {
    const startMs = performance.now();
    expect(await status(path)).toBe(200);
    tookMs.push(performance.now() - startMs);
  }
  expect(Math.max(...tookMs)).toBeLessThan(1_500);
  // Each of the four dead connections is found out once.
  expect(tookMs.filter((ms) => ms > 200).length).toBeLessThanOrEqual(4);
}, 30_000);

test.each([{ name: "quic" }, { name: "http2" }])(
  "an edge that stops over $name lets a running answer finish, and its connectors know at once",
  async ({ name }) => {
    await using path = await startWholePath();
    const transports = [name === "quic" ? createQuicTransport() : http2];
    await path.connect({ transports });
    await pollUntil(() => protocols(path).length === 4, { what: "all connections are up", deadlineMs: 10_000 });
    const events = await fetch(`http://127.0.0.1:${path.publicPort}/sse?freq=50ms`, { headers: { Host: HOSTNAME } });
    expect(events.status).toBe(200);
    const reader = events.body?.getReader();
    await reader?.read();
    const stopped = path.stopEdge(300);
    // It goes on while the edge waits for it.
    expect((await reader?.read())?.done).toBe(false);
    await stopped;
    expect(path.edge.registry.size).toBe(0);
  },
  20_000,
);
