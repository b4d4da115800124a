import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { randomBytes } from "node:crypto";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { systemClock } from "../../../src/core/clock.ts";
import { TunnelError } from "../../../src/core/errors.ts";
import { silentLogger } from "../../../src/core/log.ts";
import { createAuthority, createEdgeCertificate } from "../../../src/edge/certificates.ts";
import { type Edge, startEdge } from "../../../src/edge/edge.ts";
import { SiteDispatch, type SiteHandler } from "../../../src/edge/site/site-dispatch.ts";
import type { Store } from "../../../src/edge/store/port.ts";
import { openSqliteStore } from "../../../src/edge/store/sqlite/index.ts";
import { ACTOR, storeTunnel } from "../../support/stored.ts";
import { makeTempDir } from "../../support/temp-dir.ts";
import { visit } from "../../support/visitors.ts";

const DOMAIN = "edge.example.test";

let edge: Edge;
let store: Store;
const releases = makeTempDir();

beforeAll(async () => {
  store = openSqliteStore(":memory:", randomBytes(32));
  edge = await startEdge(
    {
      ...{ store, certificate: createEdgeCertificate(createAuthority(Date.now()), [], Date.now()) },
      ...{ http: { host: "127.0.0.1", port: 0 }, tunnel: { host: "127.0.0.1", port: 0 }, quic: false },
      ...{ location: "test01", trustedProxies: [], domain: DOMAIN, quickTunnels: true },
      releases: { folder: releases.path, keys: [] },
    },
    { clock: systemClock, log: silentLogger },
  );
});
afterAll(async () => {
  await edge.close(0);
  store.close();
  releases[Symbol.dispose]();
});

const port = (): number => Number(edge.publicAddress.split(":").at(-1));

describe("the edge's own site", () => {
  test("hands out the installer, filled in with where it came from", async () => {
    const { status, body } = await visit(port(), { host: `${DOMAIN}:8080`, target: "/install.sh" });
    expect(status).toBe(200);
    expect(body.toString()).toContain(`DEFAULT_BASE_URL='http://${DOMAIN}:8080'`);
    expect(body.toString()).toEndWith('{ main "$@"; }\n');
    const windows = await visit(port(), { host: `${DOMAIN}:8080`, target: "/install.ps1" });
    expect(windows.body.toString()).toContain(`$DefaultBaseUrl = 'http://${DOMAIN}:8080'`);
  });

  test("hands out releases, whole or from where a download was cut, and nothing beside them", async () => {
    const bytes = randomBytes(3_000_000);
    writeFileSync(join(releases.path, "culvert-1.2.3-linux-x64"), bytes);
    const ask = (target: string, fields: readonly (readonly [string, string])[] = []) =>
      visit(port(), { host: DOMAIN, target, fields });
    const whole = await ask("/dl/culvert-1.2.3-linux-x64");
    expect([whole.status, bytes.equals(whole.body)]).toEqual([200, true]);
    const rest = await ask("/dl/culvert-1.2.3-linux-x64", [["Range", "bytes=2999000-"]]);
    expect([rest.status, bytes.subarray(2_999_000).equals(rest.body)]).toEqual([206, true]);
    for (const target of ["/dl/none", "/dl/..%2fculvert.db", "/dl/%2e%2e/culvert.db", "/dl/"]) {
      expect((await ask(target)).status).toBe(404);
    }
  });

  test("gives a quick tunnel to whoever asks, and lists nothing of it to others", async () => {
    const { status, body } = await visit(port(), { host: DOMAIN, target: "/tunnel", method: "POST" });
    expect(status).toBe(200);
    const answer = JSON.parse(body.toString());
    expect(answer).toMatchObject({ success: true, errors: [], result: { account_tag: "9".repeat(32) } });
    expect(store.hostnames.lookUp(answer.result.hostname)).toEqual({ kind: "tunnel", tunnelId: answer.result.id });
    expect(store.tunnels.find({ accountTag: store.accounts.own().tag }).total).toBe(0);
  });

  test.each([
    { name: "another site", fields: [["Sec-Fetch-Site", "cross-site"]] },
    { name: "another host of this site", fields: [["Sec-Fetch-Site", "same-site"]] },
    { name: "another origin", fields: [["Origin", "https://evil.test"]] },
    { name: "an origin below this one", fields: [["Origin", `http://quick.${DOMAIN}`]] },
    { name: "another port", fields: [["Origin", `http://${DOMAIN}:9999`]] },
    { name: "no origin to speak of", fields: [["Origin", "null"]] },
  ] as const)("makes no tunnel for a page of $name", async ({ fields }) => {
    const before = store.audit.find({}).total;
    const { status, body } = await visit(port(), { host: DOMAIN, target: "/tunnel", method: "POST", fields });
    expect([status, JSON.parse(body.toString())]).toMatchObject([403, { success: false, result: null }]);
    expect(store.audit.find({}).total).toBe(before);
  });

  test.each([
    { host: DOMAIN, origin: `http://${DOMAIN}` },
    { host: DOMAIN, origin: `https://${DOMAIN}` },
    { host: `${DOMAIN}:8080`, origin: `http://${DOMAIN}:8080` },
  ])("makes one for a page of its own at $host, which says $origin", async ({ host, origin }) => {
    const fields = [
      ["Sec-Fetch-Site", "same-origin"],
      ["Origin", origin],
    ] as const;
    expect((await visit(port(), { host, target: "/tunnel", method: "POST", fields })).status).toBe(200);
  });

  test("answers other paths and methods as a web server does", async () => {
    expect((await visit(port(), { host: DOMAIN, target: "/" })).status).toBe(200);
    expect((await visit(port(), { host: DOMAIN, target: "/nothing" })).status).toBe(404);
    expect((await visit(port(), { host: DOMAIN, target: "/tunnel" })).status).toBe(404);
  });

  test("is not there under other names", async () => {
    expect((await visit(port(), { host: "other.example.test", target: "/tunnel", method: "POST" })).status).toBe(404);
  });

  test("makes way for a tunnel that the name is routed to", async () => {
    const tunnel = storeTunnel(store, "mine", { hostnames: [DOMAIN] });
    expect((await visit(port(), { host: DOMAIN, target: "/" })).status).toBe(530);
    store.tunnels.remove(tunnel.id, { kind: "operator", id: "test", from: "" });
    expect((await visit(port(), { host: DOMAIN, target: "/" })).status).toBe(200);
  });

  test("does not make way for a wildcard around it, nor for one of everything", async () => {
    const tunnel = storeTunnel(store, "around", { hostnames: ["*.example.test", "*"] });
    expect((await visit(port(), { host: DOMAIN, target: "/" })).status).toBe(200);
    expect((await visit(port(), { host: DOMAIN.toUpperCase(), target: "/" })).status).toBe(200);
    expect((await visit(port(), { host: `x.${DOMAIN}`, target: "/" })).status).toBe(530);
    expect((await visit(port(), { host: "other.example.test", target: "/" })).status).toBe(530);
    store.tunnels.remove(tunnel.id, ACTOR);
  });

  test("makes way for a route that comes while it runs, and is back when that goes", async () => {
    const tunnel = storeTunnel(store, "member");
    const [zone] = store.accounts.zones(tunnel.accountTag);
    const target = { kind: "tunnel", tunnelId: tunnel.id } as const;
    const route = { hostname: DOMAIN, target, zoneId: zone?.id ?? "", createdAtMs: 0 };
    store.hostnames.put(route, false, ACTOR);
    expect((await visit(port(), { host: DOMAIN, target: "/" })).status).toBe(530);
    store.hostnames.remove(DOMAIN, ACTOR);
    expect((await visit(port(), { host: DOMAIN, target: "/" })).status).toBe(200);
    store.tunnels.remove(tunnel.id, ACTOR);
  });
});

