import { expect, setDefaultTimeout, test } from "bun:test";
import { culvertConnector, metricsPort, readyConnections, startConnector } from "../support/lab.ts";
import { shareBareLab } from "../support/lab-suite.ts";
import { pollUntil } from "../support/poll-until.ts";
import type { OwnedProcess } from "../support/processes.ts";

setDefaultTimeout(30_000);

const lab = shareBareLab();

const start = (
  protocol: "auto" | "http2",
  over: { edges?: readonly string[]; flags?: readonly string[]; on?: boolean },
) => {
  const { edge, token } = lab();
  const { edges = [], flags = [], on = true } = over;
  return startConnector(culvertConnector(protocol), {
    ...{ token, tunnelPort: edge.tunnelPort, caPath: edge.caPath, url: "http://127.0.0.1:9", edges, flags },
    env: { TUNNEL_NO_PRECHECKS: String(!on) },
  });
};

async function allConnected(connector: OwnedProcess): Promise<void> {
  const port = await metricsPort(connector);
  const options = { what: "four connections", deadlineMs: 20_000 };
  await pollUntil(async () => (await readyConnections(port)) === 4, options);
}

test("a table of what gets through, beside the real start; the edge has no connection more for it", async () => {
  await using connector = start("auto", {});
  await connector.errorLine(/precheck complete hard_fail=false .*suggested_protocol=quic/);
  const table = connector.stderr.split("\n").map((line) => line.replace(/^\S+ INF +/, ""));
  const at = table.indexOf("Connectivity prechecks");
  const { edge } = lab();
  const place = `127\\.0\\.0\\.1:${edge.tunnelPort}`;
  expect(table[at + 1]).toMatch(/^COMPONENT +TARGET +STATUS +DETAILS$/);
  const rest = table.slice(at + 2).join("\n");
  expect(rest).toMatch(new RegExp(`^DNS Resolution +${place} +PASS +${place}`, "m"));
  expect(rest).toMatch(new RegExp(`^UDP Connectivity +${place} +PASS`, "m"));
  expect(rest).toMatch(new RegExp(`^TCP Connectivity +${place} +PASS`, "m"));
  await allConnected(connector);
  const said = edge.process.stderr;
  expect(said.match(/Tunnel connection registered/g)).toHaveLength(4);
  expect(said).not.toMatch(/ (?:WRN|ERR) /);
});

test("an edge that is not there: one JSON object a check, what to do, and the connector goes on", async () => {
  await using connector = start("http2", { edges: ["127.0.0.1:9"], flags: ["--output", "json"] });
  await connector.errorLine(/"precheck complete"/, 15_000);
  const lines = connector.stderr.split("\n").filter((line) => line.startsWith("{"));
  const records = lines.map((line) => JSON.parse(line) as Record<string, unknown>);
  const checks = records.filter(({ message }) => message === "precheck");
  expect(checks.map(({ level }) => level)).toEqual(["info", "info", "warn"]);
  expect(checks.map(({ component, status }) => `${component} ${status}`)).toEqual([
    "DNS Resolution pass",
    "UDP Connectivity skip",
    "TCP Connectivity fail",
  ]);
  const sum = records.find(({ message }) => message === "precheck complete");
  expect(sum).toMatchObject({ level: "warn", hard_fail: true, run_id: checks[0]?.["run_id"] });
  expect(sum).not.toHaveProperty("suggested_protocol");
  expect(connector.end).toBeUndefined();
});

test("--no-prechecks leaves it out", async () => {
  await using connector = start("http2", { on: false });
  await allConnected(connector);
  expect(connector.stderr).not.toMatch(/precheck complete|Connectivity prechecks/);
});
