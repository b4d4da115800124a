import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { execFileSync } from "node:child_process";
import { once } from "node:events";
import { readFileSync, writeFileSync } from "node:fs";
import { createServer as createHttpServer } from "node:http";
import { createServer as createHttpsServer } from "node:https";
import { type AddressInfo, createServer, type Server } from "node:net";
import { join } from "node:path";
import { KNOWN_METRICS_PORTS } from "../../src/ops/metrics-server.ts";
import { culvertCommand } from "../support/binary.ts";
import { type Examined, examine } from "../support/doctor.ts";
import {
  addTunnel,
  cleanEnvironment,
  culvertConnector,
  HOST,
  metricsPort,
  startConnector,
  startEdgeProcess,
} from "../support/lab.ts";
import { shareBareLab } from "../support/lab-suite.ts";
import { startManagedEdge } from "../support/managed-edge.ts";
import { startOrigin } from "../support/origins.ts";
import { pollUntil } from "../support/poll-until.ts";
import { runProcess } from "../support/processes.ts";
import { makeTempDir } from "../support/temp-dir.ts";
import { openVisit, visit } from "../support/visitors.ts";

setDefaultTimeout(30_000);

const lab = shareBareLab();

const doctor = (...args: readonly string[]): Promise<Examined> => examine(["--token", lab().token, ...args]);

/** Findings about the tunnel's own parts: those about the machine that tests run on are another matter. */
function findings({ report }: Examined, id: string) {
  return report.checks.find((check) => check.id === id)?.findings ?? [];
}
const codesOf = (examined: Examined, id: string): readonly string[] => findings(examined, id).map(({ code }) => code);

async function listening(server: Server): Promise<{ readonly port: number } & AsyncDisposable> {
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  return {
    port,
    [Symbol.asyncDispose]: async () => {
      server.close();
      (server as { closeAllConnections?: () => void }).closeAllConnections?.();
    },
  };
}

/** Listens at the first of the ports where connectors have their metrics that is free. */
async function listenAtKnownPort(server: Server): Promise<number> {
  for (const port of KNOWN_METRICS_PORTS) {
    const taken = await new Promise<boolean>((resolve) => {
      server.once("error", () => resolve(true));
      server.listen(port, "127.0.0.1", () => resolve(false));
    });
    if (!taken) return port;
  }
  throw new Error("All the known metrics ports are taken");
}

interface Pair {
  readonly cert: string;
  readonly key: string;
  readonly caPath: string;
}

/** A certificate for these names from an authority of its own. */
function certificateOf(names: readonly string[], days = 2): Pair {
  const at = (name: string): string => join(lab().dir, `${names.join("+").replaceAll("*", "x")}-${name}`);
  const key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
  const openssl = (...args: readonly string[]): void => void execFileSync("openssl", args, { stdio: "ignore" });
  openssl("req", "-x509", ...key, "-days", "9", "-subj", "/CN=Corporate CA", "-keyout", at("ca.key"), "-out", at("ca"));
  const extension = `subjectAltName=${names.map((name) => `DNS:${name}`).join(",")}`;
  openssl("req", ...key, "-subj", "/CN=app", "-addext", extension, "-keyout", at("key"), "-out", at("csr"));
  const sign = ["-CA", at("ca"), "-CAkey", at("ca.key"), "-days", String(days), "-copy_extensions", "copy"];
  openssl("x509", "-req", "-in", at("csr"), ...sign, "-out", at("cert"));
  return { cert: readFileSync(at("cert"), "utf8"), key: readFileSync(at("key"), "utf8"), caPath: at("ca") };
}

function configFile(name: string, text: string): string {
  const path = join(lab().dir, name);
  writeFileSync(path, text);
  return path;
}

