import { dial } from "../../src/net/dial.ts";
import { listen } from "../../src/net/listen.ts";
import { pipe } from "../../src/net/pipe.ts";
import { makeTestCertificate } from "./certificate.ts";

/**
 * TLS in front of a port, with a certificate that nobody trusts: what Cloudflare's edge is to cloudflared's client,
 * which speaks nothing else and takes any certificate with `--connect-to NAME:PORT:HOST`.
 */
export async function startTlsFront(
  to: number,
  names: readonly string[],
): Promise<{ readonly port: number } & AsyncDisposable> {
  const listener = await listen({
    host: "127.0.0.1",
    port: 0,
    maxConnections: 100,
    tls: await makeTestCertificate(names),
    onConnection: ({ channel }) => {
      dial({ host: "127.0.0.1", port: to }).then(
        (connection) => pipe(channel, connection.channel, () => {}),
        (error) => channel.abort(error),
      );
    },
  });
  return { port: listener.port, [Symbol.asyncDispose]: () => listener.close() };
}
