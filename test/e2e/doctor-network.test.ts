import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { type DoctorLab, type Examined, examine, startDoctorLab } from "../support/doctor.ts";
import { command, netlabMissing, tryCommand } from "../support/netlab/commands.ts";
import { startProcess } from "../support/processes.ts";
import { makeTempDir } from "../support/temp-dir.ts";

setDefaultTimeout(40_000);
const missing = netlabMissing();
/** How long an examination may take whatever is wrong, in ms. */
const LIMIT_MS = 11_000;
const HELLO = "--hello-world";

/** Case 1 of the troubleshooting guide, "cannot connect", and case 5, "slow": each fault made in a network. */
describe.skipIf(missing !== undefined)(
  `doctor on a faulty network${missing === undefined ? "" : ` (${missing})`}`,
  () => {
    let lab: DoctorLab;
    beforeAll(async () => {
      lab = await startDoctorLab();
    });
    afterAll(() => lab?.[Symbol.asyncDispose]());

    /** Runs a command at a host of the lab. */
    const at = (host: string, ...argv: readonly string[]): string => command(...lab.lab.inside(host, argv));
    const dropAt = (host: string, ...match: readonly string[]): string =>
      at(host, "nft", "add", "rule", "inet", "lab", "pass", ...match, "drop");

    const inLab = (...args: readonly string[]): Promise<Examined> =>
      examine([HELLO, ...args], { within: (argv) => lab.lab.inside("site1", argv) });

    test("nothing is wrong: everything passes, and no connector is left at the edge", async () => {
      const { report, exitCode, codes, status } = await lab.doctor(HELLO);
      expect(codes.filter((code) => code !== "C-111" && code !== "C-112")).toEqual([]);
      expect(exitCode).toBe(0);
      for (const id of ["clock", "dns", "network", "tls", "mtu", "tunnel", "config", "version"]) {
        expect(`${id} ${status(id)}`).toBe(`${id} pass`);
      }
      expect(report.verdict.status).not.toBe("fail");
      expect(report.ms).toBeLessThan(LIMIT_MS);
      await lab.edge.errorLine(/Tunnel connection registered/);
      await lab.edge.errorLine(/Tunnel connection unregistered/);
    });

    test("a firewall that drops UDP: C-211, and the tunnel is tried over TCP", async () => {
      lab.lab.blockUdp([1]);
      try {
        const { report, exitCode, status } = await lab.doctor(HELLO);
        expect([report.verdict.status, report.verdict.code, exitCode]).toEqual(["warn", "C-211", 0]);
        expect(report.verdict.todo).toContain("outbound UDP to port 7844");
        expect(status("tunnel")).toBe("pass");
        const quicOnly = await lab.doctor(HELLO, "--protocol", "quic");
        expect([quicOnly.report.verdict.status, quicOnly.report.verdict.code]).toEqual(["fail", "C-211"]);
      } finally {
        lab.lab.restore();
      }
    });

    test("a firewall that drops TCP: C-212, and the tunnel is tried over QUIC", async () => {
      dropAt("gate1", "meta", "l4proto", "tcp");
      try {
        const { report, status } = await lab.doctor(HELLO);
        expect([report.verdict.status, report.verdict.code]).toEqual(["warn", "C-212"]);
        expect(status("tunnel")).toBe("pass");
      } finally {
        lab.lab.restore();
      }
    });

    test("a firewall that drops everything: C-213 within the limit; proxies are named as a way out", async () => {
      lab.lab.cut([1]);
      try {
        const { report, exitCode } = await lab.doctor(HELLO);
        expect([report.verdict.status, report.verdict.code, exitCode]).toEqual(["fail", "C-213", 1]);
        expect(report.verdict.todo).toContain("HTTPS_PROXY");
        expect(report.ms).toBeLessThan(LIMIT_MS);
      } finally {
        lab.lab.restore();
      }
    });

    test("one of two edges cannot be reached: C-215", async () => {
      const { report, status } = await lab.doctor(HELLO, "--edge", "198.18.2.2:7844");
      expect([report.verdict.status, report.verdict.code]).toEqual(["warn", "C-215"]);
      expect(report.verdict.message).toContain("198.18.2.2:7844");
      expect(status("tunnel")).toBe("pass");
    });

    test("nobody listens at the edge's port: C-214", async () => {
      const { report, exitCode } = await inLab("--edge", lab.edgeAddress.replace(/\d+$/, "7999"), "--token", lab.token);
      expect([report.verdict.status, report.verdict.code, exitCode]).toEqual(["fail", "C-214", 1]);
    });

    test("a name server that is not there: C-201 within the limit", async () => {
      using dir = makeTempDir();
      const resolv = join(dir.path, "resolv.conf");
      writeFileSync(resolv, "nameserver 198.18.9.9\n");
      const within = (argv: readonly string[]): readonly string[] =>
        lab.lab.inside("site1", [
          ...["unshare", "--mount", "sh", "-c", 'mount --bind "$0" /etc/resolv.conf && exec "$@"', resolv],
          ...argv,
        ]);
      const { report, status } = await examine(["--edge", "edge.example:7844", "--token", lab.token, HELLO], {
        within,
      });
      expect([report.verdict.status, report.verdict.code]).toEqual(["fail", "C-201"]);
      expect([status("network"), status("tunnel")]).toEqual(["skip", "skip"]);
      expect(report.ms).toBeLessThan(LIMIT_MS);
    });

    test("a firewall that opens TLS with its own authority: C-231 names it", async () => {
      await using interceptor = await startInterceptor(lab);
      await interceptor.ready();
      // UDP works: QUIC shows the real certificate.
      const mixed = await lab.doctor(HELLO);
      expect([mixed.report.verdict.status, mixed.report.verdict.code]).toEqual(["warn", "C-231"]);
      lab.lab.blockUdp([1]);
      try {
        const { report, exitCode, status } = await lab.doctor(HELLO);
        expect(exitCode).toBe(1);
        const tls = report.checks.find(({ id }) => id === "tls");
        expect(tls?.findings.map(({ code, severity }) => `${code} ${severity}`)).toEqual(["C-231 fail"]);
        expect(tls?.findings[0]?.message).toContain("Example Corp Inspection");
        expect(status("tunnel")).toBe("skip");
        expect(report.verdict.code).toBe("C-231");
      } finally {
        lab.lab.restore();
      }
    });

    test("packets of full size get lost: C-241", async () => {
      // The handshake's first flight does not fit, and nobody is told.
      dropAt("core", "ip", "protocol", "tcp", "meta", "length", ">", "600");
      dropAt("core", "ip", "protocol", "udp", "meta", "length", ">", "600");
      try {
        const { report } = await lab.doctor(HELLO);
        const codes = report.checks.flatMap(({ findings }) => findings.map(({ code }) => code));
        expect(codes).toContain("C-241");
        expect(report.ms).toBeLessThan(LIMIT_MS);
      } finally {
        lab.lab.restore();
      }
    });

    test("case 5, a slow session: the edge is far (C-216), or the origin is (C-504)", async () => {
      await lab.lab.shape([1], { roundTripMs: 500, lossPercent: 0 });
      try {
        const { report, status, codes } = await lab.doctor("--url", "ssh://198.18.3.2:22", "--no-register");
        expect([report.verdict.status, codes.includes("C-216")]).toEqual(["fail", true]);
        // The origin is beyond the same link, and nobody listens there: that is the failure.
        expect(report.verdict.code).toBe("C-501");
        expect(status("network")).toBe("warn");
        const server = startProcess(
          lab.lab.inside("visitor", [
            process.execPath,
            "-e",
            'Bun.listen({ hostname: "198.18.3.2", port: 22, socket: { open(s) { s.write("SSH-2.0-test\\r\\n"); }, data() {} } }); console.log("ready");',
          ]),
        );
        await using owned = server;
        await owned.outputLine(/ready/);
        const slow = await lab.doctor("--url", "ssh://198.18.3.2:22");
        expect(slow.codes).toContain("C-504");
        expect([slow.report.verdict.status, slow.report.verdict.code]).toEqual(["warn", "C-216"]);
      } finally {
        await lab.lab.shape([1], undefined);
      }
    });

    test.skipIf(!tryCommand("sh", "-c", "command -v faketime").ok)(
      "a clock that is years behind: C-101 first",
      async () => {
        const { report, exitCode } = await examine(["--edge", lab.edgeAddress, "--token", lab.token, HELLO], {
          within: (argv) => lab.lab.inside("site1", ["faketime", "2021-03-04 05:06:07", ...argv]),
        });
        expect([report.verdict.status, report.verdict.code, exitCode]).toEqual(["fail", "C-101", 1]);
        expect(report.verdict.todo).toContain("clock");
      },
    );
  },
);