describe("case 1: the connector cannot connect", () => {
  test("a token that was cut when it was copied: C-302, and nothing else is guessed", async () => {
    const { token } = lab();
    const examined = await examine(["--token", token.slice(0, -40), "--hello-world"]);
    expect([examined.report.verdict.code, examined.exitCode]).toEqual(["C-302", 1]);
    expect(examined.status("network")).toBe("skip");
    expect(JSON.stringify(examined.report)).not.toContain(token.slice(20, 60));
  });

  test("an edge of one's own and no usable token: the token is the verdict, not the authority that comes with it", async () => {
    const edge = ["--edge", `127.0.0.1:${lab().edge.tunnelPort}`, "--hello-world"];
    const cases = [
      [["--token", "garbage"], "C-302"],
      [["--api-url", `http://127.0.0.1:${lab().edge.publicPort}`, "web"], "C-302"],
      [[], "C-301"],
    ] as const;
    for (const [args, code] of cases) {
      const examined = await examine([...edge, ...args]);
      expect([examined.report.verdict.code, examined.exitCode]).toEqual([code, 1]);
      expect(findings(examined, "tls").map((found) => [found.code, found.severity])).toEqual([["C-232", "warn"]]);
    }
    // With the authority the edge is trusted, whoever the tunnel is.
    const trusted = await examine([...edge, "--token", "garbage", "--cacert", lab().edge.caPath]);
    expect([trusted.report.verdict.code, trusted.status("tls")]).toEqual(["C-302", "pass"]);
  });

  test("a token of a tunnel that is gone: C-303, in the edge's words", async () => {
    const { stateDir } = lab();
    const gone = await addTunnel(stateDir, "gone", ["gone.lab.example"]);
    const argv = [...culvertCommand(), "edge", "tunnel", "delete", "gone", "--force", "--state-dir", stateDir];
    expect((await runProcess(argv, { env: cleanEnvironment() })).code).toBe(0);
    const examined = await examine(["--token", gone, "--hello-world"]);
    expect([examined.report.verdict.code, examined.exitCode]).toEqual(["C-303", 1]);
    // On a busy machine the edge is as good as far away, which is a warning.
    expect(examined.status("network")).not.toBe("fail");
  });

  test("no token at all: C-301", async () => {
    const examined = await examine(["--hello-world"]);
    expect(examined.report.verdict.code).toBe("C-301");
  });

  test("a proxy that is not there, and one that wants a password: C-221 names it, never its password", async () => {
    const flags = ["--edge", "198.51.100.7:7844", "--hello-world"];
    const dead = await doctor(...flags, "--edge-proxy", "http://user:hunter2@127.0.0.1:9");
    expect([dead.report.verdict.code, dead.report.verdict.message]).toEqual([
      "C-221",
      expect.stringContaining("127.0.0.1:9"),
    ]);
    expect(JSON.stringify(dead.report)).not.toContain("hunter2");
    await using strict = await listening(
      createHttpServer().on("connect", (_request, socket) => {
        socket.end("HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\n\r\n");
      }),
    );
    const refused = await doctor(...flags, "--edge-proxy", `http://127.0.0.1:${strict.port}`);
    expect(refused.report.verdict.code).toBe("C-221");
    expect(refused.report.verdict.message).toMatch(/407|user name|password/i);
    const quic = await doctor(...flags, "--protocol", "quic", "--edge-proxy", `http://127.0.0.1:${strict.port}`);
    expect(codesOf(quic, "network")).toContain("C-222");
  });

  test("an edge with another authority: C-232; something that is no edge: C-235", async () => {
    const other = makeTempDir();
    await using second = await startEdgeProcess(join(other.path, "state")).then(({ process, tunnelPort }) => ({
      tunnelPort,
      [Symbol.asyncDispose]: () => process[Symbol.asyncDispose](),
    }));
    using _other = other;
    const moved = await doctor("--edge", `127.0.0.1:${second.tunnelPort}`, "--hello-world");
    expect(moved.report.verdict.code).toBe("C-232");
    await using web = await listening(createHttpServer((_request, response) => response.end("hello")));
    const wrong = await doctor("--edge", `127.0.0.1:${web.port}`, "--hello-world");
    expect(codesOf(wrong, "tls")).toEqual(["C-235"]);
  });
});

