import { describe, expect, test } from "bun:test";
import type { LocalConnector } from "../../../src/diag/local-status.ts";
import { shadowedRules } from "../../../src/doctor/config-checks.ts";
import { checkMtu, checkNetwork, checkTls } from "../../../src/doctor/edge-checks.ts";
import type { TcpProbe, UdpProbe } from "../../../src/doctor/edge-probe.ts";
import { CHECK_ORDER, type CheckResult, judged, skipped } from "../../../src/doctor/finding.ts";
import { checkClock, checkConnectors, checkLimits, checkVersion, judgeService } from "../../../src/doctor/machine.ts";
import { checkOrigins } from "../../../src/doctor/origin-checks.ts";
import type { OriginProbe } from "../../../src/doctor/origin-probe.ts";
import { verdictOf } from "../../../src/doctor/report.ts";
import { DEFAULT_ORIGIN_SETTINGS } from "../../../src/ingress/origin-request.ts";
import { parseIngress } from "../../../src/ingress/rules.ts";
import type { SeenCertificate } from "../../../src/net/sockets.ts";

const codes = ({ findings }: CheckResult): string =>
  findings.map(({ code, severity }) => `${code} ${severity}`).join(", ");

const CERTIFICATE: SeenCertificate = {
  ...{ subject: "edge", issuer: "Culvert edge CA 1", names: ["h2.cftunnel.com"], distrust: undefined },
  ...{ fromMs: Date.UTC(2026, 0, 1), toMs: Date.UTC(2027, 0, 1) },
};

function tcp(over: Partial<TcpProbe> & { family?: 4 | 6 } = {}): TcpProbe {
  const { family = 4, ...rest } = over;
  const host = family === 4 ? "192.0.2.1" : "2001:db8::1";
  const address = { id: host, host, port: 7844, region: "region1", family } as const;
  return {
    address,
    end: "reached",
    connectMs: 10,
    certificate: CERTIFICATE,
    localIp: "192.0.2.9",
    detail: "",
    ...rest,
  };
}
function localConnector(port: number, over: Partial<LocalConnector> = {}): LocalConnector {
  return {
    ...{ address: { host: "127.0.0.1", port }, connectorId: `${port}`, readyConnections: 4 },
    ...{ tunnelId: "a", version: "1.0.0", maxFiles: undefined, auth: undefined, denied: false, ...over },
  };
}
const silent = { end: "silent", connectMs: undefined, certificate: undefined } as const;
const udp = (end: UdpProbe["end"]): UdpProbe => ({ address: tcp().address, end, detail: "no answer" });
const WAY = { protocol: "auto", proxy: undefined, tlsServerName: "h2.cftunnel.com", lacksToken: false } as const;

describe("way to the edge", () => {
  test("addresses of a family without a route are no finding while the other one works", () => {
    const six = tcp({ ...silent, end: "unreachable", family: 6 });
    const both = { tcp: [tcp(), six], udp: [udp("reached")] };
    expect(codes(checkNetwork(both, WAY))).toBe("");
    const timedOut = tcp({ ...silent, family: 6 });
    expect(codes(checkNetwork({ tcp: [tcp(), timedOut], udp: [udp("reached")] }, WAY))).toBe("C-215 warn");
  });

  test.each([
    { protocol: "auto", t: true, u: false, found: "C-211 warn" },
    { protocol: "quic", t: true, u: false, found: "C-211 fail" },
    { protocol: "auto", t: false, u: true, found: "C-212 warn" },
    { protocol: "quic", t: false, u: true, found: "" },
    { protocol: "quic", t: true, u: true, found: "" },
    { protocol: "auto", t: false, u: false, found: "C-213 fail" },
  ] as const)("$protocol with TCP $t, UDP $u: $found", ({ protocol, t, u, found }) => {
    const probes = { tcp: [t ? tcp() : tcp(silent)], udp: [udp(u ? "reached" : "silent")] };
    expect(codes(checkNetwork(probes, { ...WAY, protocol }))).toBe(found);
  });

  test("certificates: whom they are from and for", () => {
    const shown = (distrust: SeenCertificate["distrust"], issuer = CERTIFICATE.issuer): string =>
      codes(checkTls({ tcp: [tcp({ certificate: { ...CERTIFICATE, distrust, issuer } })], udp: [] }, WAY));
    expect(shown(undefined)).toBe("");
    expect(shown("issuer")).toBe("C-232 fail");
    expect(shown("issuer", "ZScaler Root")).toBe("C-231 fail");
    expect(shown("name")).toBe("C-233 fail");
    expect(shown("expired")).toBe("C-234 fail");
    expect(shown("not-yet-valid")).toBe("");
    const cut = { tcp: [tcp({ end: "cut", certificate: undefined })], udp: [udp("reached")] };
    expect(codes(checkTls(cut, WAY))).toBe("C-236 warn");
  });

  test("without a token, whose authority is the edge's, an edge that is not trusted is a warning", () => {
    const way = { ...WAY, lacksToken: true };
    const ofTcp = { tcp: [tcp({ certificate: { ...CERTIFICATE, distrust: "issuer" } })], udp: [] };
    expect(codes(checkTls(ofTcp, way))).toBe("C-232 warn");
    const ofUdp = { tcp: [tcp(silent)], udp: [udp("tls")] };
    expect(codes(checkTls(ofUdp, way))).toBe("C-232 warn");
    expect(codes(checkTls(ofUdp, WAY))).toBe("C-232 fail");
    // Somebody in between is one with or without it.
    const between = { ...CERTIFICATE, distrust: "issuer", issuer: "ZScaler Root" } as const;
    expect(codes(checkTls({ tcp: [tcp({ certificate: between })], udp: [] }, way))).toBe("C-231 fail");
  });

  test("packet size", () => {
    const stalled = { tcp: [tcp({ end: "stalled", certificate: undefined })], udp: [] };
    expect(codes(checkMtu(stalled, () => 1500))).toBe("C-241 fail");
    expect(codes(checkMtu({ tcp: [tcp()], udp: [] }, () => 1200))).toBe("C-242 warn");
    expect(codes(checkMtu({ tcp: [tcp()], udp: [] }, () => undefined))).toBe("");
  });
});

