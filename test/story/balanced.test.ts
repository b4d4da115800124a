import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { type IngressRules, parseIngress } from "../../src/ingress/rules.ts";
import { dialLab } from "../support/lab-socket.ts";
import { startOrigin } from "../support/origins.ts";
import { pollUntil } from "../support/poll-until.ts";
import { type Answer, ask } from "../support/visitors.ts";
import { HOSTNAME, startWholePath, type WholePath } from "../support/whole-path.ts";

/** A backend that says its name; `/up` is good while it is well. */
interface Named {
  readonly name: string;
  readonly server: Server;
  readonly port: number;
  well: boolean;
  readonly seen: { url: string; prefix: string | undefined }[];
}

async function startNamed(name: string, port = 0): Promise<Named> {
  const seen: Named["seen"] = [];
  const state = { well: true };
  const server = createServer((request, answer) => {
    let bytes = 0;
    request.on("data", (chunk: Uint8Array) => {
      bytes += chunk.length;
    });
    request.on("end", () => {
      if (request.url === "/up") answer.writeHead(state.well ? 200 : 503).end();
      else {
        seen.push({ url: request.url ?? "", prefix: request.headers["x-forwarded-prefix"] as string | undefined });
        answer.end(`${name} ${bytes}`);
      }
    });
  });
  await new Promise<void>((resolve) => server.listen(port, "127.0.0.1", resolve));
  return Object.assign(state, { name, server, port: (server.address() as AddressInfo).port, seen });
}

function stop({ server }: Named): Promise<unknown> {
  server.closeAllConnections();
  return new Promise((resolve) => server.close(resolve));
}

function rulesOf(...ingress: readonly unknown[]): IngressRules {
  const { rules, issues } = parseIngress({ ingress });
  expect(issues).toEqual([]);
  if (rules === undefined) throw new Error("no rules");
  return rules;
}

let path: WholePath;
let a: Named;
let b: Named;

beforeAll(async () => {
  [a, b] = await Promise.all([startNamed("a"), startNamed("b")]);
  path = await startWholePath();
});

afterAll(async () => {
  await path[Symbol.asyncDispose]();
  await Promise.all([stop(a), stop(b)]);
});

async function visit(target = "/", options: { body?: string; cookie?: string } = {}): Promise<Answer> {
  await using socket = await dialLab(path.publicPort);
  const { body, cookie } = options;
  const fields: [string, string][] = cookie === undefined ? [] : [["Cookie", cookie]];
  return await ask(socket, { host: HOSTNAME, target, fields, ...(body === undefined ? {} : { method: "POST", body }) });
}

/** Who answered so many requests, each name once. */
async function namesOf(count: number): Promise<string[]> {
  const names = new Set<string>();
  for (let i = 0; i < count; i += 1) names.add((await visit()).body.toString().split(" ")[0] ?? "");
  return [...names].sort();
}

/** A connector with these rules, for one test. */
async function withRules(rules: IngressRules, run: () => Promise<void>): Promise<void> {
  const connector = await path.connect({ rules, connections: 1 });
  await connector.ready;
  try {
    await run();
  } finally {
    connector.stop();
    await connector.finished;
  }
}

const at = ({ port }: { readonly port: number }) => `http://127.0.0.1:${port}`;