describe("case 2: the tunnel is up, and visitors get 502", () => {
  test("the origin is down: C-501 names rule and address; up again, all is well", async () => {
    await using origin = await startOrigin();
    const up = await doctor("--url", `http://127.0.0.1:${origin.port}`);
    expect(up.status("origins")).toBe("pass");
    const down = await doctor("--url", "http://127.0.0.1:9");
    expect([down.report.verdict.code, down.exitCode]).toEqual(["C-501", 1]);
    expect(down.report.verdict.message).toContain("Rule #1, http://127.0.0.1:9");
  });

  test("http:// to a service with TLS, https:// to one without: C-512 and C-511 say what to write", async () => {
    const { cert, key } = certificateOf(["localhost"]);
    await using secure = await listening(
      createHttpsServer({ cert, key }, (_request, response) => response.end("hello")),
    );
    await using plain = await listening(createHttpServer((_request, response) => response.end("hello")));
    const config = configFile(
      "schemes.yml",
      `ingress:
  - hostname: a.example
    service: http://localhost:${secure.port}
  - hostname: b.example
    service: https://localhost:${plain.port}
  - service: http_status:404
`,
    );
    const examined = await doctor("--config", config);
    const found = findings(examined, "origins");
    expect(found.map(({ code }) => code)).toEqual(["C-512", "C-511"]);
    expect(found[0]?.todo).toContain(`https://localhost:${secure.port}`);
    expect(found[1]?.todo).toContain(`http://localhost:${plain.port}`);
  });

  test("an SSH server behind http://, a mute service, one that fails, a name that is none", async () => {
    await using ssh = await listening(createServer((socket) => void socket.end("SSH-2.0-OpenSSH_9.2\r\n")));
    await using mute = await listening(createServer(() => {}));
    await using failing = await listening(
      createHttpServer((_request, response) => response.writeHead(500).end("no database")),
    );
    const config = configFile(
      "wrong.yml",
      `ingress:
  - { hostname: a.example, service: "http://127.0.0.1:${ssh.port}" }
  - { hostname: b.example, service: "http://127.0.0.1:${mute.port}" }
  - { hostname: c.example, service: "http://127.0.0.1:${failing.port}" }
  - { hostname: d.example, service: "http://no-such-host.invalid:80" }
  - { service: "http_status:404" }
`,
    );
    const examined = await doctor("--config", config);
    expect(codesOf(examined, "origins")).toEqual(["C-513", "C-514", "C-515", "C-503"]);
    expect(findings(examined, "origins")[0]?.message).toContain("SSH-2.0");
    expect(examined.report.ms).toBeLessThan(10_000);
  });

  test("rules in the wrong order: C-404; a rule file with an error: C-401 and its line", async () => {
    const shadowed = configFile(
      "shadowed.yml",
      `ingress:
  - { hostname: "*.example.com", service: "http_status:200" }
  - { hostname: app.example.com, path: ^/api, service: "http_status:201" }
  - { service: "http_status:404" }
`,
    );
    const examined = await doctor("--config", shadowed);
    expect(codesOf(examined, "config")).toEqual(["C-404"]);
    expect(findings(examined, "config")[0]?.message).toContain(
      "Rule #2 (app.example.com ^/api) never matches: rule #1",
    );
    const broken = configFile("broken.yml", "ingress:\n  - hostname: a.example\n    service: http//localhost\n");
    const wrong = await doctor("--config", broken);
    expect(wrong.report.verdict.code).toBe("C-401");
    expect(wrong.report.verdict.message).toContain("broken.yml:");
  });

  test("no rules given: C-403 warns; a misspelt key in place of them: it is the verdict, for nothing is served", async () => {
    const examined = await doctor();
    expect(findings(examined, "config").map(({ code, severity }) => [code, severity])).toEqual([["C-403", "warn"]]);
    expect(findings(examined, "config")[0]?.todo).toStartWith("Give the --url or --config");
    const misspelt = await doctor("--config", configFile("typo.yml", "ingres:\n- service: http://127.0.0.1:9\n"));
    expect(codesOf(misspelt, "config")).toEqual(["C-403", "C-402"]);
    const { code, status } = misspelt.report.verdict;
    expect([code, status, misspelt.exitCode]).toEqual(["C-403", "fail", 1]);
  });
});

