import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { createServer } from "node:https";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { exportJWK, generateKeyPair, type JWK, SignJWT } from "jose";
import { culvertCommand } from "../support/binary.ts";
import { makeTestCertificate } from "../support/certificate.ts";
import {
  addTunnel,
  CONNECTORS,
  type ConnectorKind,
  cleanEnvironment,
  type EdgeProcess,
  HOST,
  startEdgeProcess,
} from "../support/lab.ts";
import { type LabOrigin, startOrigin } from "../support/origins.ts";
import { canHaveOwnHosts, hostsFile, withHosts } from "../support/own-hosts.ts";
import { runProcess, startProcess } from "../support/processes.ts";
import { startTcpOrigin } from "../support/tcp-origin.ts";
import { makeTempDir } from "../support/temp-dir.ts";
import { visit } from "../support/visitors.ts";

const TEAM_HOST = "team.cloudflareaccess.com";
const ISSUER = `https://${TEAM_HOST}`;
const AUDIENCE = "b".repeat(64);
const TCP_HOST = "tcp.lab.example";
/** An address of this machine whose port 443 nothing else has: the URL of a team's keys names no port. */
const TEAM_IP = `127.${1 + (process.pid % 250)}.${1 + (Math.floor(process.pid / 250) % 250)}.9`;

interface Signer {
  readonly jwk: JWK;
  sign(claims?: Record<string, unknown>): Promise<string>;
}

async function makeSigner(kid: string): Promise<Signer> {
  const { privateKey, publicKey } = await generateKeyPair("RS256", { extractable: true });
  const sign = (claims: Record<string, unknown> = {}): Promise<string> =>
    new SignJWT({ iss: ISSUER, aud: [AUDIENCE], exp: Math.floor(Date.now() / 1000) + 600, ...claims })
      .setProtectedHeader({ alg: "RS256", kid })
      .setIssuedAt()
      .sign(privateKey);
  return { jwk: { ...(await exportJWK(publicKey)), kid, alg: "RS256", use: "sig" }, sign };
}

/** The team's domain as far as its keys go. */
class Team implements AsyncDisposable {
  readonly current: Signer;
  /** Signed until it was withdrawn. */
  readonly former: Signer;
  /** Shares the current one's name, and nothing else. */
  readonly impostor: Signer;
  readonly certificate: string;
  fetches = 0;
  readonly #server: ReturnType<typeof createServer>;

