import { randomBytes } from "node:crypto";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { RegistrationServer } from "../../src/control/registration-server.ts";
import { systemClock } from "../../src/core/clock.ts";
import { newConnectionId, newTunnelId } from "../../src/core/ids.ts";
import { silentLogger } from "../../src/core/log.ts";
import { createAuthority, createEdgeCertificate } from "../../src/edge/certificates.ts";
import { openTunnelListeners } from "../../src/edge/tunnel-listeners.ts";
import type { EdgeSession } from "../../src/transport/port.ts";
import { formatToken } from "../../src/wire/token.ts";
import { pollUntil } from "./poll-until.ts";
import { makeTempDir } from "./temp-dir.ts";

/** An edge without visitors in this process: it registers connectors and hands out their sessions. */
export interface PushingEdge extends AsyncDisposable {
  readonly tunnelPort: number;
  readonly caPath: string;
  readonly token: string;
  /** Registered, in the order of their slots. */
  readonly sessions: readonly EdgeSession[];
  /** The features that connectors announced. */
  readonly features: ReadonlySet<string>;
  /** What connectors told of their own configuration, in order. */
  readonly reported: readonly unknown[];
  /** Waits for so many sessions. */
  registered(count: number): Promise<void>;
}

export async function startPushingEdge(options: { readonly remotelyManaged: boolean }): Promise<PushingEdge> {
  await using stack = new AsyncDisposableStack();
  const dir = stack.use(makeTempDir());
  const authority = createAuthority(Date.now());
  const sessions = new Map<number, EdgeSession>();
  const features = new Set<string>();
  const reported: unknown[] = [];
  const all = new Set<EdgeSession>();
  const accept = async (session: EdgeSession): Promise<void> => {
    all.add(session);
    const server = new RegistrationServer(
      await session.control,
      {
        register: ({ connIndex, options: { client } }) => {
          for (const feature of client.features) features.add(feature);
          session.usePeerFeatures(client.features);
          sessions.set(connIndex, session);
          const { remotelyManaged } = options;
          return Promise.resolve({
            kind: "registered",
            connectionId: newConnectionId(),
            location: "LAB",
            remotelyManaged,
          });
        },
        unregister: () => Promise.resolve(),
        updateLocalConfiguration: (config) => {
          reported.push(JSON.parse(new TextDecoder().decode(config)));
          return Promise.resolve();
        },
      },
      { clock: systemClock },
    );
    await server.ended;
    session.close();
  };
  const listeners = await openTunnelListeners(
    {
      host: "127.0.0.1",
      port: 0,
      certificate: createEdgeCertificate(authority, [], Date.now()),
      quic: true,
      resetKey: undefined,
      onSession: (session) => void accept(session).catch(() => session.close()),
    },
    { clock: systemClock, log: silentLogger },
  );
  stack.defer(async () => {
    for (const session of all) session.close();
    const closed = listeners.close();
    listeners.destroy();
    await closed;
  });
  const caPath = join(dir.path, "ca.pem");
  writeFileSync(caPath, authority.cert);
  const address = `127.0.0.1:${listeners.port}`;
  const token = formatToken({
    accountTag: "a".repeat(32),
    tunnelSecret: randomBytes(32),
    tunnelId: newTunnelId(),
    endpoint: "",
    edges: [{ addr: address, region: 0 }],
    ca: authority.cert,
  });
  const owned = stack.move();
  return {
    tunnelPort: listeners.port,
    caPath,
    token,
    features,
    reported,
    get sessions() {
      return [...sessions].sort(([a], [b]) => a - b).map(([, session]) => session);
    },
    registered: async (count) => {
      await pollUntil(() => sessions.size >= count, { what: `${count} registered sessions`, deadlineMs: 15_000 });
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

/** The status that a visitor of this host and path would get. */
export function askThrough(session: EdgeSession, host: string, path = "/"): Promise<number> {
  return new Promise((resolve, reject) => {
    let status = 0;
    const request = { kind: "http", method: "GET", authority: host, path, headers: [], bodyless: true } as const;
    session.open(request, {
      onInformational: () => {},
      onResponse: (response) => {
        status = response.status;
      },
      onData: () => {},
      onEnd: () => {},
      onDrain: () => {},
      onClose: (error) => (error === undefined ? resolve(status) : reject(error)),
    });
  });
}