describe("case 3: the second replica does not show up", () => {
  test("it was started with another tunnel's token: C-312; it has no connection: C-313", async () => {
    const { edge, stateDir } = lab();
    const other = await addTunnel(stateDir, "other", ["other.lab.example"]);
    const run = { token: other, tunnelPort: edge.tunnelPort, caPath: edge.caPath, url: "http://127.0.0.1:9" };
    const kind = culvertConnector("http2");
    const limited = (argv: readonly string[]): readonly string[] => [
      "sh",
      "-c",
      'ulimit -n 1000; exec "$@"',
      "sh",
      ...argv,
    ];
    await using replica = startConnector({ ...kind, argv: (of) => limited(kind.argv(of)) }, run);
    await replica.errorLine(/Registered tunnel connection/);
    const port = await metricsPort(replica);
    const foreign = await doctor("--hello-world", "--metrics", `127.0.0.1:${port}`);
    const message = findings(foreign, "connectors").find(({ code }) => code === "C-312")?.message;
    expect(message).toContain(`127.0.0.1:${port}`);
    // Its own limit, and not that of the doctor.
    expect(findings(foreign, "limits").find(({ code }) => code === "C-111")?.message).toBe(
      `The connector at 127.0.0.1:${port} may have 1000 files and sockets open at once`,
    );
    const right = await examine(["--token", other, "--hello-world", "--metrics", `127.0.0.1:${port}`]);
    expect(findings(right, "connectors").filter(({ message: text }) => text.includes(`127.0.0.1:${port}`))).toEqual([]);

    await using lost = startConnector(culvertConnector("http2"), { ...run, edges: ["127.0.0.1:9"] });
    const lostPort = await metricsPort(lost);
    const alone = await doctor("--hello-world", "--metrics", `127.0.0.1:${lostPort}`);
    expect(findings(alone, "connectors").find(({ code }) => code === "C-313")?.message).toContain(
      `127.0.0.1:${lostPort}`,
    );
  });
});

test("case 4: a restart that cuts what runs is foretold by C-321 and C-322", async () => {
  await using origin = await startOrigin();
  const url = `http://127.0.0.1:${origin.port}`;
  const { edge, token } = lab();
  const run = { token, tunnelPort: edge.tunnelPort, caPath: edge.caPath, url, gracePeriod: "0s" };
  const flags = ["--ha-connections", "1"];
  const cutOff = async (gracePeriod: string): Promise<boolean> => {
    await using connector = startConnector(culvertConnector("http2"), { ...run, flags, gracePeriod });
    await connector.errorLine(/Registered tunnel connection/);
    await pollUntil(async () => (await visit(edge.publicPort, { host: HOST, target: "/hello" })).status === 200, {
      what: "the hostname is served",
      deadlineMs: 10_000,
    });
    const gate = `restart-${gracePeriod}`;
    const { socket, chunks } = await openVisit(edge.publicPort, { host: HOST, target: `/sse?gate=${gate}` });
    await using _socket = socket;
    let text = (await chunks.next()).value?.toString() ?? "";
    connector.signal("SIGTERM");
    if (gracePeriod === "0s") await connector.exitCode();
    origin.open(gate);
    try {
      for await (const chunk of chunks) text += chunk.toString();
    } catch {
      return true;
    }
    return !text.includes("second");
  };
  expect(await cutOff("0s")).toBe(true);
  const warned = await doctor("--url", url, "--grace-period", "0s", ...flags);
  expect(codesOf(warned, "config")).toEqual(["C-321", "C-322"]);
  expect([warned.report.verdict.status, warned.exitCode]).toEqual(["warn", 0]);
  expect(await cutOff("20s")).toBe(false);
  const calm = await doctor("--url", url);
  expect(codesOf(calm, "config")).toEqual([]);
});

