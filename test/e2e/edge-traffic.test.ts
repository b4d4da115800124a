import { afterAll, beforeAll, expect, test } from "bun:test";
import { join } from "node:path";
import { openStateDir, webhookSecret } from "../../src/edge/state-dir.ts";
import { openSqliteStore } from "../../src/edge/store/sqlite/index.ts";
import { culvertCommand } from "../support/binary.ts";
import { runProcess } from "../support/processes.ts";
import { ACTOR, storeTunnel } from "../support/stored.ts";
import { makeTempDir } from "../support/temp-dir.ts";

const stack = new AsyncDisposableStack();
const stateDir = join(stack.use(makeTempDir()).path, "state");
const state = openStateDir(stateDir, Date.now());
const store = openSqliteStore(state.databasePath, state.sealingKey);
const local = storeTunnel(store, "local");
const remote = storeTunnel(store, "remote");

beforeAll(() => {
  const rules = {
    ingress: [{ hostname: "a.example.com", service: "http://localhost" }, { service: "http_status:404" }],
  };
  store.configurations.put(remote.id, JSON.stringify(rules), ACTOR);
});
afterAll(async () => {
  store.close();
  await stack.disposeAsync();
});

async function edge(line: string) {
  return await runProcess([...culvertCommand(), "edge", ...line.split(" "), "--state-dir", stateDir]);
}

function rulesOf(): readonly { readonly hostname?: string; readonly service: string }[] {
  return (JSON.parse(store.configurations.current(remote.id)?.config ?? "{}") as { ingress: [] }).ingress;
}

test.each([
  { line: "route tcp 0 local a.example.com", code: 255, says: "must be a port" },
  { line: "route tcp 70000 local a.example.com", code: 255, says: "must be a port" },
  { line: "route tcp 5432 local", code: 255, says: "Give PORT TUNNEL HOSTNAME|SERVICE" },
  { line: "route tcp 5432 nobody a.example.com", code: 1, says: 'no tunnel "nobody"' },
  { line: "route tcp 5432 local *.example.com", code: 255, says: "neither a hostname nor a service" },
  { line: "route tcp 5432 local http://localhost:80", code: 255, says: "must be a service such as tcp://" },
  { line: "route tcp 5432 local tcp://localhost:5432", code: 1, says: "are in its connectors' config files" },
  { line: "route tcp 5432 local a.example.com --proxy-protocol v3", code: 255, says: "must be v1 or v2" },
  { line: "route tcp delete 5432", code: 1, says: "leads nowhere" },
  { line: "lb set a.example.com nobody", code: 1, says: 'no pool "nobody"' },
  { line: "lb set a.example.com", code: 255, says: "Give 1 to 20 pools" },
  { line: "lb member add p local --weight 0", code: 255, says: "--weight must be above 0" },
  { line: "lb monitor nobody", code: 1, says: 'no pool "nobody"' },
  { line: "lb delete a.example.com", code: 1, says: "No load balancer has the hostname" },
])("$line is refused: $says", async ({ line, code, says }) => {
  const got = await edge(line);
  expect({ code: got.code, stdout: got.stdout }).toEqual({ code, stdout: "" });
  expect(got.stderr).toContain(says);
  expect(store.tcpRoutes.list()).toEqual([]);
});

test("a service of a tunnel whose rules are kept here becomes its first rule, and goes with the port", async () => {
  const { code, stdout } = await edge("route tcp 5432 remote tcp://localhost:5432 --proxy-protocol v2 --json");
  expect(code).toBe(0);
  expect(JSON.parse(stdout)).toMatchObject({ port: 5432, tunnel: "remote", proxyProtocol: "v2" });
  const hostname = "port-5432.tcp.internal";
  expect(rulesOf().map(({ service }) => service)).toEqual([
    "tcp://localhost:5432",
    "http://localhost",
    "http_status:404",
  ]);
  expect(rulesOf()[0]?.hostname).toBe(hostname);
  expect(store.tcpRoutes.list()).toMatchObject([{ port: 5432, hostname, proxyProtocol: "v2", tunnelId: remote.id }]);
  // Once more with another service: the rule is replaced.
  await edge("route tcp 5432 remote tcp://localhost:5433");
  expect(rulesOf().map(({ service }) => service)).toEqual([
    "tcp://localhost:5433",
    "http://localhost",
    "http_status:404",
  ]);
  expect((await edge(`route tcp 5432 ${local.id} db.example.com`)).stderr).toContain("another tunnel has it");
  expect((await edge("route tcp delete 5432")).code).toBe(0);
  expect(rulesOf()).toHaveLength(2);
  expect(store.tcpRoutes.list()).toEqual([]);
});

test("load balancers and pools are made, shown, changed and deleted", async () => {
  expect((await edge("lb member add main local --weight 2.5")).code).toBe(0);
  expect((await edge(`lb member add main ${remote.id} --disabled`)).code).toBe(0);
  expect((await edge("lb set app.example.com main")).code).toBe(0);
  expect((await edge("lb set app.example.com --steering hash_ip")).code).toBe(0);
  expect((await edge("lb monitor main --path /healthz --interval 10s --expect 200 --healthy-after 5")).code).toBe(0);
  for (const wrong of ["--host *.example.com", "--host a:80", "--path healthz", "--path /é", "--expect 300-200"]) {
    expect([wrong, (await edge(`lb monitor main ${wrong}`)).code]).toEqual([wrong, 255]);
  }
  const hook = await edge("lb webhook main https://hooks.example.com/x");
  expect(hook.stdout.trim()).toBe(webhookSecret(state));
  const { balancers, pools } = JSON.parse((await edge("lb list --json")).stdout) as {
    readonly balancers: readonly unknown[];
    readonly pools: readonly unknown[];
  };
  expect(balancers).toMatchObject([{ hostname: "app.example.com", steering: "hash_ip", pools: ["main"] }]);
  expect(pools).toMatchObject([
    {
      name: "main",
      members: [
        { tunnel: "local", tunnelId: local.id, weight: 2.5, enabled: true },
        { tunnel: "remote", weight: 1, enabled: false },
      ],
      monitor: { path: "/healthz", intervalMs: 10_000, timeoutMs: 5_000, expect: [200, 200], healthyAfter: 5 },
      webhook: "https://hooks.example.com/x",
    },
  ]);
  const table = (await edge("lb list")).stdout;
  expect(table).toContain("local (weight 2.5), remote (disabled)");
  // A webhook's address may hold a secret.
  expect(table).not.toContain("hooks.example.com");
  expect((await edge("lb pool delete main")).stderr).toContain("a balancer uses it");
  for (const line of ["lb webhook main --off", "lb monitor main --off", "lb member remove main remote"]) {
    expect((await edge(line)).code).toBe(0);
  }
  expect(store.balancers.pools()).toMatchObject([
    { monitor: undefined, webhook: undefined, members: [{ weight: 2.5 }] },
  ]);
  expect((await edge("lb delete app.example.com")).code).toBe(0);
  expect((await edge("lb pool delete main")).code).toBe(0);
  expect(store.hostnames.get("app.example.com")).toBeUndefined();
});