  private constructor(
    signers: readonly [Signer, Signer, Signer],
    tls: { readonly cert: string; readonly key: string },
  ) {
    [this.current, this.former, this.impostor] = signers;
    this.certificate = tls.cert;
    this.#server = createServer(tls, (_request, answer) => {
      this.fetches += 1;
      const body = JSON.stringify({ keys: [this.current.jwk], public_certs: [] });
      answer.setHeader("Content-Type", "application/json").end(body);
    });
  }

  static async start(): Promise<Team> {
    const signers = await Promise.all([makeSigner("current"), makeSigner("former"), makeSigner("current")]);
    const team = new Team(signers, await makeTestCertificate([TEAM_HOST]));
    await new Promise<void>((resolve, reject) => {
      team.#server.once("error", reject);
      team.#server.listen(443, TEAM_IP, resolve);
    });
    expect((team.#server.address() as AddressInfo).port).toBe(443);
    return team;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }
}

function rules(httpPort: number, tcpPort: number): string {
  return `originRequest:
  connectTimeout: 5s
ingress:
  - hostname: ${HOST}
    path: ^/open
    service: http://127.0.0.1:${httpPort}
  - hostname: ${HOST}
    service: http://127.0.0.1:${httpPort}
    originRequest: &access
      access: { required: true, teamName: team, audTag: [${"a".repeat(64)}, ${AUDIENCE}] }
  - hostname: ${TCP_HOST}
    service: tcp://127.0.0.1:${tcpPort}
    originRequest: *access
  - service: http_status:404
`;
}

const ownHosts = await canHaveOwnHosts();

for (const kind of CONNECTORS) {
  describe.skipIf(kind.missing !== undefined || !ownHosts)(`access.required behind our edge, ${kind.name}`, () => {
    const stack = new AsyncDisposableStack();
    let team: Team;
    let edge: EdgeProcess;
    let origin: LabOrigin;

    beforeAll(async () => {
      team = stack.use(await Team.start());
      origin = stack.use(await startOrigin());
      const echo = stack.use(await startTcpOrigin((socket) => void socket.pipe(socket)));
      edge = await startConnectorWithRules(kind, team, rules(origin.port, echo.port), stack);
    }, 30_000);
    afterAll(() => stack.disposeAsync());

    const hello = async (...fields: (readonly [string, string])[]): Promise<number> =>
      (await visit(edge.publicPort, { host: HOST, target: "/hello", fields })).status;

    test.each([
      ["the header that connectors read", (token: string) => ["Cf-Access-Jwt-Assertion", token] as const],
      ["the header of access clients", (token: string) => ["Cf-Access-Token", token] as const],
      ["the cookie of browsers", (token: string) => ["Cookie", `a=b; CF_Authorization=${token}; c=d`] as const],
    ])("a valid token passes in %s", async (_where, field) => {
      const answer = await visit(edge.publicPort, {
        host: HOST,
        target: "/hello",
        fields: [field(await team.current.sign())],
      });
      expect([answer.status, answer.body.toString()]).toEqual([200, "hello"]);
      expect(team.fetches).toBeGreaterThan(0);
    });

    // cloudflared tells a token that it cannot verify from one that it may not accept; it refuses both.
    test.each([
      { name: "expired", claims: { exp: Math.floor(Date.now() / 1000) - 3600 }, theirs: 502 },
      { name: "of another audience", claims: { aud: ["c".repeat(64)] }, theirs: 403 },
      { name: "of another issuer", claims: { iss: "https://other.cloudflareaccess.com" }, theirs: 502 },
      { name: "signed by somebody else in the key's name", signer: "impostor", theirs: 502 },
      { name: "signed by a key that was withdrawn", signer: "former", theirs: 502 },
    ] as const)("a token $name does not pass", async ({ theirs, ...how }) => {
      const signer = team["signer" in how ? how.signer : "current"];
      const token = await signer.sign("claims" in how ? how.claims : {});
      const seen = origin.seen.length;
      const want = kind.ours ? 403 : theirs;
      expect(await hello(["Cf-Access-Jwt-Assertion", token])).toBe(want);
      expect(await hello(["Cookie", `CF_Authorization=${token}`])).toBe(want);
      expect(origin.seen).toHaveLength(seen);
    });

    test("without a token, or with something that is none, nobody passes; where nothing is required, everybody", async () => {
      const valid = await team.current.sign();
      expect(await hello()).toBe(403);
      expect(await hello(["Cf-Access-Jwt-Assertion", "nonsense"])).toBe(403);
      expect(await hello(["Cf_Access_Jwt_Assertion", valid])).toBe(403);
      expect(await hello(["Cookie", `CF_AuthorizationX=${valid}`])).toBe(403);
      expect((await visit(edge.publicPort, { host: HOST, target: "/open" })).status).toBe(404);
      expect(origin.seenAt("/open")).toBeDefined();
    });

    test("a stream client passes with its token, and is told when it may not", async () => {
      const reach = async (token: string): Promise<{ code: number | null; stdout: string; stderr: string }> => {
        const args = ["--hostname", `http://${TCP_HOST}`, "--connect-to", `127.0.0.1:${edge.publicPort}`];
        const command = [...culvertCommand(), "access", "tcp", ...args, "--header", `Cf-Access-Token: ${token}`];
        // The input lasts a moment longer than the answer takes: cloudflared forgets what is under way at its end.
        const script = '{ printf "through the tunnel"; sleep 1; } | "$0" "$@"';
        return await runProcess(["sh", "-c", script, ...command], { env: cleanEnvironment() });
      };
      expect(await reach(await team.current.sign())).toEqual({ code: 0, stdout: "through the tunnel", stderr: "" });
      const refused = await reach(await team.current.sign({ aud: ["c".repeat(64)] }));
      expect([refused.code, refused.stdout]).toEqual([1, ""]);
      expect(refused.stderr).toContain("403");
      expect(refused.stderr).not.toContain("eyJ");
    }, 20_000);
  });
}

/** Edge and connector of this stack; the connector finds the team on this machine and believes its certificate. */
async function startConnectorWithRules(
  kind: ConnectorKind,
  team: Team,
  text: string,
  stack: AsyncDisposableStack,
): Promise<EdgeProcess> {
  const dir = stack.use(makeTempDir());
  const stateDir = join(dir.path, "state");
  const edge = await startEdgeProcess(stateDir);
  stack.use(edge.process);
  const token = await addTunnel(stateDir, "lab", [HOST, TCP_HOST]);
  const [config, authority] = [join(dir.path, "config.yml"), join(dir.path, "team.pem")];
  writeFileSync(config, text);
  writeFileSync(authority, team.certificate);
  const { tunnelPort, caPath } = edge;
  const argv = kind.argv({ token, tunnelPort, caPath, flags: ["--config", config] });
  const env = {
    ...{ ...cleanEnvironment(), TUNNEL_NO_PRECHECKS: "true" },
    ...{ SSL_CERT_FILE: authority, NODE_EXTRA_CA_CERTS: authority },
  };
  const connector = stack.use(startProcess(withHosts(hostsFile(dir.path, TEAM_HOST, [TEAM_IP]), argv), { env }));
  await connector.errorLine(/Registered tunnel connection/);
  return edge;
}