describe("case 6: noTLSVerify instead of a certificate authority", () => {
  test("what doctor says to set does work, step by step", async () => {
    const pair = certificateOf(["app.internal"]);
    await using origin = await listening(createHttpsServer(pair, (_request, response) => response.end("hello")));
    const rule = (settings: string): string =>
      configFile(
        "tls.yml",
        `ingress:\n  - service: https://127.0.0.1:${origin.port}\n    originRequest: { ${settings} }\n`,
      );
    const lazy = await doctor("--config", rule("noTLSVerify: true"));
    expect(codesOf(lazy, "origins")).toEqual(["C-524"]);
    const todo = findings(lazy, "origins")[0]?.todo ?? "";
    expect(todo).toContain('caPool to a file with the certificate of "Corporate CA"');
    expect(todo).toContain("originServerName to app.internal");
    expect(todo).toContain("remove noTLSVerify");

    const untrusted = await doctor("--config", rule(""));
    expect(codesOf(untrusted, "origins")).toEqual(["C-521"]);
    const trusted = await doctor("--config", rule(`caPool: "${pair.caPath}"`));
    expect(codesOf(trusted, "origins")).toEqual(["C-522"]);
    const named = await doctor("--config", rule(`caPool: "${pair.caPath}", originServerName: app.internal`));
    expect([named.status("origins"), codesOf(named, "origins")]).toEqual(["pass", []]);
    const needless = await doctor(
      "--config",
      rule(`caPool: "${pair.caPath}", originServerName: app.internal, noTLSVerify: true`),
    );
    expect(findings(needless, "origins").map(({ code, todo: next }) => [code, next])).toEqual([
      ["C-524", "Remove noTLSVerify: the certificate is good"],
    ]);
  });

  test("a caPool that is not there stops the connector: C-401", async () => {
    const config = configFile(
      "pool.yml",
      "ingress:\n  - service: https://127.0.0.1:9\n    originRequest: { caPool: /no/such.pem }\n",
    );
    const examined = await doctor("--config", config);
    expect(codesOf(examined, "config")).toEqual(["C-401"]);
  });
});

test("the rules that the edge holds are those that are checked when there are none here", async () => {
  await using managed = await startManagedEdge();
  expect((await managed.culvert("tunnel", "create", "remote")).code).toBe(0);
  const remoteToken = (await managed.culvert("tunnel", "token", "remote")).stdout.trim();
  const id = (JSON.parse((await managed.culvert("tunnel", "list", "--output", "json")).stdout) as { id: string }[])[0]
    ?.id;
  const config = { ingress: [{ service: "http://127.0.0.1:9" }] };
  const answer = await fetch(`${managed.apiUrl}/accounts/${managed.cert.accountId}/cfd_tunnel/${id}/configurations`, {
    method: "PUT",
    headers: { Authorization: `Bearer ${managed.cert.apiToken}`, "Content-Type": "application/json" },
    body: JSON.stringify({ config }),
  });
  expect([answer.status, await answer.text()]).toEqual([200, expect.stringContaining('"success":true')]);
  const examined = await examine(["--token", remoteToken]);
  expect(examined.report.checks.find(({ id: check }) => check === "config")?.summary).toContain("from the edge");
  expect(codesOf(examined, "origins")).toEqual(["C-501"]);
});

test("a tunnel by its name, as tunnel run takes it: the API says whose credentials are meant, or why it cannot", async () => {
  await using origin = await startOrigin();
  await using managed = await startManagedEdge();
  expect((await managed.culvert("tunnel", "create", "web")).code).toBe(0);
  const url = `http://127.0.0.1:${origin.port}`;
  const named = (...args: readonly string[]): Promise<Examined> => examine(["--url", url, ...args], managed);
  const right = await named("web");
  expect([right.status("tunnel"), right.status("origins"), right.exitCode]).toEqual(["pass", "pass", 0]);

  const unknown = await named("wed");
  expect([unknown.report.verdict.code, unknown.report.verdict.message]).toEqual([
    "C-302",
    'There is no tunnel "wed": see those there are with culvert tunnel list',
  ]);
  const away = await named("00000000-0000-4000-8000-000000000001");
  expect(findings(away, "tunnel").map(({ code, todo }) => [code, todo])).toEqual([
    ["C-302", "Run this as the user who made the tunnel, or give --credentials-file or --token"],
  ]);
  await managed.stop();
  const mute = await named("web");
  const [finding] = findings(mute, "tunnel");
  expect(finding?.code).toBe("C-302");
  expect(finding?.message).toMatch(/^The id of tunnel "web", .* cannot be asked for: Cannot reach the API at http:/);
  expect(finding?.todo).toStartWith("Mend that, or give the tunnel's id");
});

