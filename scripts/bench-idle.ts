import { readFileSync } from "node:fs";
import { MAX_VISITOR_CONNECTIONS_PER_IP } from "../src/edge/listener/listener.ts";
import {
  EDGE_CONNECTIONS,
  firstLine,
  HOST,
  type Plan,
  progress,
  rssMb,
  startCommanded,
  startConnector,
  startEdge,
  stop,
} from "./bench-processes.ts";

/** Rest before memory is read, in ms: the runtimes give some of it back within seconds. */
const SETTLE_MS = 5_000;
/** What one idle WebSocket may cost the connector, in KB. */
const GOAL_KB = 20;
/** Descriptors of a process beside the WebSockets' sockets. */
const OTHER_FILES = 200;
/** WebSockets that warm the connector up, so that code and pools are not counted as their cost. */
const WARM_UP = 200;

interface IdleFigures {
  /** WebSockets that were open at once. */
  readonly open: number;
  readonly rssMb: {
    /** No WebSocket yet, warm. */
    readonly before: number;
    readonly opened: number;
    /** After a message each way on each of them. */
    readonly used: number;
    readonly closed: number;
  };
  readonly kbEach: { readonly opened: number; readonly used: number };
  readonly edgeKbEach: number;
}

/** Memory of a connector with many idle WebSockets, all of which go through its connections. */
export async function measureIdleWebSockets(plan: Plan, wanted: number): Promise<Record<string, unknown>> {
  const { processes } = plan;
  const count = Math.min(wanted, fileLimit() - OTHER_FILES);
  if (count < wanted) console.log(`The limit on open files caps the WebSockets at ${count} (ulimit -n)`);
  const originPort = Number(await firstLine(processes.start([process.execPath, "scripts/bench-echo.ts"])));
  const edge = await startEdge(processes, plan.culvert, plan.tunnelIp);
  const edgePid = edge.process.pid;
  const results: Record<string, IdleFigures> = {};
  for (const protocol of plan.protocols) {
    for (const { name, program } of plan.connectors) {
      progress(`${count} idle WebSockets: ${name} ${protocol}`);
      const client = startCommanded<{ open: number; failure?: string }>(processes, "scripts/bench-websockets.ts");
      const connector = await startConnector(processes, program, protocol, edge, originPort);
      const settled = async (pid: number): Promise<number> => {
        await Bun.sleep(SETTLE_MS);
        return rssMb(pid);
      };
      await client(`open ${edge.publicPort} ${HOST} ${WARM_UP} ${MAX_VISITOR_CONNECTIONS_PER_IP}`);
      await client("echo");
      await client("close");
      const before = await settled(connector.pid);
      const edgeBefore = rssMb(edgePid);
      const result = await client(`open ${edge.publicPort} ${HOST} ${count} ${MAX_VISITOR_CONNECTIONS_PER_IP}`);
      if (result.failure !== undefined) {
        console.log(`${name} ${protocol}: only ${result.open} of ${count} WebSockets were opened: ${result.failure}`);
      }
      const opened = await settled(connector.pid);
      const edgeOpened = rssMb(edgePid);
      const echoed = await client("echo");
      if (echoed.open !== result.open) throw new Error(`only ${echoed.open} of ${result.open} answered a message`);
      const used = await settled(connector.pid);
      await client("close");
      const closed = await settled(connector.pid);
      await stop(connector);
      const each = (mb: number, base: number): number => ((mb - base) * 1024) / result.open;
      results[`${name} ${protocol}`] = {
        open: result.open,
        rssMb: { before, opened, used, closed },
        kbEach: { opened: each(opened, before), used: each(used, before) },
        edgeKbEach: each(edgeOpened, edgeBefore),
      };
    }
  }
  print(results);
  return results;
}

function print(results: Readonly<Record<string, IdleFigures>>): void {
  console.log(`\nidle WebSockets through one connector with ${EDGE_CONNECTIONS} connections\n`);
  console.log("| | open | KB each, opened / after a message | connector RSS MB before / opened / used / closed |");
  console.log("|---|---:|---:|---:|");
  for (const [name, { open, rssMb: rss, kbEach }] of Object.entries(results)) {
    const memory = [rss.before, rss.opened, rss.used, rss.closed].map((mb) => mb.toFixed(0)).join(" / ");
    const reached =
      name.startsWith("culvert") && Math.max(kbEach.opened, kbEach.used) > GOAL_KB ? " (not reached)" : "";
    console.log(
      `| ${name} | ${open} | ${kbEach.opened.toFixed(1)} / ${kbEach.used.toFixed(1)}${reached} | ${memory} |`,
    );
  }
  const edge = Object.entries(results).map(([name, { edgeKbEach }]) => `${name} ${edgeKbEach.toFixed(1)}`);
  console.log(`\nedge's KB each, opened (it keeps memory of the runs before): ${edge.join(", ")}`);
}

function fileLimit(): number {
  return Number(/Max open files\s+(\d+)/.exec(readFileSync("/proc/self/limits", "utf8"))?.[1]);
}