/** At the gate: takes what goes to the edge's port over TCP and answers with a certificate of its own authority. */
async function startInterceptor(lab: DoctorLab): Promise<AsyncDisposable & { ready(): Promise<unknown> }> {
  await using stack = new AsyncDisposableStack();
  const { path } = stack.use(makeTempDir());
  const openssl = (...args: readonly string[]): string => command("openssl", ...args);
  const key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
  const [ca, caKey, cert, certKey, request] = ["ca.pem", "ca.key", "leaf.pem", "leaf.key", "leaf.csr"].map((name) =>
    join(path, name),
  ) as [string, string, string, string, string];
  openssl("req", "-x509", ...key, "-days", "2", "-subj", "/CN=Example Corp Inspection", "-keyout", caKey, "-out", ca);
  const names = ["-addext", "subjectAltName=DNS:h2.cftunnel.com"];
  openssl("req", ...key, "-subj", "/CN=h2.cftunnel.com", ...names, "-keyout", certKey, "-out", request);
  const sign = ["-CA", ca, "-CAkey", caKey, "-days", "1", "-copy_extensions", "copy"];
  openssl("x509", "-req", "-in", request, ...sign, "-out", cert);
  const script = `
    const tls = require("node:tls"), { readFileSync } = require("node:fs");
    const server = tls.createServer({ cert: readFileSync("${cert}"), key: readFileSync("${certKey}") }, (s) => s.on("error", () => {}));
    server.on("tlsClientError", () => {});
    server.listen(7000, "0.0.0.0", () => console.log("ready"));`;
  const server = stack.use(startProcess(lab.lab.inside("gate1", [process.execPath, "-e", script])));
  const nft = (...args: readonly string[]): string => command(...lab.lab.inside("gate1", ["nft", ...args]));
  nft("add", "table", "ip", "intercept");
  stack.defer(() => {
    nft("delete", "table", "ip", "intercept");
  });
  nft("add", "chain", "ip", "intercept", "pre", "{ type nat hook prerouting priority -100; }");
  nft("add", "rule", "ip", "intercept", "pre", "iifname", "inside", "tcp", "dport", "7844", "redirect", "to", ":7000");
  const owned = stack.move();
  return { ready: () => server.outputLine(/ready/), [Symbol.asyncDispose]: () => owned.disposeAsync() };
}