test("without rules of its own, doctor judges those of the connector of this tunnel that runs here", async () => {
  await using origin = await startOrigin();
  const { edge, token } = lab();
  const run = { token, tunnelPort: edge.tunnelPort, caPath: edge.caPath };
  const url = `http://127.0.0.1:${origin.port}`;
  const here = async (
    url: string | undefined,
    flags: readonly string[] = [],
    asked: readonly string[] = [],
  ): Promise<Examined> => {
    const served = url === undefined ? {} : { url };
    await using connector = startConnector(culvertConnector("http2"), { ...run, ...served, flags });
    await connector.errorLine(/Registered tunnel connection/);
    const port = await metricsPort(connector);
    const examined = await doctor("--metrics", `127.0.0.1:${port}`, ...asked);
    const config = examined.report.checks.find(({ id }) => id === "config");
    if (config?.status === "pass") expect(config.summary).toBe(`1 rule from the connector at 127.0.0.1:${port}`);
    return examined;
  };
  const healthy = await here(url);
  expect([healthy.status("config"), healthy.status("origins"), healthy.exitCode]).toEqual(["pass", "pass", 0]);
  const down = await here("http://127.0.0.1:9");
  expect([down.report.verdict.code, down.exitCode]).toEqual(["C-501", 1]);
  const locked = ["--metrics-auth", "ops:pass-word"];
  expect((await here(url, locked, locked)).status("origins")).toBe("pass");
  const balanced = configFile("two.yml", `ingress:\n  - services: [${url}, "http://127.0.0.1:9"]\n`);
  const half = await here(undefined, ["--config", balanced]);
  expect(findings(half, "origins").map(({ message }) => message)).toEqual([
    expect.stringContaining("Rule #1, http://127.0.0.1:9"),
  ]);
  const idle = await here(undefined);
  const [none] = findings(idle, "config");
  expect([none?.code, none?.severity, idle.exitCode]).toEqual(["C-403", "fail", 1]);
  expect(none?.message).toMatch(/^No rule of the connector at 127\.0\.0\.1:\d+ leads anywhere/);
});

test("whoever listens at a known metrics port gets no password: C-314 says to name the address", async () => {
  const secret = "ops:pass-word";
  const seen: (string | undefined)[] = [];
  const forger = createHttpServer((request, response) => {
    seen.push(request.headers.authorization);
    response.statusCode = request.url === "/ready" ? 200 : 401;
    response.end(JSON.stringify({ readyConnections: 4, connectorId: "00000000-0000-4000-8000-000000000001" }));
  });
  const port = await listenAtKnownPort(forger);
  const kept = async (...args: readonly string[]): Promise<void> => {
    const examined = await doctor("--url", "http://127.0.0.1:9", ...args);
    expect(seen.length).toBeGreaterThan(1);
    expect(seen.splice(0).filter((header) => header !== undefined)).toEqual([]);
    const told = findings(examined, "connectors").filter(({ message }) => message.includes(`:${port} `));
    expect(told.map(({ code, severity }) => [code, severity])).toEqual([["C-314", "warn"]]);
  };
  try {
    await kept("--metrics-auth", secret);
    await kept("--config", configFile("locked.yml", `metrics-auth: ${secret}\n`));
    const named = await doctor(
      "--url",
      "http://127.0.0.1:9",
      "--metrics",
      `127.0.0.1:${port}`,
      "--metrics-auth",
      secret,
    );
    expect(codesOf(named, "connectors")).not.toContain("C-314");
    expect(seen).toContain(`Basic ${btoa(secret)}`);
  } finally {
    forger.close();
    forger.closeAllConnections();
  }
});

test("for people: a line a check in order, the verdict, and what to do next", async () => {
  const { dir, token } = lab();
  const argv = [...culvertCommand(), "doctor", "--token", token, "--url", "http://127.0.0.1:9"];
  const { code, stdout } = await runProcess(argv, { env: { ...cleanEnvironment(), HOME: dir } });
  expect(code).toBe(1);
  const titles = [...stdout.matchAll(/^(?:ok|WARN|FAIL|-) +(\S.*?) {2,}/gm)].map((match) => match[1]);
  expect(titles).toEqual([
    ...["Clock", "DNS", "Way to the edge", "TLS to the edge", "Packet size", "Token and tunnel", "Connectors here"],
    ...["Configuration", "Origins", "Limits of the system", "Service", "Version"],
  ]);
  expect(stdout).toMatch(/\nVerdict: Something does not work: C-501, .*\nNext: Start that service/);
  expect(stdout).not.toContain(token);
});
