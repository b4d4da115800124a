import { execFile } from "node:child_process";
import { readFileSync } from "node:fs";
import { networkInterfaces } from "node:os";
import type { LocalConnector } from "../diag/local-status.ts";
import { formatAddress } from "../net/socket-errors.ts";
import type { SeenCertificate } from "../net/sockets.ts";
import { type CheckResult, type Finding, finding, judged, skipped } from "./finding.ts";

/** No machine of this program is older: the year it was begun. */
const OLDEST_MS = Date.UTC(2026, 0, 1);
/** Clocks that differ by this much are wrong, in ms. */
const MAX_DRIFT_MS = 5 * 60_000;
/** A busy connector has two sockets for each request. */
const FEW_FILES = 4_096;
/** What the connector asks for is 4 MiB; below this bulk transfers lose packets. */
const SMALL_BUFFER_BYTES = 1024 * 1024;
/** Units that run a connector, ours and cloudflared's. */
const UNITS = ["culvert.service", "culvert@*.service", "cloudflared.service"] as const;

/** The time as a program from outside sees it. */
export interface ForeignTime {
  /** An origin on another machine. */
  readonly origin: string;
  readonly dateMs: number;
}

export interface ClockFacts {
  readonly nowMs: number;
  /** When this program was built, in ms since the epoch; NaN = unknown. */
  readonly builtMs: number;
  /** What edges showed. */
  readonly certificates: readonly SeenCertificate[];
  readonly foreign: readonly ForeignTime[];
}

const SET_CLOCK = "Set the clock and keep it set: timedatectl set-ntp true";

/** Without asking anybody the time: by what this machine sees anyway. */
export function checkClock({ nowMs, builtMs, certificates, foreign }: ClockFacts): CheckResult {
  const now = textOf(nowMs);
  const oldestMs = Math.max(OLDEST_MS, Number.isNaN(builtMs) ? 0 : builtMs);
  if (nowMs < oldestMs) {
    const message = `It is ${now} by this machine's clock, and this program was made after ${textOf(oldestMs)}`;
    return judged([finding("C-101", message, SET_CLOCK)], "");
  }
  const early = certificates.find(({ fromMs }) => nowMs < fromMs);
  if (early !== undefined) {
    const message = `It is ${now} by this machine's clock, and the edge's certificate is valid from ${textOf(early.fromMs)}`;
    return judged([finding("C-101", message, SET_CLOCK)], "");
  }
  const findings = foreign
    .filter(({ dateMs }) => Math.abs(dateMs - nowMs) > MAX_DRIFT_MS)
    .map(({ origin, dateMs }) =>
      finding("C-102", `It is ${now} here and ${textOf(dateMs)} at ${origin}`, "Set the clock that is wrong"),
    );
  return judged(findings, certificates.length > 0 ? `${now}, the edge's certificate agrees` : now);
}

/** Limits of the connectors that run, which a service sets for itself; of this process where none tells. */
export function checkLimits(
  connectors: readonly LocalConnector[],
  read: (path: string) => string = readText,
): CheckResult {
  const limits = attempt(() => read("/proc/self/limits"));
  const own = Number(/^Max open files\s+(\d+)/m.exec(limits ?? "")?.[1]);
  const told = connectors.flatMap(({ address, maxFiles }) =>
    maxFiles === undefined ? [] : [{ whose: `The connector at ${formatAddress(address)}`, files: maxFiles }],
  );
  const known = told.length > 0 ? told : [{ whose: "This user", files: own }];
  const files = Math.min(...known.map((one) => one.files));
  const findings = known
    .filter((one) => one.files < FEW_FILES)
    .map((one) =>
      finding(
        "C-111",
        `${one.whose} may have ${one.files} files and sockets open at once`,
        "Raise it: LimitNOFILE=65536 in the systemd unit, or ulimit -n 65536, and start the connector again",
      ),
    );
  const buffers = ["rmem_max", "wmem_max"].map((name) => ({
    name,
    bytes: Number(attempt(() => read(`/proc/sys/net/core/${name}`)) ?? Number.NaN),
  }));
  const small = buffers.filter(({ bytes }) => bytes < SMALL_BUFFER_BYTES);
  if (small.length > 0) {
    findings.push(
      finding(
        "C-112",
        small.map(({ name, bytes }) => `net.core.${name} is ${bytes} bytes`).join(", "),
        `Raise it for fast transfers over QUIC: sysctl -w ${small.map(({ name }) => `net.core.${name}=7500000`).join(" ")}`,
      ),
    );
  }
  if (Number.isNaN(files) && limits === undefined && buffers.every(({ bytes }) => Number.isNaN(bytes)))
    return skipped("this system does not tell");
  return judged(
    findings,
    `${Number.isNaN(files) ? "any number of" : files} files, UDP buffers of ${buffers[0]?.bytes} bytes`,
  );
}

/** MTU of the interface with this address; undefined = unknown (only Linux tells). */
export function mtuOf(localIp: string | undefined): number | undefined {
  const [name] =
    Object.entries(networkInterfaces()).find(([, list]) => list?.some(({ address }) => address === localIp)) ?? [];
  const mtu = Number(name === undefined ? Number.NaN : attempt(() => readText(`/sys/class/net/${name}/mtu`)));
  return mtu > 0 ? mtu : undefined;
}

