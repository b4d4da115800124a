import { expect, test } from "bun:test";
import { mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { parseCertPem } from "../../src/wire/cert-pem.ts";
import { culvertCommand } from "../support/binary.ts";
import { cleanEnvironment } from "../support/lab.ts";
import { runProcess } from "../support/processes.ts";
import { makeTempDir } from "../support/temp-dir.ts";

async function inHome(
  work: (run: (...args: readonly string[]) => ReturnType<typeof runProcess>, home: string) => Promise<void>,
) {
  using dir = makeTempDir();
  const home = dir.path;
  const env = { ...cleanEnvironment(), HOME: home, CULVERT_STATE_DIR: join(home, "edge") };
  await work((...args) => runProcess([...culvertCommand(), "edge", ...args], { env, cwd: home }), home);
}

test("makes an edge and its cert.pem, and keeps both when it is called again", async () => {
  await inHome(async (run, home) => {
    const certPath = join(home, ".cloudflared", "cert.pem");
    expect(await run("init", "--domain", "edge.example.test")).toMatchObject({ code: 0, stdout: "" });
    const cert = readFileSync(certPath, "utf8");
    expect(statSync(certPath).mode & 0o777).toBe(0o600);
    expect(parseCertPem(cert)).toMatchObject({ ok: true, value: { apiUrl: "http://127.0.0.1:7845/client/v4" } });
    const again = await run("init");
    expect([again.code, again.stderr]).toEqual([0, expect.stringContaining("as it is: it is for this edge")]);
    expect(readFileSync(certPath, "utf8")).toBe(cert);
    expect(JSON.parse(readFileSync(join(home, "edge", "edge.json"), "utf8"))).toEqual({ domain: "edge.example.test" });
    expect(JSON.parse((await run("token", "list", "--json")).stdout)).toHaveLength(1);
    expect(await run("init", "--force", "--api-url", "https://edge.example.test:7845")).toMatchObject({ code: 0 });
    const other = parseCertPem(readFileSync(certPath, "utf8"));
    expect(other.ok && other.value.apiUrl).toBe("https://edge.example.test:7845/client/v4");
    expect(other.ok && other.value.apiCa).toBe(readFileSync(join(home, "edge", "ca.pem"), "utf8"));
  });
}, 30_000);

test("says what to do next, in commands that work before DNS does", async () => {
  await inHome(async (run, home) => {
    const { stderr } = await run("init", "--domain", "edge.example.test");
    expect(stderr).toContain(`culvert edge run --tls-internal --state-dir ${join(home, "edge")}`);
    expect(stderr).toContain("culvert tunnel run --edge 127.0.0.1:7844 --url http://localhost:3000 web");
    expect(stderr).toContain(`must trust ${join(home, "edge", "ca.pem")}; --tls-dir DIR`);
    // The domain is remembered.
    expect((await run("init")).stderr).toContain("once edge.example.test leads to this machine");
  });
  await inHome(async (run) => {
    // Then connectors are told this machine's own name.
    expect((await run("init")).stderr).toContain("culvert tunnel run --url http://localhost:3000 web");
  });
}, 30_000);

test.each([
  "bogus",
  "--domain edge.example.test bogus",
  "--domain https://edge.example.test",
  "--api-url edge.test:7845",
])(
  "makes nothing of a wrong command line: init %s",
  async (line) => {
    await inHome(async (run, home) => {
      expect((await run("init", ...line.split(" "))).code).toBe(255);
      expect(readdirSync(home)).toEqual([]);
    });
  },
  30_000,
);

test("leaves a certificate of somebody else alone, and no token behind that nobody has", async () => {
  await inHome(async (run, home) => {
    mkdirSync(join(home, ".cloudflared"));
    writeFileSync(join(home, ".cloudflared", "cert.pem"), "Cloudflare's");
    const refused = await run("init");
    expect([refused.code, refused.stderr]).toEqual([1, expect.stringContaining("is for something else")]);
    writeFileSync(join(home, "file"), "");
    const unwritable = await run("init", "--origincert", join(home, "file", "cert.pem"));
    expect([unwritable.code, unwritable.stderr]).toEqual([1, expect.stringContaining("Cannot write")]);
    expect(JSON.parse((await run("token", "list", "--json")).stdout)).toEqual([]);
  });
}, 30_000);

test("tokens are made with scopes and an end, listed without their secret, and revoked", async () => {
  await inHome(async (run) => {
    expect((await run("init")).code).toBe(0);
    const made = await run(
      "token",
      "create",
      "ci",
      "--scope",
      "tunnels:read",
      "--scope",
      "audit:read",
      "--expires-in",
      "90d",
    );
    const secret = made.stdout.trim();
    expect([made.code, secret]).toEqual([0, expect.stringMatching(/^cvt_[\w-]{43}$/)]);
    const listed = await run("token", "list");
    expect(listed.stdout).toMatch(/ ci +tunnels:read,audit:read /);
    expect(listed.stdout).not.toContain(secret);
    for (const args of [
      ["create", "x", "--scope", "root"],
      ["create", "x", "--expires-in", "soon"],
      ["create", "x", "--expires-in", "0d"],
      ["create"],
    ]) {
      expect([args, (await run("token", ...args)).code]).toEqual([args, 255]);
    }
    expect((await run("token", "revoke", "ci")).code).toBe(0);
    expect(await run("token", "revoke", "ci")).toMatchObject({
      code: 1,
      stderr: expect.stringContaining("no API token"),
    });
  });
}, 30_000);
