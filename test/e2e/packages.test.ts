import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { copyFileSync, linkSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { buildDeb } from "../../scripts/release/packages/deb.ts";
import type { PackageInput } from "../../scripts/release/packages/linux-tree.ts";
import { buildImage, whyNoImage } from "../../scripts/release/packages/oci.ts";
import { buildRpm } from "../../scripts/release/packages/rpm.ts";
import { BootedMachine, bootedMachineMissing } from "../support/booted-machine.ts";
import { makeMinisignKey } from "../support/minisign-key.ts";
import { pollUntil } from "../support/poll-until.ts";
import { describeRelease, missingCommand } from "../support/release-tests.ts";
import { buildVersion } from "../support/releases.ts";
import { makeTempDir } from "../support/temp-dir.ts";

const OLD = "1.0.0";
const NEW = "1.1.0";
const EPOCH_S = 1_767_225_600;
const DEADLINE_MS = 240_000;
const IS_X64_LINUX = process.platform === "linux" && process.arch === "x64" ? undefined : "needs Linux on x64";

const built = makeTempDir();
afterAll(() => built[Symbol.dispose]());
const { key } = makeMinisignKey();
const binaries = new Map<string, string>();

/** Both versions, built once and only when something here runs. */
function binaryOf(version: string): string {
  const binary = binaries.get(version) ?? buildVersion(version, built.path, key);
  binaries.set(version, binary);
  return binary;
}

/** Where a build works; the second of two has another place, and another umask. */
function inputOf(version: string, folder: string): PackageInput {
  const [out, work] = [join(built.path, folder), join(built.path, `${folder}.work`)];
  for (const path of [out, work]) mkdirSync(path, { recursive: true });
  return { binary: binaryOf(version), arch: "x64", version, epochS: EPOCH_S, out, work };
}

function sumOf(path: string): string {
  return createHash("sha256").update(readFileSync(path)).digest("hex");
}

/** Builds twice, and insists on the same bytes; gives the path. */
function buildTwice(version: string, kind: string, build: (input: PackageInput) => string): string {
  const first = inputOf(version, `${kind}-${version}`);
  const name = build(first);
  const before = process.umask(0o077);
  try {
    const second = inputOf(version, `${kind}-${version}-again`);
    expect(sumOf(join(second.out, build(second)))).toBe(sumOf(join(first.out, name)));
  } finally {
    process.umask(before);
  }
  return join(first.out, name);
}

function run(argv: readonly string[]): { readonly status: number | null; readonly said: string } {
  const [command = "", ...args] = argv;
  const { status, stdout, stderr } = spawnSync(command, args, { encoding: "utf8" });
  return { status, said: `${stdout}${stderr}` };
}

describeRelease(
  ".deb",
  IS_X64_LINUX ?? missingCommand("dpkg-deb", "readelf") ?? bootedMachineMissing("systemd"),
  () => {
    let machine: BootedMachine;
    const packages = new Map<string, string>();
    const ask = `curl -s -o /dev/null -w '%{http_code}\\n' -H 'Host: app.example.com' http://127.0.0.1/`;
    const deb = (version: string): string => `/srv/culvert_${version}_amd64.deb`;

    beforeAll(async () => {
      packages.set(OLD, buildTwice(OLD, "deb", buildDeb));
      packages.set(NEW, buildDeb(inputOf(NEW, "deb-new")));
      packages.set(NEW, join(built.path, "deb-new", `culvert_${NEW}_amd64.deb`));
      machine = await BootedMachine.boot("systemd", { "/usr/local/bin/edge": binaryOf(OLD) });
      for (const [version, path] of packages) copyFileSync(path, join(machine.root, deb(version)));
    }, DEADLINE_MS);
    afterAll(async () => await machine?.[Symbol.asyncDispose](), 60_000);

    test("says what it is, and what it needs", () => {
      const { said } = run(["dpkg-deb", "--field", packages.get(OLD) ?? ""]);
      expect(said).toMatch(/^Package: culvert\nVersion: 1\.0\.0\nArchitecture: amd64$/m);
      expect(said).toMatch(/^Depends: libc6 \(>= 2\.\d+\)$/m);
      const names = run(["dpkg-deb", "--contents", packages.get(OLD) ?? ""]).said;
      for (const line of names.trim().split("\n")) expect(line).toMatch(/^[-d]\S+ root\/root .* 2026-01-01 00:00 \.\//);
    });

    test(
      "installs, upgrades under load, is removed, and purged",
      async () => {
        expect((await machine.run(["dpkg", "-i", deb(OLD)])).code).toBe(0);
        expect(await machine.ask("culvert", "version", "--short")).toBe(OLD);
        const updated = await machine.run(["culvert", "update", "--from", "/nowhere"]);
        expect(updated).toMatchObject({
          code: 0,
          stderr: expect.stringContaining("A package manager (deb)") as string,
        });

        // The edge is not of the package: it would restart with it.
        const edge = ["--unit=edge", "/usr/local/bin/edge", "edge", "run", "--state-dir", "/srv/edge"];
        await machine.ask("systemd-run", ...edge, "--http-listen", "127.0.0.1:80", "--tunnel-listen", "127.0.0.1:7844");
        await pollUntil(async () => (await machine.run(["curl", "-s", "http://127.0.0.1/"])).code === 0, {
          ...{ what: "the edge listens", deadlineMs: 20_000 },
        });
        const token = await machine.ask(
          "/usr/local/bin/edge",
          "edge",
          "tunnel",
          "add",
          "web",
          "app.example.com",
          "--state-dir",
          "/srv/edge",
        );
        await machine.ask("culvert", "service", "install", token);
        writeFileSync(join(machine.root, "etc/culvert/config.yml"), "ingress:\n  - service: hello_world\n");
        await pollUntil(async () => (await machine.ask("sh", "-c", ask)) === "200", {
          ...{ what: "the tunnel serves", deadlineMs: 20_000 },
        });

        const pid = await machine.ask("systemctl", "show", "--value", "--property=MainPID", "culvert");
        const load = machine.run([
          ...["sh", "-c", `: >/srv/codes; while [ ! -e /srv/stop ]; do ${ask} >>/srv/codes; sleep 0.02; done`],
        ]);
        expect((await machine.run(["dpkg", "-i", deb(NEW)])).code).toBe(0);
        await pollUntil(
          async () => (await machine.ask("journalctl", "-u", "culvert")).includes("1.1.0 has taken over"),
          {
            ...{ what: "the new version has taken over", deadlineMs: 40_000 },
          },
        );
        const codes = (): readonly string[] => readFileSync(join(machine.root, "srv/codes"), "utf8").trim().split("\n");
        const sofar = codes().length;
        await pollUntil(() => codes().length > sofar + 20, { what: "more requests", deadlineMs: 20_000 });
        writeFileSync(join(machine.root, "srv/stop"), "");
        await load;
        expect([...new Set(codes())]).toEqual(["200"]);
        expect(await machine.ask("systemctl", "show", "--value", "--property=MainPID", "culvert")).toBe(pid);

        expect((await machine.run(["dpkg", "--remove", "culvert"])).code).toBe(0);
        expect(await machine.ask("sh", "-c", "systemctl is-active culvert; systemctl is-enabled culvert; :")).toBe(
          "inactive\ndisabled",
        );
        expect(await machine.ask("sh", "-c", "ls /usr/bin/culvert 2>/dev/null; ls /etc/culvert")).toBe(
          "config.yml\ntoken",
        );
        expect((await machine.run(["dpkg", "--purge", "culvert"])).code).toBe(0);
        const left = `find / -xdev -name '*culvert*' -not -path '/proc/*' -not -path '/srv/*' -not -path '/var/log/*'`;
        expect(await machine.ask("sh", "-c", `${left} -not -path '/run/*' -not -path '/tmp/*' 2>/dev/null; :`)).toBe(
          "",
        );
      },
      DEADLINE_MS,
    );
  },
);

describeRelease(".rpm", IS_X64_LINUX ?? missingCommand("rpmbuild", "rpm", "rpm2cpio", "cpio", "readelf"), () => {
  let path = "";
  beforeAll(() => {
    path = buildTwice(OLD, "rpm", buildRpm);
  }, DEADLINE_MS);

  test("says what it is, and what it needs", () => {
    const format = "%{NAME} %{VERSION} %{RELEASE} %{ARCH} %{LICENSE} %{BUILDHOST} %{BUILDTIME}";
    const asked = run(["rpm", "-qp", "--queryformat", format, path]);
    expect(asked).toEqual({ status: 0, said: `culvert ${OLD} 1 x86_64 Apache-2.0 reproducible ${EPOCH_S}` });
    expect(run(["rpm", "-qp", "--requires", path]).said).toMatch(/^glibc >= 2\.\d+$/m);
    expect(run(["rpm", "-K", "--nosignature", path]).said).toContain("digests OK");
    expect(run(["rpm", "-qp", "--scripts", path]).said).toContain('if [ "$1" -ge 2 ]; then culvert_take_over; fi');
  });

  test("holds the binary, byte for byte", () => {
    const script = `rpm2cpio "$1" | cpio -i --quiet --to-stdout ./usr/bin/culvert | sha256sum`;
    expect(run(["sh", "-c", script, "sh", path]).said).toStartWith(sumOf(binaryOf(OLD)));
  });

  test.skipIf(process.getuid?.() !== 0)(
    "installs into a root, is upgraded, verified and removed",
    () => {
      using root = makeTempDir();
      const rpm = (...args: string[]) => run(["rpm", "--root", root.path, ...args]);
      const alone = ["--noscripts", "--nodeps"];
      const newer = buildRpm(inputOf(NEW, "rpm-new"));
      expect(rpm("-i", ...alone, path).status).toBe(0);
      expect(spawnSync(join(root.path, "usr/bin/culvert"), ["version", "--short"], { encoding: "utf8" }).stdout).toBe(
        `${OLD}\n`,
      );
      const update = spawnSync(join(root.path, "usr/bin/culvert"), ["update", "--from", "/x"], { encoding: "utf8" });
      expect(update.stderr).toContain("A package manager (rpm)");
      expect(rpm("-U", ...alone, join(built.path, "rpm-new", newer)).status).toBe(0);
      expect(rpm("-q", "culvert").said.trim()).toBe(`culvert-${NEW}-1.x86_64`);
      expect(rpm("-V", "--nodeps", "culvert")).toEqual({ status: 0, said: "" });
      expect(rpm("-e", ...alone, "culvert").status).toBe(0);
      expect(readdirSync(join(root.path, "usr/bin"))).toEqual([]);
    },
    DEADLINE_MS,
  );
});

describeRelease("OCI image", IS_X64_LINUX ?? whyNoImage("x64"), () => {
  let archive = "";
  const layout = (): string => archive.slice(0, -".tar".length);
  beforeAll(() => {
    archive = buildTwice(OLD, "oci", (input) => buildImage([input]));
  }, DEADLINE_MS);

  const readBlob = (digest: string): Buffer =>
    readFileSync(join(layout(), "blobs", "sha256", digest.replace("sha256:", "")));
  const readJson = (digest: string) => JSON.parse(readBlob(digest).toString());

  test("every digest and size is right, and nothing is there that nobody names", () => {
    const named: string[] = [];
    const follow = (descriptor: { digest: string; size: number; mediaType: string }): void => {
      named.push(descriptor.digest.replace("sha256:", ""));
      const content = readBlob(descriptor.digest);
      expect(`sha256:${createHash("sha256").update(content).digest("hex")}`).toBe(descriptor.digest);
      expect(content.length).toBe(descriptor.size);
      if (!descriptor.mediaType.match(/(index|manifest)\.v1\+json$/)) return;
      const body = JSON.parse(content.toString());
      for (const next of [...(body.manifests ?? []), ...(body.layers ?? []), ...(body.config ? [body.config] : [])]) {
        follow(next);
      }
    };
    for (const each of JSON.parse(readFileSync(join(layout(), "index.json"), "utf8")).manifests) follow(each);
    expect(readdirSync(join(layout(), "blobs", "sha256")).sort()).toEqual([...new Set(named)].sort());
    expect(JSON.parse(readFileSync(join(layout(), "oci-layout"), "utf8"))).toEqual({ imageLayoutVersion: "1.0.0" });
  });

  test("runs as nobody, as cloudflared's image does, and knows how it is", () => {
    const [index] = JSON.parse(readFileSync(join(layout(), "index.json"), "utf8")).manifests;
    const [manifest] = readJson(index.digest).manifests;
    expect(manifest.platform).toEqual({ architecture: "amd64", os: "linux" });
    const { config, rootfs } = readJson(readJson(manifest.digest).config.digest);
    expect(config).toMatchObject({
      ...{ User: "65532:65532", Entrypoint: ["culvert", "--no-autoupdate"], Cmd: ["version"] },
      Healthcheck: { Test: ["CMD", "/usr/local/bin/culvert", "tunnel", "ready"] },
    });
    expect(rootfs.diff_ids).toHaveLength(2);
  });

  const noSkopeo = missingCommand("skopeo");
  test.skipIf(noSkopeo !== undefined)(
    `skopeo reads the folder and the file${noSkopeo ? ` (${noSkopeo})` : ""}`,
    () => {
      for (const from of [`oci:${layout()}:${OLD}`, `oci-archive:${archive}:${OLD}`]) {
        const { status, said } = run(["skopeo", "inspect", from]);
        expect({ status, arch: JSON.parse(said).Architecture }).toEqual({ status: 0, arch: "amd64" });
      }
      const copied = join(built.path, "docker.tar");
      expect(
        run(["skopeo", "--insecure-policy", "copy", `oci:${layout()}:${OLD}`, `docker-archive:${copied}:x:y`]),
      ).toMatchObject({ status: 0 });
    },
    DEADLINE_MS,
  );

  const noUmoci =
    missingCommand("umoci", "chroot", "unshare", "ip") ?? (process.getuid?.() === 0 ? undefined : "needs root");
  test.skipIf(noUmoci !== undefined)(
    `unpacked by umoci, it serves as nobody, on a disk that is read-only but for /tmp${noUmoci ? ` (${noUmoci})` : ""}`,
    () => {
      const bundle = join(built.path, "bundle");
      expect(run(["umoci", "unpack", "--image", `${layout()}:${OLD}-amd64`, bundle]).status).toBe(0);
      const spec = JSON.parse(readFileSync(join(bundle, "config.json"), "utf8"));
      expect(spec.process.user).toMatchObject({ uid: 65_532, gid: 65_532 });
      expect(spec.process.args).toEqual(["culvert", "--no-autoupdate", "version"]);
      const root = join(bundle, "rootfs");
      const inside = (words: string, seconds = 30) => {
        const mounts = [
          `mount --bind ${root} ${root}`,
          `mount -o remount,bind,ro ${root}`,
          `mount -t tmpfs tmpfs ${root}/tmp`,
          `mount -t proc proc ${root}/proc`,
          // A network of its own: on the machine's, another connector may answer on the known port.
          "ip link set lo up",
        ];
        const enter = `exec env -i ${spec.process.env.join(" ")} $(command -v chroot) --userspec=65532:65532 ${root} ${words}`;
        return run([
          "timeout",
          `${seconds}`,
          "unshare",
          "--mount",
          "--net",
          "sh",
          "-c",
          [...mounts, enter].join(" && "),
        ]);
      };
      expect(inside("/usr/local/bin/culvert --no-autoupdate version --short")).toEqual({ status: 0, said: `${OLD}\n` });
      // It serves until it is told to stop.
      expect(inside("/usr/local/bin/culvert up --hello-world --check", 8).said).toMatch(/answered 200/);
      const ready = inside("/usr/local/bin/culvert tunnel ready");
      expect(ready).toMatchObject({ status: 1, said: expect.stringContaining("No connector answers") as string });
      expect(inside("/usr/local/bin/culvert update --from /x").said).toContain("A package manager (container image)");
    },
    DEADLINE_MS,
  );
});

describeRelease("scripts/build --packages", IS_X64_LINUX ?? missingCommand("dpkg-deb"), () => {
  test(
    "makes what the binaries allow, sums and signs it, and says what is missing",
    () => {
      using dir = makeTempDir();
      const root = join(import.meta.dirname, "..", "..");
      const { version } = JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as { version: string };
      linkSync(binaryOf(OLD), join(dir.path, `culvert-${version}-linux-x64`));
      const { secretFile } = makeMinisignKey();
      writeFileSync(join(dir.path, "key"), secretFile);
      const only = ["--only", "deb", "--only", "texts", "--sign", join(dir.path, "key")];
      const { status, said } = run([join(root, "scripts", "build"), "--packages", "--from", dir.path, ...only]);
      expect(said).toContain(`culvert_${version}_amd64.deb: `);
      // Homebrew's needs all four platforms.
      expect(said).toContain("error: not made: packaging/homebrew/culvert.rb: nothing is known of @FILE_DARWIN_ARM64@");
      expect(status).toBe(1);
      const out = join(dir.path, "packages");
      const sums = `culvert-${version}-packages-SHA256SUMS`;
      expect(spawnSync("sha256sum", ["--check", "--strict", sums], { cwd: out }).status).toBe(0);
      expect(readdirSync(out).sort()).toEqual([sums, `${sums}.minisig`, `culvert_${version}_amd64.deb`].sort());
    },
    DEADLINE_MS,
  );
});

describe("systemd units for updates", () => {
  const missing = missingCommand("systemd-analyze");
  test.skipIf(missing !== undefined)(`are what systemd takes${missing ? ` (${missing})` : ""}`, () => {
    using dir = makeTempDir();
    const folder = join(import.meta.dirname, "..", "..", "packaging", "systemd");
    for (const name of readdirSync(folder)) {
      const text = readFileSync(join(folder, name), "utf8");
      // It looks whether the program is there.
      writeFileSync(join(dir.path, name), text.replace("/usr/local/bin/culvert update", "/bin/true"));
    }
    const units = readdirSync(dir.path).map((name) => join(dir.path, name));
    const { status, said } = run(["systemd-analyze", "verify", "--man=no", ...units]);
    expect({ status, said: said.split("\n").filter((line) => line.includes("culvert-update")) }).toEqual({
      ...{ status: 0, said: [] },
    });
  });
});