describe("several services behind a rule", () => {
  test("share the requests by weight, and one that is not there costs no visitor anything", async () => {
    const gone = await startNamed("gone");
    await stop(gone);
    const services = [{ service: at(a), weight: 2 }, at(b), at(gone)];
    await withRules(rulesOf({ services }), async () => {
      const answers: string[] = [];
      for (let i = 0; i < 40; i += 1) {
        const { status, body } = await visit("/upload", { body: "x".repeat(i * 1_000) });
        expect(status).toBe(200);
        answers.push(body.toString());
      }
      expect(answers.map((text) => text.split(" ")[1])).toEqual(answers.map((_, i) => String(i * 1_000)));
      const byA = answers.filter((text) => text.startsWith("a ")).length;
      expect(byA).toBeGreaterThan(20);
      expect(byA).toBeLessThan(34);
    });
  });

  test("that is checked leaves when it is not well, and comes back", async () => {
    const healthCheck = { path: "/up", interval: "100ms", timeout: "1s", healthyAfter: 2, unhealthyAfter: 2 };
    await withRules(rulesOf({ services: [at(a), at(b)], balance: { healthCheck } }), async () => {
      expect(await namesOf(4)).toEqual(["a", "b"]);
      b.well = false;
      await pollUntil(async () => (await namesOf(4)).join() === "a", { what: "b gets no requests" });
      b.well = true;
      await pollUntil(async () => (await namesOf(4)).join() === "a,b", { what: "b is back" });
    });
  });

  test("a visitor with a cookie stays with one, until it is gone", async () => {
    const temporary = await startNamed("temporary");
    const balance = { stickyCookie: "srv", ejectAfter: 1, ejectFor: "1m" };
    await withRules(rulesOf({ services: [at(a), at(temporary)], balance }), async () => {
      let cookie = "";
      await pollUntil(
        async () => {
          const { fields, body } = await visit();
          cookie = fields.find(([name]) => name.toLowerCase() === "set-cookie")?.[1].split(";")[0] ?? "";
          return body.toString().startsWith("temporary");
        },
        { what: "the other one answers" },
      );
      for (let i = 0; i < 6; i += 1) expect((await visit("/", { cookie })).body.toString()).toBe("temporary 0");
      await stop(temporary);
      for (let i = 0; i < 4; i += 1) expect((await visit("/", { cookie })).body.toString()).toBe("a 0");
    });
  });

  test("all gone: 502", async () => {
    const gone = await startNamed("gone");
    await stop(gone);
    await withRules(rulesOf({ services: [at(gone)] }), async () => {
      expect((await visit()).status).toBe(502);
    });
  });
});

test("paths are rewritten on their way, and the service is told what is missing in front", async () => {
  const strip = { pathPrefixStrip: "/app" };
  const rewrite = { pathRewrite: { match: "^/old/(.*)$", replace: "/new/$1" } };
  const ingress = [
    { path: "^/app", service: at(a), originRequest: strip },
    { service: at(a), originRequest: rewrite },
  ];
  await withRules(rulesOf(...ingress), async () => {
    a.seen.length = 0;
    for (const target of ["/app/x?y=1", "/%61pp", "/old/z?/old/", "/other"])
      expect((await visit(target)).status).toBe(200);
    expect(a.seen).toEqual([
      { url: "/x?y=1", prefix: "/app" },
      { url: "/", prefix: "/app" },
      { url: "/new/z?/old/", prefix: undefined },
      { url: "/other", prefix: undefined },
    ]);
  });
});

test("answers that say more than 502: a service that is full, one that is slow, a body that is too long", async () => {
  await using origin = await startOrigin();
  const mute = createServer(() => {});
  await new Promise<void>((resolve) => mute.listen(0, "127.0.0.1", resolve));
  const silent = mute.address() as AddressInfo;
  const service = `http://127.0.0.1:${origin.port}`;
  const ingress = [
    { path: "^/silent", service: at(silent), originRequest: { responseHeaderTimeout: "100ms" } },
    { path: "^/sse", service, originRequest: { maxConnections: 1, connectTimeout: "300ms" } },
    { service, originRequest: { disableChunkedEncoding: true } },
  ];
  await withRules(rulesOf(...ingress), async () => {
    await using holder = await dialLab(path.publicPort);
    await holder.write(`GET /sse?gate=full HTTP/1.1\r\nHost: ${HOSTNAME}\r\n\r\n`);
    await pollUntil(() => origin.seenAt("/sse?gate=full"), { what: "the only connection is taken" });
    expect((await visit("/sse?gate=none")).status).toBe(503);
    origin.open("full");
    expect((await visit("/silent")).status).toBe(504);
    await using sender = await dialLab(path.publicPort);
    const fields = [["Transfer-Encoding", "chunked"]] as const;
    const chunk = `${(1024 * 1024).toString(16)}\r\n${"x".repeat(1024 * 1024)}\r\n`;
    const small = await ask(sender, {
      host: HOSTNAME,
      method: "POST",
      target: "/echo",
      fields,
      body: "5\r\nhello\r\n0\r\n\r\n",
    });
    const told = JSON.parse(small.body.toString()) as { body: string; fields: [string, string][] };
    expect(told.body).toBe("hello");
    expect(told.fields.map(([name, value]) => `${name}: ${value}`)).toContain("Content-Length: 5");
    const large = await ask(sender, {
      host: HOSTNAME,
      method: "POST",
      target: "/upload",
      fields,
      body: `${chunk.repeat(5)}0\r\n\r\n`,
    });
    expect(large.status).toBe(413);
  });
  mute.closeAllConnections();
  mute.close();
});
