import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { createHash, randomBytes } from "node:crypto";
import { chmodSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";
import {
  addTunnel,
  CONNECTORS,
  type ConnectorKind,
  cleanEnvironment,
  startConnector,
  startEdgeProcess,
} from "../support/lab.ts";
import { field } from "../support/lab-message.ts";
import { dialLab } from "../support/lab-socket.ts";
import { pollUntil } from "../support/poll-until.ts";
import { runProcess, startProcess } from "../support/processes.ts";
import { startAccessPort } from "../support/real-services/access-port.ts";
import { type Authority, makeAuthority } from "../support/real-services/authority.ts";
import { commandPath, freePort, missingCommands } from "../support/real-services/commands.ts";
import { startDisplay } from "../support/real-services/display.ts";
import { NGINX_MISSING, startNginx } from "../support/real-services/nginx.ts";
import { POSTGRES_MISSING, postgresEnvironment, startPostgres } from "../support/real-services/postgres.ts";
import { REDIS_MISSING, startRedis } from "../support/real-services/redis.ts";
import { SAMBA_MISSING, type Samba, startSamba } from "../support/real-services/samba.ts";
import { startXrdp, XRDP_BACKGROUND, XRDP_MISSING } from "../support/real-services/xrdp.ts";
import { makeTempDir } from "../support/temp-dir.ts";
import { ask, visit } from "../support/visitors.ts";

const MIB = 1024 * 1024;
/** A cluster to make, and several processes to start. */
const START_MS = 60_000;
/** Processes that must be ended one after the other. */
const STOP_MS = 30_000;
const SLOW_MS = 60_000;
const COPY_ROWS = 100_000;

const CLOUDFLARED = process.env["CLOUDFLARED_BIN"] ?? "";
const CLOUDFLARED_MISSING = CLOUDFLARED === "" ? "CLOUDFLARED_BIN is not set" : undefined;
const CURL_MISSING = missingCommands("curl");

const sha256 = (bytes: Uint8Array | string): string => createHash("sha256").update(bytes).digest("hex");
const text = Array.from({ length: 20_000 }, (_, line) => `line ${line} of a text\n`).join("");
const bytes = randomBytes(5 * MIB);
const copied = Array.from({ length: COPY_ROWS }, (_, i) => {
  const value = String(i + 1);
  return `${value}\t${createHash("md5").update(value).digest("hex")}\n`;
});
const copiedHash = sha256(copied.join(""));

/** Behind every tunnel of this file, started once. */
const services = new AsyncDisposableStack();
const dir = services.use(makeTempDir());
const at = (name: string): string => join(dir.path, name);
/** A rule needs a port also where its service is missing. */
const NOWHERE = 1;
const ports = {
  ...{ postgres: NOWHERE, redis: NOWHERE, samba: NOWHERE, xrdp: NOWHERE },
  ...{ plain: NOWHERE, tls: NOWHERE, http2: NOWHERE, h2c: NOWHERE, mutual: NOWHERE },
};
let authority: Authority;
let samba: Samba | undefined;

beforeAll(async () => {
  chmodSync(dir.path, 0o711);
  mkdirSync(at("web"), { mode: 0o755 });
  writeFileSync(at("web/text.txt"), text);
  writeFileSync(at("web/bytes.bin"), bytes);
  authority = await makeAuthority(dir.path, "authority");
  const server = await authority.issue("origin.lab.example", "serverAuth");
  await authority.issue("client.lab.example", "clientAuth");
  const start = {
    postgres: async () => {
      ports.postgres = services.use(await startPostgres(server)).port;
    },
    redis: async () => {
      ports.redis = services.use(await startRedis()).port;
    },
    samba: async () => {
      samba = services.use(await startSamba());
      ports.samba = samba.port;
    },
    xrdp: async () => {
      ports.xrdp = services.use(await startXrdp(server)).port;
    },
    nginx: async () => {
      for (const name of ["plain", "tls", "http2", "h2c", "mutual"] as const) ports[name] = await freePort();
      const secure = `ssl_certificate ${server.cert}; ssl_certificate_key ${server.key};`;
      const told = 'default_type text/plain; return 200 "$ssl_server_name $server_protocol $ssl_client_s_dn";';
      services.use(
        await startNginx(`
          server {
            listen 127.0.0.1:${ports.plain};
            root ${at("web")};
            types { text/plain txt; }
            default_type application/octet-stream;
            gzip on; gzip_types text/plain; gzip_vary on;
            location = /small { client_max_body_size 1k; return 204; }
            location = /twice { keepalive_requests 2; return 200 "$connection"; }
          }
          server { listen unix:${at("nginx.sock")}; return 200 "unix $host $request_uri"; }
          server { listen 127.0.0.1:${ports.h2c} http2; ${told} }
          server { listen 127.0.0.1:${ports.tls} ssl; ${secure} ${told} }
          server { listen 127.0.0.1:${ports.http2} ssl http2; ${secure} ${told} }
          server {
            listen 127.0.0.1:${ports.mutual} ssl; ${secure} ${told}
            ssl_client_certificate ${authority.cert}; ssl_verify_client on;
          }`),
      );
    },
  };
  const missing = {
    postgres: POSTGRES_MISSING,
    redis: REDIS_MISSING,
    samba: SAMBA_MISSING,
    xrdp: XRDP_MISSING,
    nginx: NGINX_MISSING,
  };
  for (const name of ["postgres", "redis", "samba", "xrdp", "nginx"] as const) {
    if (missing[name] === undefined) await start[name]();
  }
}, START_MS);
afterAll(() => services.disposeAsync(), STOP_MS);

const HOSTS = ["pg", "redis", "smb", "rdp", "web", "unix", "tls", "untrusted", "http2", "h2c", "mutual", "stranger"];
const hostname = (name: string): string => `${name}.lab.example`;

function ingress(kind: ConnectorKind): string {
  const trusted = `caPool: ${authority.cert}, originServerName: origin.lab.example`;
  const proof = `clientCert: ${at("client.lab.example.pem")}, clientKey: ${at("client.lab.example.key")}`;
  const rule = (name: string, service: string, settings = ""): string =>
    `  - {hostname: ${hostname(name)}, service: "${service}", originRequest: {${settings}}}`;
  return [
    "ingress:",
    rule("pg", `tcp://127.0.0.1:${ports.postgres}`),
    rule("redis", `tcp://127.0.0.1:${ports.redis}`),
    rule("smb", `smb://127.0.0.1:${ports.samba}`),
    rule("rdp", `rdp://127.0.0.1:${ports.xrdp}`),
    rule("web", `http://127.0.0.1:${ports.plain}`),
    rule("unix", `unix:${at("nginx.sock")}`),
    rule("tls", `https://127.0.0.1:${ports.tls}`, trusted),
    rule("untrusted", `https://127.0.0.1:${ports.tls}`, "originServerName: origin.lab.example"),
    rule("http2", `https://127.0.0.1:${ports.http2}`, `${trusted}, http2Origin: true`),
    rule("stranger", `https://127.0.0.1:${ports.mutual}`, trusted),
    // cloudflared has no word for these.
    ...(kind.ours ? [rule("mutual", `https://127.0.0.1:${ports.mutual}`, `${trusted}, ${proof}`)] : []),
    ...(kind.ours ? [rule("h2c", `http://127.0.0.1:${ports.h2c}`, "http2Origin: h2c")] : []),
    "  - {service: http_status:404}",
  ].join("\n");
}

/** Skipped where it cannot run, and its name says why. */
function testUnless(missing: string | undefined, name: string, body: () => Promise<void>): void {
  if (missing === undefined) test(name, body, SLOW_MS);
  else test.skip(`${name} (${missing})`, body);
}

for (const kind of CONNECTORS) {
  const suite = kind.missing === undefined ? describe : describe.skip;
  suite(`real services, ${kind.name}${kind.missing === undefined ? "" : ` (${kind.missing})`}`, () => {
    const stack = new AsyncDisposableStack();
    let publicPort = 0;

    beforeAll(async () => {
      const own = stack.use(makeTempDir());
      const stateDir = join(own.path, "state");
      const file = join(own.path, "config.yml");
      writeFileSync(file, ingress(kind));
      const edge = await startEdgeProcess(stateDir);
      stack.use(edge.process);
      publicPort = edge.publicPort;
      const token = await addTunnel(stateDir, "lab", HOSTS.map(hostname));
      const { tunnelPort, caPath } = edge;
      const run = { token, tunnelPort, caPath, gracePeriod: "1s", flags: ["--config", file] };
      const connector = stack.use(startConnector(kind, run));
      await connector.errorLine(/Registered tunnel connection/);
    }, START_MS);
    afterAll(() => stack.disposeAsync(), STOP_MS);

    const accessPort = (command: "tcp" | "rdp" | "smb", name: string) =>
      startAccessPort(command, { host: hostname(name), publicPort });
    const get = (name: string, target: string, ...fields: readonly (readonly [string, string])[]) =>
      visit(publicPort, { host: hostname(name), target, fields });

    testUnless(POSTGRES_MISSING, "psql over TLS, 4 MB of rows, pgbench with 8 clients", async () => {
      await using forward = await accessPort("tcp", "pg");
      const secure = postgresEnvironment(forward.port, "verify-full", authority.cert);
      const shown = "select version() like 'PostgreSQL%', ssl from pg_stat_ssl where pid = pg_backend_pid()";
      expect(await psql(secure, shown)).toEqual({ code: 0, stdout: "t|t\n", stderr: "" });
      const clear = postgresEnvironment(forward.port, "disable");
      const rows = await psql(clear, `copy (select g, md5(g::text) from generate_series(1, ${COPY_ROWS}) g) to stdout`);
      expect([rows.code, sha256(rows.stdout)]).toEqual([0, copiedHash]);
      await benches(clear, 25);
      // A connection for every transaction.
      await pgbench(clear, "-S", "-C", "-t", "5");
    });

    testUnless(POSTGRES_MISSING, "psql cancels its query by a connection of its own", async () => {
      await using forward = await accessPort("tcp", "pg");
      const env = { ...postgresEnvironment(forward.port, "disable"), PGAPPNAME: "sleeper" };
      await using sleeper = startProcess([commandPath("psql"), "-X", "-c", "select pg_sleep(60)"], { env });
      const running = "select count(*) from pg_stat_activity where application_name = 'sleeper' and state = 'active'";
      const direct = postgresEnvironment(ports.postgres, "disable");
      await pollUntil(async () => (await psql(direct, running)).stdout === "1\n", {
        what: "the query runs",
        everyMs: 50,
      });
      sleeper.signal("SIGINT");
      expect(await sleeper.exitCode()).toBe(1);
      expect(sleeper.stderr).toContain("canceling statement due to user request");
    });

    // Once: which connector is behind the edge makes no difference to this client.
    if (kind === CONNECTORS[0]) {
      testUnless(
        POSTGRES_MISSING ?? NGINX_MISSING ?? CLOUDFLARED_MISSING,
        "psql and pgbench through the unmodified cloudflared access tcp, nginx with TLS in front of the edge",
        async () => {
          const { cert, key } = await authority.issue(hostname("pg"), "serverAuth");
          const [front, local] = [await freePort(), await freePort()];
          await using _front = await startNginx(`
          server {
            listen 127.0.0.1:${front} ssl; ssl_certificate ${cert}; ssl_certificate_key ${key};
            location / {
              proxy_pass http://127.0.0.1:${publicPort}; proxy_http_version 1.1; proxy_set_header Host $host;
              proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection upgrade;
            }
          }`);
          const argv = [CLOUDFLARED, "access", "tcp", "--hostname", hostname("pg"), "--url", `127.0.0.1:${local}`];
          await using client = startProcess([...argv, "--connect-to", `${hostname("pg")}:${front}:127.0.0.1`], {
            env: { ...cleanEnvironment(), HOME: dir.path },
          });
          await client.errorLine(/Start Websocket listener/);
          const env = postgresEnvironment(local, "require");
          expect(await psql(env, "select 6 * 7")).toEqual({ code: 0, stdout: "42\n", stderr: "" });
          await benches(env, 10);
        },
      );
    }

    testUnless(REDIS_MISSING, "redis-benchmark with 20 clients and pipelines of 16", async () => {
      await using forward = await accessPort("tcp", "redis");
      const to = ["-h", "127.0.0.1", "-p", String(forward.port)];
      expect((await runProcess([commandPath("redis-cli"), ...to, "flushall"])).stdout).toBe("OK\n");
      const load = ["-n", "5000", "-c", "20", "-P", "16", "-d", "1000", "-r", "100", "-t", "set,get", "--csv"];
      const bench = await runProcess([commandPath("redis-benchmark"), ...to, ...load], { deadlineMs: SLOW_MS / 2 });
      expect([bench.code, bench.stderr]).toEqual([0, ""]);
      expect([...bench.stdout.matchAll(/^"(SET|GET)","[\d.]+"/gm)].map(([, name]) => name)).toEqual(["SET", "GET"]);
      expect((await runProcess([commandPath("redis-cli"), ...to, "dbsize"])).stdout).toBe("100\n");
    });

    for (const protection of ["sign", "encrypt"]) {
      testUnless(SAMBA_MISSING, `smbclient puts and gets 5 MiB (${protection})`, async () => {
        if (samba === undefined) throw new Error("The file server did not start");
        await using forward = await accessPort("smb", "smb");
        using own = makeTempDir();
        const [here, back, there] = [join(own.path, "here"), join(own.path, "back"), `${protection}-${publicPort}`];
        writeFileSync(here, bytes);
        const script = `put ${here} ${there}; get ${there} ${back}; ls ${there}; del ${there}`;
        const argv = samba.client(forward.port, script, "--client-protection", protection);
        const { code, stdout } = await runProcess(argv, { deadlineMs: 30_000 });
        expect([code, stdout]).toEqual([0, expect.stringMatching(new RegExp(`${there} +A +${bytes.length} `))]);
        expect(sha256(readFileSync(back))).toBe(sha256(bytes));
      });
    }

    testUnless(XRDP_MISSING, "FreeRDP shows the login window of xrdp", async () => {
      await using display = await startDisplay();
      await using forward = await accessPort("rdp", "rdp");
      using home = makeTempDir();
      const argv = [
        "xfreerdp",
        `/v:127.0.0.1:${forward.port}`,
        "/u:",
        "/p:",
        "/sec:tls",
        "/cert:ignore",
        "/size:800x600",
      ];
      await using client = startProcess(argv, {
        env: { ...cleanEnvironment(), HOME: home.path, DISPLAY: display.name },
      });
      await pollUntil(() => display.pixels(XRDP_BACKGROUND) > 100_000 && display.colours() > 4, {
        what: `the login window\n${client.stderr}`,
        deadlineMs: 20_000,
        everyMs: 100,
      });
      expect(client.end).toBeUndefined();
    });

    testUnless(NGINX_MISSING, "nginx compresses for those who ask for it", async () => {
      const packed = await get("web", "/text.txt", ["Accept-Encoding", "gzip"]);
      expect([packed.status, field(packed, "content-encoding"), field(packed, "vary")]).toEqual([
        ...[200, "gzip", "Accept-Encoding"],
      ]);
      expect(packed.body.length).toBeLessThan(text.length / 4);
      expect(gunzipSync(packed.body).toString()).toBe(text);
      const plain = await get("web", "/text.txt");
      expect([plain.status, field(plain, "content-encoding")]).toEqual([200, undefined]);
      expect(plain.body.toString()).toBe(text);
    });

    testUnless(NGINX_MISSING, "HEAD, and requests on conditions", async () => {
      const head = await visit(publicPort, { host: hostname("web"), method: "HEAD", target: "/bytes.bin" });
      expect([head.status, field(head, "content-length"), field(head, "accept-ranges"), head.body.length]).toEqual([
        ...[200, String(bytes.length), "bytes", 0],
      ]);
      const etag = field(head, "etag") ?? "";
      const modified = field(head, "last-modified") ?? "";
      expect([etag, modified]).toEqual([expect.stringMatching(/^".+"$/), expect.stringMatching(/ GMT$/)]);
      for (const [name, value, status] of [
        ["If-None-Match", etag, 304],
        ["If-None-Match", '"other"', 200],
        ["If-Modified-Since", modified, 304],
        ["If-Match", '"other"', 412],
        ["If-Unmodified-Since", "Thu, 01 Jan 1998 00:00:00 GMT", 412],
      ] as const) {
        const answer = await get("web", "/bytes.bin", [name, value]);
        expect([name, answer.status]).toEqual([name, status]);
        if (status === 304) expect([field(answer, "etag"), answer.body.length]).toEqual([etag, 0]);
        if (status === 200) expect(sha256(answer.body)).toBe(sha256(bytes));
      }
    });

    testUnless(NGINX_MISSING, "byte ranges: one, the last, several, none that exist, and If-Range", async () => {
      const size = bytes.length;
      const range = (value: string, ...more: readonly (readonly [string, string])[]) =>
        get("web", "/bytes.bin", ["Range", value], ...more);
      for (const [value, from, to] of [
        ["bytes=0-0", 0, 1],
        ["bytes=1000000-2999999", 1_000_000, 3_000_000],
        ["bytes=-10", size - 10, size],
        [`bytes=${size - 5}-`, size - 5, size],
      ] as const) {
        const answer = await range(value);
        expect([answer.status, field(answer, "content-range")]).toEqual([206, `bytes ${from}-${to - 1}/${size}`]);
        expect(answer.body.equals(bytes.subarray(from, to))).toBe(true);
      }
      const several = await range("bytes=0-99,200000-299999,-1");
      const boundary = /^multipart\/byteranges; boundary=(\S+)$/.exec(field(several, "content-type") ?? "")?.[1] ?? "";
      expect([several.status, boundary]).toEqual([206, expect.stringMatching(/./)]);
      expect(several.body.equals(multipart(boundary, [0, 100], [200_000, 300_000], [size - 1, size]))).toBe(true);
      const beyond = await range(`bytes=${size}-`);
      expect([beyond.status, field(beyond, "content-range")]).toEqual([416, `bytes */${size}`]);
      const etag = field(beyond, "etag") ?? field(several, "etag") ?? "";
      const same = await range("bytes=5-9", ["If-Range", etag]);
      expect([same.status, same.body.equals(bytes.subarray(5, 10))]).toEqual([206, true]);
      const changed = await range("bytes=5-9", ["If-Range", '"other"']);
      expect([changed.status, sha256(changed.body)]).toEqual([200, sha256(bytes)]);
    });

    testUnless(NGINX_MISSING ?? CURL_MISSING, "curl goes on where a download was cut", async () => {
      using own = makeTempDir();
      const file = join(own.path, "bytes");
      writeFileSync(file, bytes.subarray(0, 2_345_678));
      const host = ["--resolve", `${hostname("web")}:${publicPort}:127.0.0.1`];
      const url = `http://${hostname("web")}:${publicPort}/bytes.bin`;
      const curl = [
        "curl",
        "-sS",
        "--max-time",
        "20",
        ...host,
        "-C",
        "-",
        "-o",
        file,
        "-w",
        "%{http_code} %{size_download}",
      ];
      expect(await runProcess([...curl, url], { env: cleanEnvironment() })).toEqual({
        ...{ code: 0, stdout: `206 ${bytes.length - 2_345_678}`, stderr: "" },
      });
      expect(sha256(readFileSync(file))).toBe(sha256(bytes));
    });

    testUnless(NGINX_MISSING, "nginx refuses a body that is too large while it comes", async () => {
      const body = bytes.subarray(0, MIB);
      const refused = await visit(publicPort, { host: hostname("web"), method: "POST", target: "/small", body });
      expect(refused.status).toBe(413);
      const taken = await visit(publicPort, {
        host: hostname("web"),
        method: "POST",
        target: "/small",
        body: "little",
      });
      expect(taken.status).toBe(204);
    });

    testUnless(NGINX_MISSING, "nginx ends each connection after two requests: none of 200 is lost", async () => {
      const visitors = Array.from({ length: 10 }, async () => {
        await using socket = await dialLab(publicPort);
        const seen: string[] = [];
        for (let i = 0; i < 20; i += 1) {
          const { status, body } = await ask(socket, { host: hostname("web"), target: "/twice" });
          seen.push(`${status} ${body.toString()}`);
        }
        return seen;
      });
      const seen = (await Promise.all(visitors)).flat();
      expect(seen.filter((each) => !each.startsWith("200 "))).toEqual([]);
      expect(new Set(seen).size).toBeGreaterThanOrEqual(100);
    });

    testUnless(NGINX_MISSING, "nginx on a Unix socket", async () => {
      const answer = await get("unix", "/a%20path?and=query");
      expect([answer.status, answer.body.toString()]).toEqual([200, "unix unix.lab.example /a%20path?and=query"]);
    });

    testUnless(NGINX_MISSING, "HTTPS by a private authority, which must be named", async () => {
      const trusted = await get("tls", "/");
      expect([trusted.status, trusted.body.toString()]).toEqual([200, "origin.lab.example HTTP/1.1 "]);
      expect((await get("untrusted", "/")).status).toBe(502);
      const second = await get("http2", "/");
      expect([second.status, second.body.toString()]).toEqual([200, "origin.lab.example HTTP/2.0 "]);
    });

    testUnless(
      NGINX_MISSING,
      "nginx that asks for a client certificate answers 400 to a connector without",
      async () => {
        const answer = await get("stranger", "/");
        expect([answer.status, answer.body.toString()]).toEqual([
          ...[400, expect.stringContaining("No required SSL certificate was sent")],
        ]);
      },
    );

    testUnless(
      NGINX_MISSING ?? (kind.ours ? undefined : "cloudflared cannot"),
      "a client certificate, and HTTP/2 without TLS",
      async () => {
        const proven = await get("mutual", "/");
        expect([proven.status, proven.body.toString()]).toEqual([
          200,
          "origin.lab.example HTTP/1.1 CN=client.lab.example",
        ]);
        const clear = await get("h2c", "/");
        expect([clear.status, clear.body.toString()]).toEqual([200, " HTTP/2.0 "]);
      },
    );
  });
}

type Environment = Readonly<Record<string, string>>;

/** Runs SQL; rows as lines, values between bars. */
function psql(env: Environment, sql: string): ReturnType<typeof runProcess> {
  return runProcess([commandPath("psql"), "-X", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", sql], { env });
}

async function pgbench(env: Environment, ...flags: readonly string[]): Promise<string> {
  const argv = [commandPath("pgbench"), "-n", "-c", "8", "-j", "2", ...flags];
  const { code, stdout, stderr } = await runProcess(argv, { env, deadlineMs: SLOW_MS / 2 });
  expect([code, stderr.includes("error")]).toEqual([0, false]);
  return stdout;
}

/** Fills the tables of pgbench, runs its transactions with 8 clients, and looks whether all of them count. */
async function benches(env: Environment, transactions: number): Promise<void> {
  const filled = await runProcess([commandPath("pgbench"), "-i", "-q"], { env, deadlineMs: SLOW_MS / 2 });
  expect([filled.code, filled.stderr]).toEqual([0, expect.stringContaining("done in")]);
  const all = 8 * transactions;
  const said = await pgbench(env, "-t", String(transactions));
  expect(said).toContain(`number of transactions actually processed: ${all}/${all}`);
  const kept = "select count(*), sum(delta) = (select sum(bbalance) from pgbench_branches) from pgbench_history";
  expect((await psql(env, kept)).stdout).toBe(`${all}|t\n`);
}

/** The body of an answer with several ranges, as nginx writes it (RFC 9110 section 14.6). */
function multipart(boundary: string, ...ranges: readonly (readonly [from: number, to: number])[]): Buffer {
  const parts = ranges.flatMap(([from, to]) => [
    Buffer.from(`\r\n--${boundary}\r\nContent-Type: application/octet-stream\r\n`),
    Buffer.from(`Content-Range: bytes ${from}-${to - 1}/${bytes.length}\r\n\r\n`),
    bytes.subarray(from, to),
  ]);
  return Buffer.concat([...parts, Buffer.from(`\r\n--${boundary}--\r\n`)]);
}
