import dgram from "node:dgram";
import { Resolver } from "node:dns/promises";
import tls from "node:tls";
import { type Answer, decode, encode, type Packet, type Question, RECURSION_AVAILABLE } from "dns-packet";
import { createSystemDns, type Dns } from "../../../../src/connector/discovery/dns.ts";
import type { TestCertificate } from "../../../support/certificate.ts";

/** Name of the edge's SRV records, without a region. */
export const SERVICE = "_v2-origintunneld._tcp.argotunnel.com";

/** What a name server knows, by `type name`. */
export type Zone = Map<string, readonly Answer[]>;

export function srv(name: string, ...targets: readonly (readonly [target: string, priority?: number])[]): Answer[] {
  return targets.map(([target, priority = 1]) => ({
    type: "SRV",
    name,
    data: { priority, weight: 1, port: 7844, target },
  }));
}

export function addresses(name: string, ...hosts: readonly string[]): [string, Answer[]][] {
  const of = (type: "A" | "AAAA", wanted: (host: string) => boolean): [string, Answer[]] => [
    `${type} ${name}`,
    hosts.filter(wanted).map((data) => ({ type, name, data })),
  ];
  return [of("A", (host) => !host.includes(":")), of("AAAA", (host) => host.includes(":"))];
}

/** Two regions, as Cloudflare's. */
export function cloudflareZone(service = SERVICE): Zone {
  return new Map<string, readonly Answer[]>([
    [`SRV ${service}`, srv(service, ["region1.example", 1], ["region2.example", 2])],
    ...addresses("region1.example", "192.0.2.1", "192.0.2.2", "2001:db8::1"),
    ...addresses("region2.example", "198.51.100.1", "2001:db8::2"),
  ]);
}

/** The answer a proper name server with this zone gives. */
export function answerFrom(zone: Zone, query: Packet): Packet {
  const [question] = query.questions ?? [];
  const records = zone.get(keyOf(question));
  return {
    type: "response",
    id: query.id ?? 0,
    flags: RECURSION_AVAILABLE | (records === undefined ? 3 : 0),
    questions: query.questions ?? [],
    answers: [...(records ?? [])],
  };
}

function keyOf(question: Question | undefined): string {
  return `${question?.type} ${question?.name.toLowerCase()}`;
}

export interface UdpNameServer extends AsyncDisposable {
  /** Asks this server: SRV as the system's resolver does, addresses from its A and AAAA records. */
  readonly dns: Dns;
  /** `type name` of each question so far. */
  readonly asked: readonly string[];
}

/** A name server on loopback; names that begin with `silent` get no answer. */
export async function startUdpNameServer(zone: Zone): Promise<UdpNameServer> {
  const socket = dgram.createSocket("udp4");
  const asked: string[] = [];
  socket.on("message", (message, peer) => {
    const query = decode(message);
    const key = keyOf(query.questions?.[0]);
    asked.push(key);
    if (zone.has("silent")) return;
    socket.send(encode(answerFrom(zone, query)), peer.port, peer.address);
  });
  await new Promise<void>((resolve) => socket.bind(0, "127.0.0.1", resolve));
  const newResolver = (): Resolver => {
    const resolver = new Resolver();
    resolver.setServers([`127.0.0.1:${socket.address().port}`]);
    return resolver;
  };
  return {
    asked,
    dns: {
      srv: createSystemDns(newResolver).srv,
      async addresses(name) {
        const resolver = newResolver();
        const found = await Promise.allSettled([resolver.resolve4(name), resolver.resolve6(name)]);
        return found.flatMap((one) => (one.status === "fulfilled" ? one.value : []));
      },
    },
    [Symbol.asyncDispose]: () => new Promise<void>((resolve) => socket.close(() => resolve())),
  };
}

export interface TlsNameServer extends AsyncDisposable {
  readonly port: number;
  readonly asked: readonly string[];
}

/** Bytes with their length in front, as streams carry messages. */
export function framed(message: Uint8Array): Buffer {
  const length = Buffer.alloc(2);
  length.writeUInt16BE(message.length);
  return Buffer.concat([length, message]);
}

/** A name server that speaks TLS on loopback; `answer` gives the bytes to send for a query, length included. */
export async function startTlsNameServer(
  certificate: TestCertificate,
  answer: (query: Packet) => Uint8Array | "close" | "silence",
): Promise<TlsNameServer> {
  const sockets = new Set<tls.TLSSocket>();
  const asked: string[] = [];
  const server = tls.createServer({ cert: certificate.cert, key: certificate.key }, (socket) => {
    sockets.add(socket);
    socket.on("error", () => {});
    socket.on("close", () => sockets.delete(socket));
    let received = Buffer.alloc(0);
    socket.on("data", (chunk: Buffer) => {
      received = Buffer.concat([received, chunk]);
      while (received.length >= 2 && received.length >= 2 + received.readUInt16BE(0)) {
        const end = 2 + received.readUInt16BE(0);
        const query = decode(received.subarray(2, end));
        received = received.subarray(end);
        asked.push(keyOf(query.questions?.[0]));
        const bytes = answer(query);
        if (bytes === "close") socket.end();
        else if (bytes !== "silence") socket.write(bytes);
      }
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  return {
    port: typeof address === "object" && address !== null ? address.port : 0,
    asked,
    [Symbol.asyncDispose]: async () => {
      for (const socket of sockets) socket.destroy();
      await new Promise<void>((resolve) => server.close(() => resolve()));
    },
  };
}