describe("a request to the site", () => {
  const REQUEST = {
    kind: "http",
    method: "POST",
    authority: DOMAIN,
    path: "/x?y",
    headers: [],
    bodyless: false,
  } as const;

  /** Gives what the visitor's side is told, once it is over. */
  function ask(handler: SiteHandler, act: (dispatch: SiteDispatch) => void = (dispatch) => dispatch.end()) {
    const told: unknown[] = [];
    let drains = 0;
    return new Promise<{ told: unknown[]; drains: number }>((resolve) => {
      const dispatch = new SiteDispatch(handler, REQUEST, {
        onRetry: () => {},
        onInformational: () => {},
        onResponse: ({ status, headers }) => told.push([status, ...headers]),
        onData: (chunk) => told.push(chunk.length),
        onEnd: () => told.push("end"),
        onDrain: () => {
          drains += 1;
        },
        onClose: (error) => {
          told.push(error?.code ?? "closed");
          resolve({ told, drains });
        },
      });
      act(dispatch);
    });
  }

  test("holds back who sends more than is read, and lets it go on", async () => {
    const body = new Uint8Array(64 * 1024);
    let held = false;
    const handler: SiteHandler = async (request) =>
      new Response(new TextEncoder().encode(String((await request.arrayBuffer()).byteLength)));
    const { told, drains } = await ask(handler, (dispatch) => {
      dispatch.write(body);
      held = !dispatch.write(body);
      dispatch.end();
    });
    expect(held).toBe(true);
    expect(drains).toBeLessThanOrEqual(1);
    expect(told).toEqual([[200], 6, "end", "closed"]);
  });

  test("a handler that throws ends it with an error", async () => {
    const failing: SiteHandler = () => {
      throw new Error("made up");
    };
    expect((await ask(failing)).told).toEqual(["stream.reset"]);
  });

  test("a visitor that goes away stops the answer", async () => {
    const seen: number[] = [];
    await new Promise<void>((resolve) => {
      const endless = new ReadableStream<Uint8Array>({
        pull: (controller) => controller.enqueue(new Uint8Array(1_000)),
        cancel: () => resolve(),
      });
      const dispatch = new SiteDispatch(() => new Response(endless), REQUEST, {
        ...{ onRetry: () => {}, onInformational: () => {}, onResponse: () => {}, onDrain: () => {} },
        ...{ onEnd: () => {}, onClose: () => {} },
        onData: (chunk) => {
          seen.push(chunk.length);
          if (seen.length === 3) dispatch.abort(new TunnelError("aborted", "The visitor is gone"));
        },
      });
      dispatch.end();
    });
    expect(seen).toHaveLength(3);
  });
});