describe("clock", () => {
  const facts = { nowMs: Date.UTC(2026, 5, 1), builtMs: Number.NaN, certificates: [CERTIFICATE], foreign: [] };
  test.each([
    { what: "right", over: {}, found: "" },
    { what: "before this program was built", over: { builtMs: Date.UTC(2026, 6, 1) }, found: "C-101 fail" },
    { what: "decades back", over: { nowMs: 0 }, found: "C-101 fail" },
    {
      what: "before the edge's certificate",
      over: { certificates: [{ ...CERTIFICATE, fromMs: Date.UTC(2026, 7, 1) }] },
      found: "C-101 fail",
    },
    {
      what: "an origin's differs",
      over: { foreign: [{ origin: "db", dateMs: Date.UTC(2026, 5, 2) }] },
      found: "C-102 warn",
    },
  ])("$what: $found", ({ over, found }) => {
    expect(codes(checkClock({ ...facts, ...over }))).toBe(found);
  });
});

test("limits: few files and small buffers", () => {
  const files: Record<string, string> = {
    "/proc/self/limits":
      "Limit  Soft  Hard  Units\nMax open files            1024                 4096                 files\n",
    "/proc/sys/net/core/rmem_max": "212992\n",
    "/proc/sys/net/core/wmem_max": "4194304\n",
  };
  const read = (path: string): string => files[path] ?? "";
  const result = checkLimits([], read);
  expect(codes(result)).toBe("C-111 warn, C-112 warn");
  expect(result.findings[0]?.message).toBe("This user may have 1024 files and sockets open at once");
  expect(result.findings[1]?.message).toBe("net.core.rmem_max is 212992 bytes");
  // A connector that runs has limits of its own, which count.
  expect(codes(checkLimits([localConnector(1, { maxFiles: 65_536 })], read))).toBe("C-112 warn");
  const few = checkLimits([localConnector(1, { maxFiles: 65_536 }), localConnector(2, { maxFiles: 256 })], read);
  expect(codes(few)).toBe("C-111 warn, C-112 warn");
  expect(few.findings[0]?.message).toBe("The connector at 127.0.0.1:2 may have 256 files and sockets open at once");
  const none = checkLimits([], () => {
    throw new Error("no /proc");
  });
  expect(none.status).toBe("skip");
});

test("service: what systemd tells of units that are there", () => {
  const unit = (name: string, ...lines: readonly string[]): string => [`Id=${name}`, ...lines].join("\n");
  const absent = unit("cloudflared.service", "LoadState=not-found", "ActiveState=inactive", "SubState=dead");
  const running = unit("culvert.service", "LoadState=loaded", "ActiveState=active", "SubState=running", "NRestarts=0");
  const failed = unit(
    "culvert.service",
    "LoadState=loaded",
    "ActiveState=failed",
    "SubState=failed",
    "Result=exit-code",
  );
  expect(judgeService("").status).toBe("skip");
  expect(judgeService(absent).status).toBe("skip");
  expect(judgeService(`${running}\n\n${absent}\n`).status).toBe("pass");
  expect(codes(judgeService(`${failed}\n\n${absent}\n`))).toBe("C-121 fail");
  expect(codes(judgeService(running.replace("NRestarts=0", "NRestarts=7")))).toBe("C-122 warn");
});

test("the verdict counts what was left out", () => {
  const all = (skip: readonly string[]) =>
    Object.fromEntries(CHECK_ORDER.map((id) => [id, skip.includes(id) ? skipped("") : judged([], "")]));
  const said = (...skip: readonly string[]) => verdictOf(all(skip) as Parameters<typeof verdictOf>[0]).message;
  expect(said()).toBe("Everything works");
  expect(said("service")).toBe("Nothing is wrong with what was checked; 1 check was left out");
  expect(said("service", "mtu")).toBe("Nothing is wrong with what was checked; 2 checks were left out");
});

