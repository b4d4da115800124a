import { afterEach, beforeEach, expect, test } from "bun:test";
import { X509Certificate } from "node:crypto";
import { chmodSync, mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { createLogger } from "../../../../src/core/log.ts";
import { createAuthority, createServerCertificate } from "../../../../src/edge/certificates.ts";
import { Certificates } from "../../../../src/edge/tls/certificates.ts";
import { FileCertificates } from "../../../../src/edge/tls/files.ts";
import { InternalCertificates, MAX_ISSUED } from "../../../../src/edge/tls/internal.ts";
import { CertificateIndex, coversHostname } from "../../../../src/edge/tls/names.ts";
import { readPair } from "../../../../src/edge/tls/pair.ts";
import type { ServedCertificate } from "../../../../src/edge/tls/source.ts";
import { makeTempDir } from "../../../support/temp-dir.ts";
import { VirtualClock } from "../../../support/virtual-clock.ts";

const DAY_MS = 86_400_000;
const authority = createAuthority(Date.now());

function pairFor(names: readonly string[], days = 90, nowMs = Date.now()) {
  return createServerCertificate(authority, names, { nowMs, days, commonName: names[0] ?? "x" });
}

let dir: ReturnType<typeof makeTempDir>;
let lines: string[];
beforeEach(() => {
  dir = makeTempDir();
  lines = [];
});
afterEach(() => dir[Symbol.dispose]());

function deps(clock = new VirtualClock()) {
  const write = (line: string): void => void lines.push(line);
  return { clock, log: createLogger({ level: "info", format: "default", wallMs: () => 0, write }) };
}

function place(name: string, text: string): string {
  const path = join(dir.path, name);
  writeFileSync(path, text);
  return path;
}

test.each([
  [["a.test"], "a.test", true],
  [["a.test"], "b.a.test", false],
  [["*.a.test"], "b.a.test", true],
  [["*.a.test"], "a.test", false],
  [["*.a.test"], "c.b.a.test", false],
  [["*.test"], ".test", false],
  [["*"], "test", false],
])("a certificate for %p is good for %s: %p", (names, hostname, good) => {
  expect(coversHostname(names, hostname)).toBe(good);
});

test("of several certificates for a name the one that is valid now and longest is shown", () => {
  const make = (notBeforeMs: number, notAfterMs: number): ServedCertificate => ({
    ...{ identity: { cert: "", key: "" }, names: ["a.test"], origin: `${notAfterMs}`, renewed: false },
    ...{ notBeforeMs, notAfterMs },
  });
  const [old, now, longer, future] = [make(0, 50), make(0, 200), make(0, 300), make(150, 900)];
  for (const order of [
    [old, now, longer, future],
    [future, longer, now, old],
  ]) {
    expect(new CertificateIndex(order as ServedCertificate[], 100).find("a.test")).toBe(longer);
  }
});

test("a pair is read whatever the order of its chain, and says what is wrong with it", () => {
  const { cert, key } = pairFor(["a.test", "*.b.test"]);
  const read = readPair(authority.cert + cert, key, "x");
  expect(read.names).toEqual(["a.test", "*.b.test"]);
  expect(new X509Certificate(read.identity.cert).subject).toBe("CN=a.test");
  const problem = (chain: string, itsKey: string): string => {
    try {
      readPair(chain, itsKey, "x");
    } catch (error) {
      return String(error);
    }
    return "";
  };
  expect(problem("hello", key)).toContain("no certificate in it");
  expect(problem(cert, "hello")).toContain("no private key");
  expect(problem(cert, authority.key)).toContain("belongs to another certificate");
  expect(problem(cert, key.replaceAll("PRIVATE", "ENCRYPTED PRIVATE"))).toContain("encrypted");
  expect(problem(cert, key.slice(0, 80))).toContain("cannot be read");
  expect(problem(cert, key.slice(0, 80))).not.toContain(key.slice(40, 60));
});

test("a folder gives its pairs in every layout, and leaves alone what is none", () => {
  const [a, b, c, d] = [["a.test"], ["b.test"], ["c.test"], ["d.test"]].map((names) => pairFor(names));
  if (a === undefined || b === undefined || c === undefined || d === undefined) throw new Error("no pairs");
  place("a.pem", a.cert);
  place("a.key", a.key);
  place("b.crt", b.cert);
  place("b.key", b.key);
  place("both.pem", c.cert + c.key);
  place("ca.pem", authority.cert);
  place("README", "certbot writes one");
  mkdirSync(join(dir.path, "d.test"));
  place("d.test/fullchain.pem", d.cert + authority.cert);
  place("d.test/cert.pem", d.cert);
  place("d.test/privkey.pem", d.key);
  const source = new FileCertificates({ pairs: [], dirs: [dir.path] }, deps());
  expect(source.all().map(({ names }) => names[0])).toEqual(["a.test", "b.test", "c.test", "d.test"]);
  expect(source.fallback()?.names).toEqual(["a.test"]);
  expect(lines).toEqual([]);
  source.close();
});

test("what changes is read anew, what breaks stays as it was, what goes is forgotten", async () => {
  const { clock, log } = deps();
  const [first, second, other] = [pairFor(["a.test"], 10), pairFor(["a.test"], 20), pairFor(["b.test"])];
  place("a.pem", first.cert);
  const key = place("a.key", first.key);
  const source = new FileCertificates({ pairs: [], dirs: [dir.path] }, { clock, log });
  const identity = source.find("a.test")?.identity;
  let told = 0;
  source.watch(() => {
    told += 1;
  });
  await clock.advance(5_000);
  expect(told).toBe(0);
  // The certificate of a new pair before its key.
  place("a.pem", second.cert);
  await clock.advance(5_000);
  expect(source.find("a.test")?.identity).toBe(identity);
  expect(lines.join("\n")).toContain("the one before stays");
  place("a.key", second.key);
  await clock.advance(5_000);
  expect(source.find("a.test")?.identity.key).toBe(second.key);
  place("b.pem", other.cert + other.key);
  await clock.advance(5_000);
  expect(source.find("b.test")).toBeDefined();
  rmSync(join(dir.path, "b.pem"));
  await clock.advance(5_000);
  expect(source.find("b.test")).toBeUndefined();
  const kept = source.find("a.test")?.identity;
  chmodSync(key, 0o640);
  await clock.advance(5_000);
  expect(source.find("a.test")?.identity.cert).toBe(kept?.cert ?? "");
  expect(told).toBeGreaterThanOrEqual(4);
  source.close();
  const error = lines.filter((line) => line.includes("ERR"));
  expect(error).toHaveLength(1);
});

test("a named pair that is broken at the start is refused, and one that breaks later is borne", async () => {
  const { clock, log } = deps();
  const { cert, key } = pairFor(["a.test"]);
  const paths = { cert: place("site.crt", cert), key: place("site.key", key) };
  expect(() => new FileCertificates({ pairs: [{ ...paths, key: paths.cert }], dirs: [] }, { clock, log })).toThrow(
    "no private key",
  );
  const source = new FileCertificates({ pairs: [paths], dirs: [] }, { clock, log });
  rmSync(paths.cert);
  await clock.advance(5_000);
  expect(source.find("a.test")?.identity.cert).toContain("BEGIN CERTIFICATE");
  expect(lines.filter((line) => line.includes("there is no such file"))).toHaveLength(1);
  source.close();
});

test("one's own authority issues for routed names only, verifiably, and keeps a bounded number", () => {
  const clock = new VirtualClock();
  const routed = (hostname: string): boolean => hostname.endsWith(".test");
  const own = ["edge.example"];
  const source = new InternalCertificates(
    { authority, own, isRouted: routed },
    { ...clock, nowMs: () => clock.nowMs(), wallMs: Date.now, after: () => () => {} },
  );
  const issued = new X509Certificate(source.find("app.test")?.identity.cert ?? "");
  expect(issued.checkHost("app.test")).toBe("app.test");
  expect(issued.verify(new X509Certificate(authority.cert).publicKey)).toBe(true);
  expect(source.find("app.test")).toBe(source.find("app.test"));
  expect(source.find("edge.example")).toBeDefined();
  expect(source.find("elsewhere.example")).toBeUndefined();
  for (const name of ["", "..test", "-a.test", `${"x".repeat(64)}.test`, "a b.test", 'a".test', "a\n.test"]) {
    expect({ name, found: source.find(name) }).toEqual({ name, found: undefined });
  }
  const fallback = new X509Certificate(source.fallback().identity.cert);
  expect(fallback.checkIP("127.0.0.1")).toBe("127.0.0.1");
  expect(fallback.checkHost("edge.example")).toBe("edge.example");
  // A flood of names costs no more than its pace.
  let made = 0;
  for (let i = 0; i < 2 * MAX_ISSUED; i += 1) if (source.find(`n${i}.test`) !== undefined) made += 1;
  expect(made).toBeLessThan(250);
  expect(source.all().length).toBeLessThanOrEqual(MAX_ISSUED + 1);
});

test("files go before the own authority, and each connection carries what its certificate is good for", () => {
  const { clock, log } = deps();
  const { cert, key } = pairFor(["a.test", "*.b.test"]);
  const files = new FileCertificates(
    { pairs: [{ cert: place("a.pem", cert + key), key: join(dir.path, "a.pem") }], dirs: [] },
    { clock, log },
  );
  const made = new InternalCertificates({ authority, own: [], isRouted: (name) => name.endsWith(".test") }, clock);
  const certificates = new Certificates([files, made], { clock, log });
  expect(certificates.choose("a.test.")?.origin).toContain("a.pem");
  expect(certificates.choose("x.b.test")?.origin).toContain("a.pem");
  expect(certificates.choose("c.test")?.origin).toBe("the edge's own authority");
  expect(certificates.choose("c.example")).toBeUndefined();
  for (const [serverName, hostname, may] of [
    ["a.test", "a.test", true],
    ["a.test", "y.b.test", true],
    ["a.test", "c.test", false],
    ["c.test", "a.test", false],
    ["unknown.example", "unknown.example", true],
    ["unknown.example", "a.test", true],
    ["unknown.example", "c.test", false],
    [undefined, "c.test", true],
  ] as const) {
    expect({ serverName, hostname, may: certificates.mayCarry(serverName, hostname) }).toEqual({
      serverName,
      hostname,
      may,
    });
  }
  certificates.close();
});

test.each([
  { days: 15, says: undefined },
  { days: 13, says: "WRN A certificate runs out in 1" },
  { days: -1, says: "ERR A certificate has run out" },
])("a certificate with $days days left: $says", ({ days, says }) => {
  const made = pairFor(["a.test"], 30, Date.now() - (30 - days) * DAY_MS);
  const path = place("a.pem", made.cert + made.key);
  const clock = { ...deps(), nowMs: () => 0, wallMs: Date.now, after: () => () => {} };
  const files = new FileCertificates({ pairs: [{ cert: path, key: path }], dirs: [] }, { clock, log: deps().log });
  const certificates = new Certificates([files], { clock, log: clock.log });
  if (says === undefined) expect(lines).toEqual([]);
  else expect(lines.join("\n")).toContain(says);
  expect(certificates.soonestExpiryMs()).toBeGreaterThan(0);
  certificates.close();
});
