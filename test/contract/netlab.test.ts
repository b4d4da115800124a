import { describe, expect, test } from "bun:test";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { netlabMissing } from "../support/netlab/commands.ts";
import { EDGE_ADDRESS, Netlab } from "../support/netlab/netlab.ts";
import { pollUntil } from "../support/poll-until.ts";
import { type OwnedProcess, startProcess } from "../support/processes.ts";

const missing = netlabMissing();
const ECHO_PORT = 7;
/** Answers every message with the port it came from. */
const ECHO = `
const at = { hostname: "${EDGE_ADDRESS[1]}", port: ${ECHO_PORT} };
Bun.listen({ ...at, socket: { data(socket) { socket.write(socket.remotePort + "\\n"); } } });
await Bun.udpSocket({ ...at, socket: { data(socket, _bytes, port, address) { socket.send(port + "\\n", port, address); }, error() {} } });
console.log("ready");`;
/** Asks every 20 ms over TCP and UDP, and prints \`tcp PORT MS\` and \`udp PORT MS\` for the answers. */
const CLIENT = `
let sentMs = 0;
const say = (kind, bytes) => console.log(kind, bytes.toString().trim().split("\\n").at(-1), Math.round(performance.now() - sentMs));
const udp = await Bun.udpSocket({ socket: { data(_socket, bytes) { say("udp", bytes); }, error() {} } });
const at = { hostname: "${EDGE_ADDRESS[1]}", port: ${ECHO_PORT} };
const tcp = await Bun.connect({ ...at, socket: { data(_socket, bytes) { say("tcp", bytes); }, close() { console.log("tcp closed 0"); } } });
tcp.setNoDelay(true);
setInterval(() => {
  sentMs = performance.now();
  tcp.write("x");
  udp.send("x", at.port, at.hostname);
}, Number(process.argv.at(-1)));`;

interface Line extends AsyncDisposable {
  readonly lab: Netlab;
  /** Answers of this kind that come from now on. */
  answers(kind: "tcp" | "udp"): () => readonly { readonly port: string; readonly tookMs: number }[];
}

async function connectThrough(everyMs = 20): Promise<Line> {
  await using stack = new AsyncDisposableStack();
  const lab = stack.use(new Netlab());
  const echo = stack.use(startProcess(lab.inside("edge1", [process.execPath, "-e", ECHO])));
  await echo.outputLine(/ready/);
  const argv = [process.execPath, "-e", CLIENT, String(everyMs)];
  const client = stack.use(startProcess(lab.inside("site1", argv)));
  await client.outputLine(/tcp \d+ /);
  await client.outputLine(/udp \d+ /);
  const owned = stack.move();
  return {
    lab,
    answers: (kind) => answersOf(client, kind),
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

function answersOf(client: OwnedProcess, kind: string) {
  const from = client.stdout.length;
  return () => {
    const lines = client.stdout.slice(from).split("\n").slice(0, -1);
    return lines.flatMap((line) => {
      const [which, port = "", took] = line.split(" ");
      return which === kind ? [{ port, tookMs: Number(took) }] : [];
    });
  };
}

function namespacesOf(pid: number): readonly string[] {
  return readdirSync("/run/netns").filter((name) => name.startsWith(`culvert-${pid}-`));
}

/** False also for a process that has ended and whose end nobody has asked about yet. */
function runs(pid: number): boolean {
  try {
    return !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, "utf8"));
  } catch {
    return false;
  }
}

