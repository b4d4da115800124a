import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { createHash } from "node:crypto";
import { copyFileSync, mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { connect as connectHttp2 } from "node:http2";
import { join } from "node:path";
import { connect as connectTls, createSecureContext } from "node:tls";
import { culvertCommand } from "../support/binary.ts";
import { makeTestCertificate, type TestCertificate } from "../support/certificate.ts";
import { CULVERT, HOST, type Lab, startLab } from "../support/lab.ts";
import { patternBytes, patternDigest } from "../support/lab-pattern.ts";
import { dialLab } from "../support/lab-socket.ts";
import { pollUntil } from "../support/poll-until.ts";
import { runProcess, startProcess } from "../support/processes.ts";
import { makeTempDir } from "../support/temp-dir.ts";
import { visit } from "../support/visitors.ts";

const OTHER = "other.lab.example";
const WILD = "*.wild.example";

/** One line of what curl says of an answer: status, version, where it redirects to. */
async function curl(port: number, url: string, ...more: readonly string[]): Promise<string> {
  const host = new URL(url).hostname;
  const { stdout, stderr } = await runProcess([
    ...["curl", "--silent", "--show-error", "--output", "/dev/null", "--max-time", "10"],
    ...["--write-out", "%{http_code} %{http_version} %{redirect_url}", "--resolve", `${host}:${port}:127.0.0.1`],
    ...more,
    url,
  ]);
  return stdout.startsWith("000") ? stderr : stdout.trim();
}

/** What OpenSSL says of a handshake. */
async function handshake(port: number, ...more: readonly string[]) {
  const { stdout, stderr } = await runProcess(["openssl", "s_client", "-connect", `127.0.0.1:${port}`, ...more]);
  const text = stdout + stderr;
  return {
    subject: /^subject=\s*CN ?= ?(\S+)/m.exec(text)?.[1],
    version: /^New, ([\w.]+),/m.exec(text)?.[1],
    alpn: /^ALPN protocol: (\S+)/m.exec(text)?.[1],
    refused: /New, \(NONE\)/.test(text),
  };
}

function write(dir: string, name: string, pair: TestCertificate): void {
  for (const [extension, text] of [
    ["crt", pair.cert],
    ["key", pair.key],
  ] as const) {
    writeFileSync(join(dir, `.${name}.new`), text);
    renameSync(join(dir, `.${name}.new`), join(dir, `${name}.${extension}`));
  }
}

describe("an edge with certificates from files", () => {
  const stack = new AsyncDisposableStack();
  let lab: Lab;
  let dir: string;
  let app: TestCertificate;

  beforeAll(async () => {
    dir = stack.use(makeTempDir()).path;
    app = await makeTestCertificate([HOST]);
    write(dir, "app", app);
    write(dir, "wild", await makeTestCertificate([WILD, "wild.example"]));
    const bot = join(dir, OTHER);
    mkdirSync(bot);
    const other = await makeTestCertificate([OTHER]);
    writeFileSync(join(bot, "fullchain.pem"), other.cert);
    writeFileSync(join(bot, "privkey.pem"), other.key);
    lab = stack.use(
      await startLab(CULVERT, {
        hostnames: [HOST, OTHER, WILD],
        edgeFlags: [
          "--https-listen",
          "127.0.0.1:0",
          "--tls-dir",
          dir,
          "--hsts",
          "180d;includeSubDomains",
          "--metrics",
          "127.0.0.1:0",
          "--limit",
          "header-timeout=2s",
        ],
      }),
    );
  }, 30_000);
  afterAll(async () => await stack.disposeAsync());

  test("each name gets its own certificate: exact, wildcard, else the first", async () => {
    const { httpsPort } = lab.edge;
    for (const [name, subject] of [
      [HOST, HOST],
      [HOST.toUpperCase(), HOST],
      [OTHER, OTHER],
      ["a.wild.example", WILD],
      ["a.b.wild.example", HOST],
      ["nobody.example", HOST],
    ] as const) {
      expect({ name, ...(await handshake(httpsPort, "-servername", name)) }).toMatchObject({ name, subject });
    }
    expect(await handshake(httpsPort, "-noservername")).toMatchObject({ subject: HOST });
  });

  test("TLS 1.2 and 1.3 with good ciphers, nothing older or weaker; ALPN as the client prefers of what there is", async () => {
    const { httpsPort } = lab.edge;
    const of = (...more: string[]) => handshake(httpsPort, "-servername", HOST, ...more);
    expect(await of("-alpn", "h2,http/1.1")).toMatchObject({ version: "TLSv1.3", alpn: "h2" });
    expect(await of("-tls1_2", "-alpn", "http/1.1")).toMatchObject({ version: "TLSv1.2", alpn: "http/1.1" });
    expect(await of("-tls1_2")).toMatchObject({ version: "TLSv1.2", alpn: undefined });
    expect(await of("-tls1_1", "-cipher", "ALL:@SECLEVEL=0")).toMatchObject({ refused: true });
    for (const cipher of ["ECDHE-ECDSA-AES256-SHA", "AES128-SHA", "AES128-GCM-SHA256"]) {
      expect({ cipher, ...(await of("-tls1_2", "-cipher", cipher)) }).toMatchObject({ cipher, refused: true });
    }
    expect(await of("-alpn", "smtp")).toMatchObject({ refused: true });
  });

  test("curl loads the site over HTTP/2 and HTTP/1.1 and trusts it", async () => {
    const { httpsPort } = lab.edge;
    const ca = join(dir, "app.crt");
    const url = `https://${HOST}:${httpsPort}/hello`;
    expect(await curl(httpsPort, url, "--cacert", ca)).toBe("200 2");
    expect(await curl(httpsPort, url, "--cacert", ca, "--http1.1")).toBe("200 1.1");
    expect(await curl(httpsPort, url, "--cacert", join(dir, "wild.crt"))).toContain("certificate");
    const seen = lab.origin.seenAt("/hello");
    expect(seen?.fields).toContainEqual(["X-Forwarded-Proto", "https"]);
  });

  test.each(["--http1.1", "--http2"])(
    "64 MiB go both ways over TLS with %s, byte for byte",
    async (version) => {
      const { httpsPort } = lab.edge;
      const bytes = 64 * 1024 ** 2;
      using files = makeTempDir();
      const [got, sent] = [join(files.path, "got"), join(files.path, "sent")];
      writeFileSync(sent, Buffer.concat([...patternBytes(bytes)]));
      const base = [
        "curl",
        "-sS",
        version,
        "--cacert",
        join(dir, "app.crt"),
        "--resolve",
        `${HOST}:${httpsPort}:127.0.0.1`,
      ];
      const url = `https://${HOST}:${httpsPort}`;
      const down = await runProcess([...base, "-o", got, `${url}/bulk?bytes=${bytes}`], { deadlineMs: 30_000 });
      expect(down).toMatchObject({ code: 0, stderr: "" });
      expect(createHash("sha256").update(readFileSync(got)).digest("hex")).toBe(patternDigest(bytes));
      const up = await runProcess([...base, "-T", sent, `${url}/upload`], { deadlineMs: 30_000 });
      expect(JSON.parse(up.stdout)).toEqual({ bytes, sha256: patternDigest(bytes) });
      const chunked = await runProcess([...base, "-o", got, `${url}/bulk?chunked&bytes=1000000`]);
      expect(chunked).toMatchObject({ code: 0, stderr: "" });
      expect(readFileSync(got).length).toBe(1_000_000);
      // A cut answer must look like one, whatever TLS makes of the end of a connection.
      const cut = await runProcess([...base, "-o", got, "-w", "%{http_code}", `${url}/abort?chunked`]);
      expect(cut.code !== 0 || cut.stdout === "502").toBe(true);
    },
    60_000,
  );

  test("a WebSocket runs over TLS and closes in good order", async () => {
    const socket = new WebSocket(`wss://127.0.0.1:${lab.edge.httpsPort}/ws`, {
      headers: { Host: HOST },
      tls: { rejectUnauthorized: false },
    } as unknown as string[]);
    const echoed = await new Promise((resolve, reject) => {
      socket.onopen = () => socket.send("over TLS");
      socket.onmessage = ({ data }) => resolve(data);
      socket.onerror = reject;
    });
    expect(echoed).toBe("over TLS");
    const code = await new Promise((resolve) => {
      socket.onclose = (event) => resolve(event.code);
      socket.send("close 4001 bye");
    });
    expect(code).toBe(4001);
  });

  test("who connects and shakes no hands is let go, and counts", async () => {
    const { httpsPort } = lab.edge;
    await using silent = await dialLab(httpsPort);
    await using noise = await dialLab(httpsPort);
    await noise.write("GET / HTTP/1.1\r\nHost: plain\r\n\r\n");
    await pollUntil(() => noise.end !== undefined, { what: "plain HTTP on the TLS port is closed" });
    await pollUntil(() => silent.end !== undefined, { what: "the silent one is closed", deadlineMs: 10_000 });
    const { body } = await visit(lab.edge.metricsPort, { host: "127.0.0.1", target: "/metrics" });
    const failures = Number(/^culvert_edge_tls_handshake_failures_total (\d+)$/m.exec(body.toString())?.[1]);
    expect(failures).toBeGreaterThanOrEqual(2);
    await pollUntil(
      async () => {
        const metrics = await visit(lab.edge.metricsPort, { host: "127.0.0.1", target: "/metrics" });
        return /^culvert_edge_open_connections 0$/m.test(metrics.body.toString());
      },
      { what: "no connection is left" },
    );
  }, 20_000);

  test("plain HTTP leads to HTTPS with the same path, but for what an ACME server asks", async () => {
    const { httpsPort, publicPort } = lab.edge;
    const at = (path: string, ...more: string[]) => curl(publicPort, `http://${HOST}:${publicPort}${path}`, ...more);
    expect(await at("/a%20b?c=d")).toBe(`308 1.1 https://${HOST}:${httpsPort}/a%20b?c=d`);
    expect(await at("/x", "--data", "body")).toBe(`308 1.1 https://${HOST}:${httpsPort}/x`);
    expect(await at("/x", "--http2-prior-knowledge")).toBe(`308 2 https://${HOST}:${httpsPort}/x`);
    expect(await at("/.well-known/acme-challenge/hello")).not.toContain("308");
    expect(await curl(publicPort, `http://nobody.example:${publicPort}/`)).toBe("404 1.1");
  });

  test("answers over HTTPS, errors too, ask for Strict-Transport-Security, and no other", async () => {
    const { httpsPort, publicPort } = lab.edge;
    const fields = async (port: number, url: string) =>
      (await runProcess(["curl", "-ksi", "--resolve", `${new URL(url).hostname}:${port}:127.0.0.1`, url])).stdout;
    const hsts = "strict-transport-security: max-age=15552000; includeSubDomains";
    expect((await fields(httpsPort, `https://${HOST}:${httpsPort}/hello`)).toLowerCase()).toContain(hsts.toLowerCase());
    expect(await fields(httpsPort, `https://nobody.example:${httpsPort}/`)).toContain(hsts);
    expect((await fields(publicPort, `http://${HOST}:${publicPort}/`)).toLowerCase()).not.toContain("strict-transport");
  });

  test("a request over a connection that was made for another site is misdirected", async () => {
    const { httpsPort } = lab.edge;
    const session = connectHttp2(`https://127.0.0.1:${httpsPort}`, { servername: HOST, rejectUnauthorized: false });
    const ask = (authority: string): Promise<number> =>
      new Promise((resolve, reject) => {
        const stream = session.request({ ":authority": authority, ":path": "/hello" });
        stream.on("response", (headers) => resolve(Number(headers[":status"])));
        stream.on("error", reject);
        stream.resume();
        stream.end();
      });
    try {
      expect(await ask(HOST)).toBe(200);
      expect(await ask(`${HOST}:${httpsPort}`)).toBe(200);
      expect(await ask(OTHER)).toBe(421);
      expect(await ask("a.wild.example")).toBe(421);
      expect(await ask(HOST)).toBe(200);
    } finally {
      session.destroy();
    }
    // The certificate of one covers the other: that is what coalescing is for.
    const wild = ["--http2", "--connect-to", `::127.0.0.1:${httpsPort}`, "-H", "Host: b.wild.example", "-k"];
    expect(await curl(httpsPort, `https://a.wild.example:${httpsPort}/hello`, ...wild)).toBe("200 2");
  });

  test("a broken pair is said and what it was before stays; a new one is taken without a restart", async () => {
    const { httpsPort } = lab.edge;
    const serial = async (): Promise<string> => {
      const argv = ["openssl", "s_client", "-connect", `127.0.0.1:${httpsPort}`, "-servername", HOST];
      const { stdout } = await runProcess(argv);
      return stdout.slice(stdout.indexOf("-----BEGIN"), stdout.indexOf("-----END"));
    };
    const before = await serial();
    writeFileSync(join(dir, "app.key"), "not a key\n");
    await lab.edge.process.errorLine(/Cannot use the certificate .*app\.crt.*the one before stays/);
    expect(await serial()).toBe(before);
    app = await makeTestCertificate([HOST]);
    write(dir, "app", app);
    await pollUntil(async () => (await serial()) !== before, { what: "the new certificate", deadlineMs: 10_000 });
    copyFileSync(join(dir, "app.crt"), join(dir, "late.crt"));
    copyFileSync(join(dir, "app.key"), join(dir, "late.key"));
    const late = await makeTestCertificate(["late.example"]);
    write(dir, "late", late);
    await pollUntil(
      async () => (await handshake(httpsPort, "-servername", "late.example")).subject === "late.example",
      {
        what: "a pair that came later",
        deadlineMs: 10_000,
      },
    );
  }, 40_000);

  test("certificates change under load without a failed request", async () => {
    const { httpsPort } = lab.edge;
    const authorities: string[] = [app.cert];
    const seen = new Set<string>();
    let requests = 0;
    let stop = false;
    const failures: string[] = [];
    const one = (): Promise<void> =>
      new Promise((resolve) => {
        const socket = connectTls({
          ...{ host: "127.0.0.1", port: httpsPort, servername: HOST },
          secureContext: createSecureContext({ ca: authorities }),
        });
        let text = "";
        socket.on("secureConnect", () => {
          seen.add(socket.getPeerCertificate().serialNumber);
          socket.write(`GET /hello HTTP/1.1\r\nHost: ${HOST}\r\nConnection: close\r\n\r\n`);
        });
        socket.on("data", (chunk: Buffer) => {
          text += chunk.toString("latin1");
        });
        socket.on("error", (error) => failures.push(String(error)));
        socket.on("close", () => {
          requests += 1;
          if (!text.startsWith("HTTP/1.1 200")) failures.push(`answer: ${text.slice(0, 60)}`);
          resolve();
        });
      });
    const worker = async (): Promise<void> => {
      while (!stop) await one();
    };
    const workers = Array.from({ length: 8 }, worker);
    await pollUntil(() => seen.size > 0, { what: "the first visitors" });
    for (let round = 0; round < 3; round += 1) {
      const next = await makeTestCertificate([HOST]);
      authorities.push(next.cert);
      const known = seen.size;
      write(dir, "app", next);
      await pollUntil(() => seen.size > known, { what: "visitors see the new certificate", deadlineMs: 10_000 });
    }
    stop = true;
    await Promise.all(workers);
    expect(failures).toEqual([]);
    expect(seen.size).toBeGreaterThanOrEqual(4);
    expect(requests).toBeGreaterThan(50);
  }, 60_000);
});

describe("an edge that makes its certificates itself", () => {
  test("ca.pem of its state directory is all that a visitor needs, for each hostname that is routed", async () => {
    await using lab = await startLab(CULVERT, {
      hostnames: [HOST, WILD],
      edgeFlags: ["--https-listen", "127.0.0.1:0", "--tls-internal"],
    });
    const { httpsPort, caPath } = lab.edge;
    const load = (host: string) => curl(httpsPort, `https://${host}:${httpsPort}/hello`, "--cacert", caPath);
    expect(await load(HOST)).toBe("200 2");
    expect(await load("any.name.wild.example")).toBe("200 2");
    expect(await load("localhost")).toBe("404 2");
    expect(await load("nobody.example")).toContain("no alternative certificate subject name matches");
    const asIp = ["--cacert", caPath];
    expect(await curl(httpsPort, `https://127.0.0.1:${httpsPort}/`, ...asIp)).toBe("404 2");
  }, 30_000);
});

test.each([
  { flags: ["--https-listen", "127.0.0.1:0"], says: "--https-listen needs certificates" },
  { flags: ["--tls-cert", "/nowhere.pem", "--tls-key", "/nowhere.key"], says: "there is no such file" },
  { flags: ["--tls-cert", "/nowhere.pem"], says: "Each --tls-cert needs a --tls-key" },
  { flags: ["--tls-dir", "/nowhere"], says: 'Cannot read the certificates in "/nowhere"' },
  { flags: ["--tls-internal", "--hsts", "for ever"], says: "--hsts" },
  { flags: ["--limit", "speed=1"], says: "names: connections," },
])("edge run $flags is refused with advice", async ({ flags, says }) => {
  using dir = makeTempDir();
  const listen = ["--http-listen", "127.0.0.1:0", "--tunnel-listen", "127.0.0.1:0"];
  const argv = [...culvertCommand(), "edge", "run", "--state-dir", join(dir.path, "s"), ...listen, ...flags];
  const { code, stderr } = await runProcess(argv);
  expect(code).not.toBe(0);
  expect(stderr).toContain(says);
});

test("culvert up --tls-internal serves an empty folder's first site over HTTPS", async () => {
  using dir = makeTempDir();
  const argv = ["up", "--hello-world", "--json", "--tls-internal", "--state-dir", join(dir.path, "s")];
  await using up = startProcess([...culvertCommand(), ...argv]);
  const [line] = await up.outputLine(/\{.*\}/);
  const { urls } = JSON.parse(line) as { urls: readonly string[] };
  const url = urls.find((each) => each.startsWith("https://")) ?? "";
  const port = Number(new URL(url).port);
  expect(await curl(port, `${url}/`, "--cacert", join(dir.path, "s", "ca.pem"))).toBe("200 2");
  const refused = await runProcess([...culvertCommand(), "up", "--tls-internal"]);
  expect(refused.stderr).toContain("--state-dir");
});
