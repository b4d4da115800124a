import { describe, expect, test } from "bun:test";
import { existsSync, mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { culvertCommand } from "../support/binary.ts";
import { hasCommand, InstallLab, programOf } from "../support/installer.ts";
import { cleanEnvironment } from "../support/lab.ts";
import { makeMinisignKey } from "../support/minisign-key.ts";
import { type OwnedProcess, startProcess } from "../support/processes.ts";

/** An edge that hands out what a lab has published, and has nothing but the flags it is started with. */
async function startOwnEdge(lab: InstallLab, ...flags: readonly string[]) {
  const state = join(lab.path, "state");
  const edge = startProcess(
    [
      ...[...culvertCommand(), "edge", "run", "--state-dir", state, "--domain", "localhost", "--release-dir"],
      ...[lab.releases, "--http-listen", "127.0.0.1:0", "--tunnel-listen", "127.0.0.1:0", "--quic=false"],
      ...["--api-listen", "off", ...flags],
    ],
    { env: { ...cleanEnvironment(), HOME: lab.home } },
  );
  await edge.errorLine(/Edge is ready/);
  const port = (field: string): string => new RegExp(`${field}=\\S*:(\\d+)`).exec(edge.stderr)?.[1] ?? "";
  return { edge, port, ca: join(state, "ca.pem"), [Symbol.asyncDispose]: () => edge[Symbol.asyncDispose]() };
}

/** As people type it, with our `wget` or `curl`. */
function shell(lab: InstallLab, command: string, env: Readonly<Record<string, string>> = {}): OwnedProcess {
  return startProcess(["sh", "-c", command], {
    env: { HOME: lab.home, PATH: `${process.env["PATH"]}`, ...env },
    cwd: lab.path,
  });
}

describe("install.sh from an edge of one's own", () => {
  test.each([
    { name: "a .pub file", key: (lab: InstallLab) => join(lab.path, "release.pub") },
    { name: "its second line", key: (_: InstallLab, publicFile: string) => publicFile.split("\n")[1] ?? "" },
  ])(
    "trusts what --release-key names: $name",
    async ({ key: asGiven }) => {
      using lab = new InstallLab();
      const { key, publicFile } = makeMinisignKey();
      writeFileSync(join(lab.path, "release.pub"), publicFile);
      lab.publish("1.0.0", { key });
      await using own = await startOwnEdge(lab, "--release-key", asGiven(lab, publicFile));
      expect(own.edge.stderr).not.toContain("No key is known");
      const url = `http://localhost:${own.port("public")}`;
      await using run = shell(lab, `curl -fsSL ${url}/install.sh | sh -s -- --dir ${lab.dir}`);
      expect({ code: await run.exitCode(60_000), err: run.stderr }).toMatchObject({ code: 0, err: "" });
      expect(readFileSync(join(lab.dir, "culvert"), "utf8")).toBe(programOf("1.0.0"));
      const windows = shell(lab, `curl -fsSL ${url}/install.ps1`);
      expect(await windows.exitCode()).toBe(0);
      expect(windows.stdout).toContain(`$DefaultKeys = '${publicFile.split("\n")[1]}'`);
      await windows[Symbol.asyncDispose]();
    },
    90_000,
  );

  test("with releases and no key it says so in its log; without releases it does not", async () => {
    using lab = new InstallLab();
    lab.publish("1.0.0");
    {
      await using own = await startOwnEdge(lab);
      // The binary under test may have a key of its own.
      const script = await fetch(`http://127.0.0.1:${own.port("public")}/install.sh`, {
        headers: { host: "localhost" },
      }).then((response) => response.text());
      expect(own.edge.stderr.includes("No key is known for the releases")).toBe(script.includes("\nDEFAULT_KEYS=''\n"));
    }
    rmSync(lab.releases, { recursive: true });
    mkdirSync(lab.releases);
    await using empty = await startOwnEdge(lab);
    expect(empty.edge.stderr).not.toContain("No key is known");
  }, 60_000);

  test("refuses a key that is none, before it starts", async () => {
    using lab = new InstallLab();
    const argv = [...culvertCommand(), "edge", "run", "--state-dir", join(lab.path, "state"), "--release-key", "x.y"];
    await using edge = startProcess(argv, { env: { ...cleanEnvironment(), HOME: lab.home } });
    expect(await edge.exitCode(30_000)).not.toBe(0);
    expect(edge.stderr).toContain('--release-key "x.y" is not a minisign public key');
    expect(existsSync(join(lab.path, "state"))).toBe(false);
  }, 40_000);

  test("over --tls-internal: with the edge's ca.pem, and not without", async () => {
    using lab = new InstallLab();
    const { key, publicFile } = makeMinisignKey();
    const pub = join(lab.path, "release.pub");
    writeFileSync(pub, publicFile);
    lab.publish("1.0.0", { key });
    const tls = ["--tls-internal", "--https-listen", "127.0.0.1:0"];
    await using own = await startOwnEdge(lab, "--release-key", pub, ...tls);
    const url = `https://localhost:${own.port("https")}`;
    const target = join(lab.dir, "culvert");
    // A space in its name, because people have such folders.
    const ca = join(lab.path, "the ca.pem");
    writeFileSync(ca, readFileSync(own.ca));
    const fetched = `curl -fsSL --cacert "${ca}" ${url}/install.sh`;
    const ended = async (command: string, env: Readonly<Record<string, string>> = {}) => {
      await using run = shell(lab, command, env);
      return { code: await run.exitCode(60_000), err: run.stderr };
    };

    const without = await ended(`${fetched} | sh -s -- --dir ${lab.dir}`);
    expect(without.code).toBe(1);
    expect(without.err).toContain("the server's certificate or TLS is refused");
    expect(without.err).toContain("--cacert ca.pem");
    expect(existsSync(target)).toBe(false);

    expect(await ended(`${fetched} | sh -s -- --dir ${lab.dir} --cacert "${ca}"`)).toEqual({ code: 0, err: "" });
    expect(readFileSync(target, "utf8")).toBe(programOf("1.0.0"));
    rmSync(target);
    expect(await ended(`${fetched} | CULVERT_CACERT="${ca}" sh -s -- --dir ${lab.dir}`)).toEqual({ code: 0, err: "" });
    expect(existsSync(target)).toBe(true);

    const missing = await ended(`${fetched} | sh -s -- --dir ${lab.dir} --cacert ${lab.path}/none.pem`);
    expect(missing).toMatchObject({ code: 1, err: expect.stringContaining("cannot read the authorities") });

    // Where there is no curl.
    expect(await ended(`${fetched} >script`)).toEqual({ code: 0, err: "" });
    const bin = join(lab.path, "without-curl");
    mkdirSync(bin);
    const tools = "id uname od tr grep head tail mktemp rm mkdir sed cat dirname df awk sha256sum sha512sum openssl wc";
    const more = "cut sh env chmod mv ln cp sync sleep ps readlink find dd ls stat cmp";
    const link = (tool: string): void => symlinkSync(Bun.which(tool) ?? "", join(bin, tool));
    for (const tool of `${tools} ${more}`.split(" ")) link(tool);
    rmSync(target);
    const offered = `sh script --dir ${lab.dir} --cacert "${ca}"`;
    if (hasCommand("busybox")) {
      symlinkSync(Bun.which("busybox") ?? "", join(bin, "wget"));
      const { code, err } = await ended(offered, { PATH: bin });
      // It checks no certificate at all: asked to, it must not be used as if it did.
      expect({ code, err }).toMatchObject({ code: 1, err: expect.stringContaining("this wget checks no certificate") });
      expect(existsSync(target)).toBe(false);
      rmSync(join(bin, "wget"));
    }
    if (hasCommand("wget")) {
      link("wget");
      expect((await ended(`sh script --dir ${lab.dir}`, { PATH: bin })).code).toBe(1);
      expect(await ended(offered, { PATH: bin })).toEqual({ code: 0, err: "" });
      expect(readFileSync(target, "utf8")).toBe(programOf("1.0.0"));
    }
  }, 120_000);
});
