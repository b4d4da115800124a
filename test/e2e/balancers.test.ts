import { describe, expect, test } from "bun:test";
import { join } from "node:path";
import { culvertCommand } from "../support/binary.ts";
import { addTunnel, CONNECTORS, CULVERT, startConnector, startEdgeProcess, startLab } from "../support/lab.ts";
import { CutMessage } from "../support/lab-message.ts";
import { startOrigin } from "../support/origins.ts";
import { pollUntil } from "../support/poll-until.ts";
import { runProcess } from "../support/processes.ts";
import { makeTempDir } from "../support/temp-dir.ts";
import { visit } from "../support/visitors.ts";

const HOST = "lb.lab.example";
const LONG_MS = 90_000;
const WORKERS = 12;

/** `culvert edge …` on this state; gives what it prints. */
async function edgeCommand(stateDir: string, ...args: readonly string[]): Promise<string> {
  const { code, stdout, stderr } = await runProcess([...culvertCommand(), "edge", ...args, "--state-dir", stateDir]);
  if (code !== 0) throw new Error(`edge ${args.join(" ")} ended with ${code}: ${stderr}`);
  return stdout;
}

for (const kind of CONNECTORS) {
  const suite = kind.missing === undefined ? describe : describe.skip;
  suite(`load balancing, ${kind.name}${kind.missing === undefined ? "" : ` (${kind.missing})`}`, () => {
    test(
      "one of two tunnels is killed under load, and no request that may be repeated fails",
      async () => {
        await using stack = new AsyncDisposableStack();
        const dir = stack.use(makeTempDir());
        const stateDir = join(dir.path, "state");
        const origins = [stack.use(await startOrigin()), stack.use(await startOrigin())] as const;
        const hook: { event: string; reason: string | null; tunnel: { name: string } }[] = [];
        const receiver = Bun.serve({
          hostname: "127.0.0.1",
          port: 0,
          fetch: async (request) => {
            hook.push((await request.json()) as (typeof hook)[number]);
            return new Response();
          },
        });
        stack.defer(() => receiver.stop(true));
        const edge = await startEdgeProcess(stateDir);
        stack.use(edge.process);
        const { tunnelPort, caPath, publicPort } = edge;
        const start = async (name: string, which: typeof kind, port: number) => {
          const token = await addTunnel(stateDir, name, [`${name}.lab.example`]);
          const connector = startConnector(which, { token, tunnelPort, caPath, url: `http://127.0.0.1:${port}` });
          stack.use(connector);
          await connector.errorLine(/Registered tunnel connection/);
          return connector;
        };
        const doomed = await start("one", kind, origins[0].port);
        await start("two", CULVERT, origins[1].port);
        await edgeCommand(stateDir, "lb", "member", "add", "main", "one");
        await edgeCommand(stateDir, "lb", "member", "add", "main", "two");
        await edgeCommand(stateDir, "lb", "webhook", "main", `http://127.0.0.1:${receiver.port}/`);
        await edgeCommand(stateDir, "lb", "monitor", "main", "--path", "/hello", "--interval", "1s", "--timeout", "1s");
        await edgeCommand(stateDir, "lb", "set", HOST, "main", "--steering", "round_robin");

        const get = async (): Promise<number> => (await visit(publicPort, { host: HOST, target: "/hello" })).status;
        await pollUntil(async () => (await get()) === 200, { what: "the balancer serves", deadlineMs: 5_000 });
        const bad: string[] = [];
        let done = 0;
        let cut = 0;
        let over = false;
        const worker = async (): Promise<void> => {
          while (!over) {
            // What was sent of an answer before the kill cannot be taken back.
            const status = await get().catch((error: unknown) => (error instanceof CutMessage ? "cut" : String(error)));
            done += 1;
            if (status === "cut") cut += 1;
            else if (status !== 200) bad.push(`request ${done}: ${status}`);
          }
        };
        const workers = Array.from({ length: WORKERS }, worker);
        const reach = async (count: number): Promise<void> => {
          await pollUntil(() => done >= count || bad.length > 0, { what: `${count} requests`, deadlineMs: 30_000 });
        };
        await reach(300);
        await doomed.kill();
        await pollUntil(() => hook.length > 0, { what: "the webhook is told", deadlineMs: 30_000 });
        await reach(done + 300);
        over = true;
        await Promise.all(workers);
        expect(bad).toEqual([]);
        expect(cut).toBeLessThan(WORKERS);
        expect(hook[0]).toMatchObject({ event: "pool.member.unhealthy", tunnel: { name: "one" } });
        const list = JSON.parse(await edgeCommand(stateDir, "lb", "list", "--json")) as {
          readonly balancers: readonly unknown[];
        };
        expect(list.balancers).toMatchObject([{ hostname: HOST, steering: "round_robin", pools: ["main"] }]);
      },
      LONG_MS,
    );
  });
}

test(
  "an edge tells of a tunnel that is away for too long, and of its return, in log, webhook and metrics",
  async () => {
    await using stack = new AsyncDisposableStack();
    const told: { event: string; kind: string }[] = [];
    const receiver = Bun.serve({
      hostname: "127.0.0.1",
      port: 0,
      fetch: async (request) => {
        told.push((await request.json()) as (typeof told)[number]);
        return new Response();
      },
    });
    stack.defer(() => receiver.stop(true));
    const hook = ["--alert-after", "1s", "--alert-webhook", `http://127.0.0.1:${receiver.port}/`];
    const lab = stack.use(await startLab(CULVERT, { edgeFlags: [...hook, "--metrics", "127.0.0.1:0"] }));
    const metrics = async (): Promise<string> =>
      (await visit(lab.edge.metricsPort, { host: "127.0.0.1", target: "/metrics" })).body.toString();
    expect(await metrics()).toContain('culvert_edge_alerts{kind="tunnel"} 0');
    await lab.connector.kill();
    await lab.edge.process.errorLine(/WRN A tunnel has had no connection for a long time .*tunnel=lab/, 25_000);
    expect(await metrics()).toContain('culvert_edge_alerts{kind="tunnel"} 1');
    stack.use(startConnector(CULVERT, lab.run));
    await pollUntil(() => told.length === 2, { what: "both messages", deadlineMs: 20_000 });
    expect(told).toMatchObject([
      { event: "alert.firing", kind: "tunnel" },
      { event: "alert.resolved", kind: "tunnel" },
    ]);
  },
  LONG_MS,
);
