import { randomBytes } from "node:crypto";
import { request } from "node:http";
import { isIPv6 } from "node:net";
import { parseHostPort } from "../config/run-config.ts";
import { Values } from "../config/values.ts";
import { type Connector, startConnector } from "../connector/connector.ts";
import { LiveRoutes } from "../connector/live-routes.ts";
import { systemClock, systemRandom } from "../core/clock.ts";
import { TunnelError } from "../core/errors.ts";
import { newConnectorId } from "../core/ids.ts";
import { createLogger, type Logger } from "../core/log.ts";
import { printable } from "../core/printable.ts";
import { VERSION } from "../core/version.ts";
import { type CertifiedKey, createAuthority, createEdgeCertificate } from "../edge/certificates.ts";
import { type Edge, startEdge } from "../edge/edge.ts";
import { readDomain } from "../edge/hostname.ts";
import type { HttpsSideOptions } from "../edge/public-side.ts";
import { loadEdgeCertificate, openStateDir } from "../edge/state-dir.ts";
import { lockStateDir } from "../edge/store/lock.ts";
import { newTunnel, routesTo } from "../edge/store/new-tunnel.ts";
import type { Store, StoredTunnel } from "../edge/store/port.ts";
import { openSqliteStore } from "../edge/store/sqlite/index.ts";
import { singleRule } from "../ingress/rules.ts";
import { parseService, type ServiceSpec } from "../ingress/service.ts";
import { type LoopbackHost, loopbackHost } from "../net/loopback.ts";
import type { EdgeAddress } from "../supervisor/addresses.ts";
import { http2 } from "../transport/http2/connector.ts";
import { type Context, EXIT } from "./command.ts";
import { UP_FLAGS } from "./edge-flags.ts";
import { loggerFor, reportError, reportFailure } from "./failure.ts";
import { operator } from "./operator.ts";

const CONNECTIONS = 4;
const GRACE_MS = 5_000;
const TUNNEL_NAME = "up";

interface HostPort {
  readonly host: string;
  readonly port: number;
}

interface UpOptions {
  readonly service: ServiceSpec;
  readonly hostnames: readonly string[];
  readonly port: number;
  readonly stateDir: string | undefined;
  /** Serve HTTPS beside, with certificates of the authority in the state directory. */
  readonly https: boolean;
  /** Port of the page that shows requests; undefined = none does. */
  readonly inspectPort: number | undefined;
  readonly json: boolean;
  /** Fetch the public URL when it is up. */
  readonly check: boolean;
  /** End after that. */
  readonly once: boolean;
}

/** `culvert up`: an edge and a connector in this process, on loopback, joined by the real transport. */
export async function run(context: Context): Promise<number> {
  const values = new Values(UP_FLAGS, { args: context.args, env: {} });
  const problems = values.issues.map((issue) => issue.message);
  const options = readOptions(values, problems);
  const log = loggerFor(values, context);
  if ("error" in log && typeof log.error === "string") problems.push(log.error);
  if (options === undefined || !("with" in log) || problems.length > 0) {
    return reportFailure(context, problems, { usage: true, command: "culvert up" });
  }
  // What happens inside is of interest when it goes wrong, or when it was asked for.
  const quiet = values.source("loglevel") === "default" ? quietLogger(context) : log;
  try {
    return await serve(context, options, quiet);
  } catch (error) {
    return reportError(context, error);
  }
}