describe("connectors of this machine", () => {
  const one = localConnector;
  const facts = { haveService: false, passwordKept: false };
  test.each([
    { what: "none", list: [], found: "" },
    { what: "one that serves", list: [one(1)], found: "" },
    { what: "two of the tunnel", list: [one(1), one(2)], found: "C-311 warn" },
    { what: "one of another tunnel", list: [one(1), one(2, { tunnelId: "b" })], found: "C-312 warn" },
    { what: "one without connections", list: [one(1, { readyConnections: 0 })], found: "C-313 fail" },
    {
      what: "one of another tunnel without connections",
      list: [one(1), one(2, { tunnelId: "b", readyConnections: 0 })],
      found: "C-312 warn, C-313 warn",
    },
  ])("$what: $found", ({ list, found }) => {
    expect(codes(checkConnectors(list, "a", facts))).toBe(found);
  });

  test("one that asks for a password is told of where there is one that went nowhere", () => {
    const list = [one(1), one(2, { tunnelId: undefined, denied: true })];
    expect(codes(checkConnectors(list, "a", facts))).toBe("");
    const kept = checkConnectors(list, "a", { ...facts, passwordKept: true });
    expect(kept.findings.map(({ code, severity, message }) => [code, severity, message])).toEqual([
      ["C-314", "warn", expect.stringContaining("The connector at 127.0.0.1:2 asks for a password, and did not get")],
    ]);
    expect(kept.findings[0]?.todo).not.toContain("127.0.0.1");
  });

  test("their connections are counted in words", () => {
    const said = (readyConnections: number) => checkConnectors([one(1, { readyConnections })], "a", facts).summary;
    expect([said(1), said(4)]).toEqual([
      "one at 127.0.0.1:1 with 1 connection",
      "one at 127.0.0.1:1 with 4 connections",
    ]);
  });

  test("of another version", () => {
    expect(codes(checkVersion([one(1)], "1.0.0"))).toBe("");
    expect(codes(checkVersion([one(1), one(2, { version: undefined })], "1.1.0"))).toBe("C-131 warn");
  });
});

test("rules that never match, and those that do", () => {
  const rule = (hostname: string, path?: string) => ({ hostname, ...(path && { path }), service: "http_status:200" });
  const shadowed = (...rules: readonly ReturnType<typeof rule>[]) => {
    const { rules: parsed } = parseIngress({ ingress: [...rules, { service: "http_status:404" }] });
    if (parsed === undefined) throw new Error("These rules cannot be read");
    return shadowedRules(parsed).map(({ rule: index, by }) => `${index} by ${by}`);
  };
  expect(shadowed(rule("a.example"), rule("A.example"))).toEqual(["1 by 0"]);
  expect(shadowed(rule("*.example"), rule("b.a.example", "^/x"), rule("*.a.example"))).toEqual(["1 by 0", "2 by 0"]);
  expect(shadowed(rule("a.example", "^/api"), rule("a.example", "^/api/v2"), rule("a.example"))).toEqual(["1 by 0"]);
  expect(shadowed(rule("a.example", "^/api"), rule("a.example", "/api"))).toEqual([]);
  expect(shadowed(rule("b.a.example"), rule("*.a.example"), rule("a.example"))).toEqual([]);
  expect(shadowed(rule("a.example", "^/(a|b)"), rule("a.example", "^/a"))).toEqual([]);
});

describe("origins", () => {
  const spec = { kind: "http", host: "app", port: 80 } as const;
  const probed = (over: Partial<OriginProbe>, settings = {}): string => {
    const end = { kind: "answered", status: 200, dateMs: undefined } as const;
    const probe = { end, connectMs: 1, certificate: undefined, serverName: "", otherSchemeWorks: false, ...over };
    return codes(checkOrigins([{ rule: 1, spec, settings: { ...DEFAULT_ORIGIN_SETTINGS, ...settings }, probe }]));
  };

  test("an answer is one, whatever it says, but for 5xx; 501 is about HEAD", () => {
    const answer = (status: number) => probed({ end: { kind: "answered", status, dateMs: undefined } });
    expect([200, 302, 401, 404, 501].map(answer)).toEqual(["", "", "", "", ""]);
    expect([500, 503].map(answer)).toEqual(["C-515 warn", "C-515 warn"]);
  });

  test("no answer", () => {
    expect(probed({ end: { kind: "unreachable", detail: "timed out" }, connectMs: undefined })).toBe("C-502 fail");
    expect(probed({ end: { kind: "tls", detail: "handshake failure" } })).toBe("C-525 fail");
  });

  test("slow to connect, by itself and by connectTimeout", () => {
    expect(probed({ connectMs: 150 })).toBe("");
    expect(probed({ connectMs: 250 })).toBe("C-504 warn");
    expect(probed({ connectMs: 150 }, { connectTimeout: 200 })).toBe("C-504 warn");
    expect(probed({ connectMs: 3 }, { connectTimeout: 4 })).toBe("");
  });

  test("a certificate that has expired", () => {
    expect(probed({ certificate: { ...CERTIFICATE, distrust: "expired" }, serverName: "app" })).toBe("C-523 fail");
  });
});
