import { expect, test } from "bun:test";
import { randomBytes } from "node:crypto";
import { createServer } from "node:net";
import { silentLogger } from "../../../src/core/log.ts";
import { createAuthority, createEdgeCertificate } from "../../../src/edge/certificates.ts";
import { type EdgeOptions, startEdge } from "../../../src/edge/edge.ts";
import { managementKey } from "../../../src/edge/management-token.ts";
import type { Change, Store } from "../../../src/edge/store/port.ts";
import { openSqliteStore } from "../../../src/edge/store/sqlite/index.ts";
import { VirtualClock } from "../../support/virtual-clock.ts";

/** A real store that counts who still watches it. */
function watchedStore(clock: VirtualClock): { readonly store: Store; readonly watchers: () => number } {
  const store = openSqliteStore(":memory:", randomBytes(32), clock);
  let watchers = 0;
  const watch = (listener: (change: Change) => void): (() => void) => {
    const stop = store.watch(listener);
    watchers += 1;
    let watching = true;
    return () => {
      stop();
      if (watching) watchers -= 1;
      watching = false;
    };
  };
  return { store: { ...store, watch }, watchers: () => watchers };
}

/** Listens on a port, any when it is 0. Rejects when it is taken. */
async function listen(port = 0): Promise<{ readonly port: number } & AsyncDisposable> {
  const server = createServer();
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(port, "127.0.0.1", resolve);
  });
  const bound = server.address();
  return {
    port: typeof bound === "object" && bound !== null ? bound.port : 0,
    [Symbol.asyncDispose]: () => new Promise((resolve) => server.close(() => resolve())),
  };
}

const SIDES = ["tunnel", "http", "api"] as const;
const authority = createAuthority(Date.now());
const certificate = createEdgeCertificate(authority, ["127.0.0.1"], Date.now());

function options(store: Store): EdgeOptions {
  const anywhere = { host: "127.0.0.1", port: 0 };
  return {
    ...{ store, certificate, http: anywhere, tunnel: anywhere, quic: false, location: "test01", trustedProxies: [] },
    ...{ domain: "edge.example.test", quickTunnels: true },
    api: {
      ...{ ...anywhere, certificate: undefined, ca: authority.cert, optional: false },
      key: managementKey(randomBytes(32)),
    },
  };
}

test.each(SIDES)(
  "an edge whose %s address is taken leaves no timer, no watcher and no listener behind",
  async (side) => {
    await using taken = await listen();
    const others = await Promise.all(
      SIDES.filter((each) => each !== side).map(async (each) => ({ each, at: await listen() })),
    );
    for (const { at } of others) await at[Symbol.asyncDispose]();
    const clock = new VirtualClock();
    const { store, watchers } = watchedStore(clock);
    const all = options(store);
    const asked = { ...all, [side]: { ...all[side], port: taken.port } };
    for (const { each, at } of others) Object.assign(asked, { [each]: { ...all[each], port: at.port } });
    const failed = await startEdge(asked, { clock, log: silentLogger }).catch((error: unknown) => error);
    expect(failed).toMatchObject({ code: "listen.failed" });
    expect({ side, watchers: watchers(), timers: clock.pending }).toEqual({ side, watchers: 0, timers: 0 });
    for (const { at } of others) await (await listen(at.port))[Symbol.asyncDispose]();
    store.close();
  },
);

test("an edge that was closed leaves none either", async () => {
  const clock = new VirtualClock();
  const { store, watchers } = watchedStore(clock);
  const edge = await startEdge(options(store), { clock, log: silentLogger });
  expect(watchers()).toBeGreaterThan(0);
  expect(clock.pending).toBeGreaterThan(0);
  await edge.close(0);
  expect({ watchers: watchers(), timers: clock.pending }).toEqual({ watchers: 0, timers: 0 });
  store.close();
});