function readOptions(values: Values, problems: string[]): UpOptions | undefined {
  const url = values.string("url");
  const helloWorld = values.bool("hello-world") || url === undefined;
  if (helloWorld && url !== undefined) problems.push("Give --url or --hello-world, not both: one service is shown");
  const service = helloWorld
    ? ({ kind: "hello_world" } as const)
    : parseService(
        /^\d+$/.test(url) ? `http://localhost:${url}` : url.includes("://") ? url.replace(/\/$/, "") : `http://${url}`,
      );
  const port = values.number("port");
  if (port < 0 || port > 65_535) problems.push("--port must be from 0 to 65535");
  if ("error" in service) {
    problems.push(service.error);
    return undefined;
  }
  const named = values.list("hostname").flatMap((text) => {
    const hostname = readDomain(text);
    if (hostname !== undefined) return [hostname];
    problems.push(
      `--hostname "${printable(text)}" must be a hostname such as app.localhost (no scheme, port, path, wildcard or address)`,
    );
    return [];
  });
  const hostnames = named.length > 0 ? named : [helloWorld ? "hello.localhost" : "app.localhost"];
  const flags = {
    stateDir: values.string("state-dir"),
    https: values.bool("tls-internal"),
    inspectPort: values.bool("inspect") ? values.number("inspect-port") : undefined,
    json: values.bool("json"),
    once: values.bool("once"),
    check: values.bool("check"),
  };
  if (flags.inspectPort !== undefined && (flags.inspectPort < 0 || flags.inspectPort > 65_535)) {
    problems.push("--inspect-port must be from 0 to 65535");
  }
  if (flags.inspectPort === undefined && values.source("inspect-port") === "flag") {
    problems.push("--inspect-port needs --inspect: it is the port of the page that shows requests");
  }
  if (flags.https && flags.stateDir === undefined) {
    problems.push("--tls-internal needs --state-dir DIR: browsers must be told to trust ca.pem there");
  }
  return { service, hostnames, port, ...flags };
}

async function serve(context: Context, options: UpOptions, log: Logger): Promise<number> {
  using state = openState(options.stateDir);
  const { store, certificate, ca } = state;
  const secret = randomBytes(32);
  const tunnel = ensureTunnel(store, secret, options.hostnames);
  const host = await loopbackHost();
  const edge = await startEdge(
    {
      store,
      certificate,
      http: { host, port: options.port },
      tunnel: { host, port: 0 },
      location: "local",
      trustedProxies: [],
      quic: false,
      https: options.https ? internalHttps(host, state.authority) : undefined,
      inspect:
        options.inspectPort === undefined ? undefined : { host, port: options.inspectPort, tunnels: [tunnel.id] },
    },
    { clock: systemClock, log },
  );
  try {
    const connector = await connect(
      options,
      log,
      edge,
      tunnel,
      store.tunnels.credentials(tunnel.id)?.secret ?? secret,
      ca,
    );
    const gone = await Promise.race([
      connector.ready.then(() => undefined),
      connector.finished.then(() => "gone" as const),
    ]);
    if (gone !== undefined) throw new TunnelError("edge.refused", "The connector could not register with the edge");
    const address = { host, port: parseHostPort(edge.publicAddress)?.port ?? 0 };
    const httpsPort = parseHostPort(edge.httpsAddress ?? "")?.port;
    const secure = httpsPort === undefined ? [] : options.hostnames.map((name) => `https://${name}:${httpsPort}`);
    const urls = [...options.hostnames.map((hostname) => `http://${hostname}:${address.port}`), ...secure];
    if (state.caPath !== undefined && options.https) context.note(`HTTPS is trusted where ${state.caPath} is`);
    if (edge.inspector !== undefined) context.note(`Requests are shown at ${edge.inspector.url}`);
    const code = await show(context, options, urls, address);
    if (!options.once) await stopped(context);
    connector.stop();
    await connector.finished;
    return code;
  } finally {
    await edge.close(GRACE_MS);
  }
}

/** On any free port; plain HTTP stays as it is, because it needs nobody's trust. */
function internalHttps(host: LoopbackHost, authority: CertifiedKey): HttpsSideOptions {
  return { host, port: 0, pairs: [], dirs: [], internal: { authority, own: [] }, redirect: false };
}

interface UpState extends Disposable {
  readonly store: Store;
  readonly certificate: CertifiedKey;
  readonly authority: CertifiedKey;
  readonly ca: string;
  /** Undefined in memory. */
  readonly caPath?: string;
}

function openState(dir: string | undefined): UpState {
  const nowMs = systemClock.wallMs();
  if (dir === undefined) {
    const authority = createAuthority(nowMs);
    const certificate = createEdgeCertificate(authority, [], nowMs);
    const store = openSqliteStore(":memory:", randomBytes(32));
    return { store, certificate, authority, ca: authority.cert, [Symbol.dispose]: () => store.close() };
  }
  const state = openStateDir(dir, nowMs);
  using opening = new DisposableStack();
  opening.use(lockStateDir(state.dir));
  const store = openSqliteStore(state.databasePath, state.sealingKey);
  opening.defer(() => store.close());
  const { certificate } = loadEdgeCertificate(state, [], nowMs);
  const opened = opening.move();
  const { authority, caPath } = state;
  return { store, certificate, authority, ca: authority.cert, caPath, [Symbol.dispose]: () => opened.dispose() };
}