/** Asks systemd about services that run a connector; 2 s at most. */
export async function checkService(): Promise<CheckResult> {
  if (process.platform !== "linux") return skipped("only systemd is asked");
  const properties = "Id,LoadState,UnitFileState,ActiveState,SubState,NRestarts,Result";
  const text = await new Promise<string>((resolve) => {
    execFile("systemctl", ["show", `--property=${properties}`, ...UNITS], { timeout: 2_000 }, (_error, stdout) =>
      resolve(String(stdout)),
    );
  });
  return judgeService(text);
}

/** Judges what `systemctl show` prints: blocks of `Key=Value`, an empty line between units. */
export function judgeService(text: string): CheckResult {
  const units = text
    .split(/\n\s*\n/)
    .map((block) => new Map(block.split("\n").map((line) => splitOnce(line.trim()))))
    .filter((unit) => unit.get("LoadState") === "loaded");
  if (units.length === 0) return skipped("no service is installed");
  const findings = units.flatMap((unit): readonly Finding[] => {
    const name = unit.get("Id") ?? "";
    const [active, sub, result] = [unit.get("ActiveState"), unit.get("SubState") ?? "", unit.get("Result") ?? ""];
    if (active !== "active" && active !== "reloading") {
      const why = result === "" || result === "success" ? "" : `, its last run ended with ${result}`;
      return [
        finding(
          "C-121",
          `${name} is ${active} (${sub})${why}`,
          `Read journalctl -u ${name} -n 50, then systemctl restart ${name}`,
        ),
      ];
    }
    const restarts = Number(unit.get("NRestarts") ?? 0);
    if (restarts === 0) return [];
    return [
      finding("C-122", `systemd restarted ${name} ${restarts} times`, `Read journalctl -u ${name} for why it ended`),
    ];
  });
  return judged(findings, units.map((unit) => `${unit.get("Id")} is ${unit.get("ActiveState")}`).join(", "));
}

export interface ConnectorFacts {
  readonly haveService: boolean;
  /** There is a password for the metrics, and nobody named the address that it is for. */
  readonly passwordKept: boolean;
}

export function checkConnectors(
  connectors: readonly LocalConnector[],
  tunnelId: string | undefined,
  { haveService, passwordKept }: ConnectorFacts,
): CheckResult {
  const foreign = connectors.filter((one) => one.tunnelId !== undefined && one.tunnelId !== tunnelId);
  const ours = connectors.filter((one) => !foreign.includes(one));
  const findings: Finding[] = [];
  for (const { address, tunnelId: other } of tunnelId === undefined ? [] : foreign) {
    findings.push(
      finding(
        "C-312",
        `The connector at ${formatAddress(address)} serves tunnel ${other}, and not ${tunnelId}: it is no replica of this tunnel`,
        "Compare the token of that connector with this one; start it with this tunnel's token if it was meant as a replica",
      ),
    );
  }
  for (const one of connectors) {
    if (one.readyConnections > 0) continue;
    findings.push(
      finding(
        "C-313",
        `The connector at ${formatAddress(one.address)} runs and has no connection`,
        "Mend what else is found here; if nothing is, read that connector's log",
        // Of another tunnel: worth a word, and not what is wrong with this one.
        tunnelId !== undefined && foreign.includes(one) ? "warn" : "fail",
      ),
    );
  }
  if (tunnelId !== undefined && ours.filter((one) => one.tunnelId !== undefined).length > 1) {
    findings.push(
      finding(
        "C-311",
        `${ours.length} connectors of this tunnel run on this machine, at ${ours.map(({ address }) => formatAddress(address)).join(", ")}: they go down together`,
        "Run replicas on different machines, or stop all but one",
      ),
    );
  }
  for (const { address } of connectors.filter(({ denied }) => passwordKept && denied)) {
    findings.push(
      finding(
        "C-314",
        `The connector at ${formatAddress(address)} asks for a password, and did not get that of --metrics-auth: it is only sent to an address that was named`,
        "Give --metrics with the address that the connector's log tells: Starting metrics server on …",
      ),
    );
  }
  const [first] = connectors;
  if (first === undefined) {
    return skipped(`none was found${haveService ? "" : ": neither at the known metrics ports nor as a service"}`);
  }
  const { readyConnections: count } = first;
  return judged(
    findings,
    `one at ${formatAddress(first.address)} with ${count === 1 ? "1 connection" : `${count} connections`}`,
  );
}

export function checkVersion(connectors: readonly LocalConnector[], version: string): CheckResult {
  const others = connectors.filter((one) => one.version !== undefined && one.version !== version);
  const findings = others.map(({ address, version: other }) =>
    finding(
      "C-131",
      `The connector at ${formatAddress(address)} is of version ${other}, this program is ${version}`,
      "Restart that connector so that it runs the program that is installed, or run its own doctor",
    ),
  );
  return judged(findings, version);
}

function textOf(ms: number): string {
  return `${new Date(ms).toISOString().slice(0, 16).replace("T", " ")} UTC`;
}

function splitOnce(line: string): [string, string] {
  const at = line.indexOf("=");
  return at < 0 ? [line, ""] : [line.slice(0, at), line.slice(at + 1)];
}

function readText(path: string): string {
  return readFileSync(path, "utf8");
}

function attempt<T>(read: () => T): T | undefined {
  try {
    return read();
  } catch {
    return undefined;
  }
}
