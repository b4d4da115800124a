import {
  type Child,
  type EdgeUnderTest,
  firstLine,
  HOST,
  median,
  type Plan,
  type Protocol,
  progress,
  startConnector,
  startEdge,
  startEdgeAgain,
  stop,
} from "./bench-processes.ts";

/** Between two tries of the visitor, in ms. */
const TRY_EVERY_MS = 5;
const GIVE_UP_MS = 60_000;
/** A tunnel that stood this long counts as established, in ms. */
const ESTABLISHED_MS = 2_000;

interface Restart {
  /** From the kill to the new edge saying that it is ready. */
  readonly edgeReadyMs: number;
  /** From the kill to the first answer that came through the tunnel. */
  readonly answeredMs: number;
}

/** Time without service when the edge is killed under established tunnels and started at once. */
export async function measureRestarts(plan: Plan, times: number): Promise<Record<string, unknown>> {
  const { processes } = plan;
  const originPort = Number(await firstLine(processes.start([process.execPath, "scripts/bench-origin.ts"])));
  const edge = await startEdge(processes, plan.culvert, plan.tunnelIp);
  const running = { process: edge.process };
  const results: { name: string; protocol: Protocol; program: string; restarts: Restart[] }[] = plan.protocols.flatMap(
    (protocol) => plan.connectors.map((connector) => ({ ...connector, protocol, restarts: [] })),
  );
  for (let round = 0; round < times; round++) {
    for (const { name, protocol, program, restarts } of results) {
      progress(`restart ${round + 1} of ${times}: ${name} ${protocol}`);
      const connector = await startConnector(processes, program, protocol, edge, originPort);
      await Bun.sleep(ESTABLISHED_MS);
      restarts.push(await restart(plan, edge, running));
      await stop(connector);
    }
  }
  const show = (values: readonly number[]): string =>
    `${Math.round(median(values) ?? 0)} (${Math.round(Math.min(...values))} to ${Math.round(Math.max(...values))})`;
  console.log(`\nedge killed and started again, median of ${times} (range), ms\n`);
  console.log("| | new edge ready | first answer |\n|---|---:|---:|");
  for (const { name, protocol, restarts } of results) {
    const ready = show(restarts.map(({ edgeReadyMs }) => edgeReadyMs));
    console.log(`| ${name} ${protocol} | ${ready} | ${show(restarts.map(({ answeredMs }) => answeredMs))} |`);
  }
  return Object.fromEntries(results.map(({ name, protocol, restarts }) => [`${name} ${protocol}`, restarts]));
}

async function restart(plan: Plan, edge: EdgeUnderTest, running: { process: Child }): Promise<Restart> {
  const old = running.process;
  const killedAt = performance.now();
  old.kill("SIGKILL");
  await old.exited;
  let edgeReadyMs = 0;
  const started = startEdgeAgain(plan.processes, plan.culvert, edge).then((child) => {
    edgeReadyMs = performance.now() - killedAt;
    running.process = child;
  });
  while (!(await answers(edge.publicPort))) {
    if (performance.now() - killedAt > GIVE_UP_MS) throw new Error(`No answer ${GIVE_UP_MS / 1000} s after the kill`);
    await Bun.sleep(TRY_EVERY_MS);
  }
  const answeredMs = performance.now() - killedAt;
  await started;
  return { edgeReadyMs, answeredMs };
}

async function answers(port: number): Promise<boolean> {
  const headers = { Host: HOST, Connection: "close" };
  try {
    const answer = await fetch(`http://127.0.0.1:${port}/`, { headers, keepalive: false });
    return (await answer.text()) === "hello world";
  } catch {
    return false;
  }
}