function ensureTunnel(store: Store, secret: Uint8Array, hostnames: readonly string[]): StoredTunnel {
  const actor = operator();
  const accountTag = store.accounts.own().tag;
  const known = store.tunnels.byName(accountTag, TUNNEL_NAME);
  const tunnel = known ?? newTunnel(TUNNEL_NAME, accountTag, systemClock.wallMs());
  const routes = routesTo(store, tunnel, hostnames, systemClock.wallMs());
  if (known === undefined) store.tunnels.add(tunnel, secret, actor, routes);
  else for (const route of routes) store.hostnames.put(route, false, actor);
  return tunnel;
}

async function connect(
  options: UpOptions,
  log: Logger,
  edge: Edge,
  tunnel: StoredTunnel,
  tunnelSecret: Uint8Array,
  ca: string,
): Promise<Connector> {
  const address = parseHostPort(edge.tunnelAddress);
  if (address === undefined) throw new TunnelError("listen.failed", "The edge has no address");
  const connectorId = newConnectorId();
  return await startConnector(
    {
      identity: { accountTag: tunnel.accountTag, tunnelId: tunnel.id, tunnelSecret },
      connectorId,
      findAddresses: () => Promise.resolve(addressesOf(address)),
      target: ({ host, port }) => ({ host, port, ca }),
      transports: [http2],
      routes: new LiveRoutes(singleRule(options.service), {
        clock: systemClock,
        tags: [["ID", connectorId]],
        readFile: () => "",
      }),
      haConnections: CONNECTIONS,
      maxConnections: CONNECTIONS,
      retries: 5,
      transportTries: 1,
      gracePeriodMs: GRACE_MS,
      rpcTimeoutMs: 5_000,
      metrics: "off",
      version: VERSION,
      platform: process.platform,
      arch: process.arch,
    },
    { clock: systemClock, random: systemRandom, log },
  );
}

/** The edge of this process, once for each connection. */
function addressesOf(address: HostPort): readonly EdgeAddress[] {
  const family = isIPv6(address.host) ? 6 : 4;
  return Array.from({ length: CONNECTIONS }, (_, i) => ({ ...address, id: `${i}`, region: "local", family }));
}

/** Tells where it is, and when asked fetches it, through the edge and the tunnel as any visitor would. */
async function show(context: Context, options: UpOptions, urls: readonly string[], address: HostPort): Promise<number> {
  const url = urls[0] ?? "";
  if (options.json) context.print(JSON.stringify({ url, urls, version: VERSION }));
  else for (const each of urls) context.print(each);
  let code: number = EXIT.ok;
  if (options.once || options.check) {
    const status = await fetchStatus(options.hostnames[0] ?? "", address);
    context.note(`GET ${url} answered ${status}`);
    if (options.once && status >= 500) code = EXIT.failed;
  }
  if (!options.json && !options.once) context.note("Serving until Ctrl-C");
  return code;
}

/** Not every resolver knows that `*.localhost` is here, so the address is dialled and the name goes into Host. */
function fetchStatus(hostname: string, { host, port }: HostPort): Promise<number> {
  return new Promise((resolve, reject) => {
    const asked = request({ host, port, path: "/", headers: { Host: `${hostname}:${port}` } }, (answer) => {
      answer.resume();
      answer.on("end", () => resolve(answer.statusCode ?? 0));
      answer.on("error", reject);
    });
    asked.on("error", reject);
    asked.end();
  });
}

function stopped(context: Context): Promise<void> {
  return new Promise((resolve) => {
    if (context.stop.aborted) resolve();
    else context.stop.addEventListener("abort", () => resolve(), { once: true });
  });
}

function quietLogger(context: Context): Logger {
  return createLogger({ level: "warn", format: "default", wallMs: systemClock.wallMs, write: context.note });
}