describe.skipIf(missing !== undefined)(`network lab${missing === undefined ? "" : ` (${missing})`}`, () => {
  test("UDP blocked at a gate stops UDP alone, until it is restored", async () => {
    await using line = await connectThrough();
    line.lab.blockUdp([1]);
    const [tcp, udp] = [line.answers("tcp"), line.answers("udp")];
    await pollUntil(() => tcp().length >= 10, { what: "TCP goes on" });
    expect(udp().length).toBeLessThanOrEqual(1);
    line.lab.restore();
    await pollUntil(() => udp().length >= 3, { what: "UDP again" });
  });

  test("a cut link passes nothing; after it the same TCP connection goes on", async () => {
    await using line = await connectThrough();
    const before = line.answers("udp");
    await pollUntil(() => before().length >= 3, { what: "UDP before" });
    line.lab.cut([1]);
    const [tcp, udp] = [line.answers("tcp"), line.answers("udp")];
    await new Promise<void>((resolve) => setTimeout(resolve, 300));
    expect([tcp().length <= 1, udp().length <= 1]).toEqual([true, true]);
    line.lab.restore();
    await pollUntil(() => tcp().length >= 2 && udp().length >= 3, { what: "both again" });
    expect(tcp().some(({ port }) => port === "closed")).toBe(false);
  });

  test("a NAT that forgets gives UDP another port, and ends TCP", async () => {
    await using line = await connectThrough();
    const before = line.answers("udp");
    await pollUntil(() => before().length >= 1, { what: "UDP before" });
    const [{ port: oldPort = "" } = {}] = before();
    line.lab.rebind(1);
    const [tcp, udp] = [line.answers("tcp"), line.answers("udp")];
    await pollUntil(() => udp().at(-1)?.port !== oldPort && udp().length >= 3, { what: "UDP from another port" });
    expect([Math.floor(Number(oldPort) / 10_000), Math.floor(Number(udp().at(-1)?.port) / 10_000)]).toEqual([2, 3]);
    await pollUntil(() => tcp().some(({ port }) => port === "closed"), { what: "TCP ended" });
  });

  test("one flow of many is swallowed or reset", async () => {
    await using line = await connectThrough();
    const [port = 0] = line.lab.flows(1, "tcp", ECHO_PORT);
    line.lab.cutFlow(1, "tcp", port);
    const [tcp, udp] = [line.answers("tcp"), line.answers("udp")];
    await pollUntil(() => udp().length >= 10, { what: "UDP goes on" });
    expect(tcp().length).toBeLessThanOrEqual(1);
    line.lab.restore();
    await pollUntil(() => tcp().length >= 2, { what: "TCP again" });
    line.lab.resetFlow(1, port);
    await pollUntil(() => tcp().some((answer) => answer.port === "closed"), { what: "TCP reset" });
  });

  test("a bad line delays and loses", async () => {
    // Asked more slowly than a round trip takes, so that each answer is timed from its own question.
    await using line = await connectThrough(100);
    await line.lab.shape([1], { roundTripMs: 60, lossPercent: 0 });
    const slow = line.answers("udp");
    await pollUntil(() => slow().length >= 5, { what: "late answers" });
    const times = slow().slice(1);
    expect(Math.min(...times.map(({ tookMs }) => tookMs))).toBeGreaterThanOrEqual(58);
    await line.lab.shape([1], { roundTripMs: 0, lossPercent: 100 });
    const lost = line.answers("udp");
    await new Promise<void>((resolve) => setTimeout(resolve, 500));
    expect(lost().length).toBeLessThanOrEqual(1);
    await line.lab.shape([1], undefined);
    await pollUntil(() => lost().length >= 3, { what: "a good line again" });
  });

  test("nothing is left of a lab whose process is killed, nor of what ran in it", async () => {
    const module = join(import.meta.dirname, "..", "support", "netlab", "netlab.ts");
    const script = `
      const { Netlab } = await import(${JSON.stringify(module)});
      const lab = new Netlab();
      const [command, ...args] = lab.inside("edge1", ["sleep", "1000"]);
      const { pid } = (await import("node:child_process")).spawn(command, args);
      console.log("ready", pid);
      setInterval(() => {}, 1_000);`;
    await using owner = startProcess([process.execPath, "-e", script]);
    const [, inside] = await owner.outputLine(/ready (\d+)/);
    expect(namespacesOf(owner.pid).length).toBe(8);
    await owner.kill();
    await pollUntil(() => namespacesOf(owner.pid).length === 0, { what: "all namespaces removed" });
    await pollUntil(() => !runs(Number(inside)), { what: "what ran inside has ended" });
  });
});
