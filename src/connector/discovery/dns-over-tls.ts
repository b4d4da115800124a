import type { Answer } from "dns-packet";
import type { Random } from "../../core/clock.ts";
import { TunnelError } from "../../core/errors.ts";
import type { ByteChannel } from "../../net/channel.ts";
import { dial } from "../../net/dial.ts";
import type { Dns } from "./dns.ts";
import { AnswerReader, type DnsQuestion, encodeQuery, readAnswer } from "./dns-message.ts";

/** A name server that is asked over TLS (RFC 7858). */
export interface DnsOverTlsServer {
  /** IP literal: there is no DNS to look a name up with. */
  readonly host: string;
  readonly port: number;
  /** Name that the server's certificate must carry. */
  readonly serverName: string;
  /** PEM text of the authorities to trust; undefined = the system's. */
  readonly ca?: string | undefined;
}

/** Cloudflare's public resolver (protocol: section 1.1). */
export const CLOUDFLARE_RESOLVER: DnsOverTlsServer = {
  host: "1.1.1.1",
  port: 853,
  serverName: "cloudflare-dns.com",
};

/** Asks a name server over TLS, on a connection of its own for each call. `addresses` puts IPv4 first. */
export function createDnsOverTls(server: DnsOverTlsServer, random: Random): Dns {
  return {
    async srv(name, signal) {
      const records = await ask(server, questionsFor(name, ["SRV"], random), signal);
      return records.flatMap((record) => {
        if (record.type !== "SRV") return [];
        const { priority = 0, weight = 0, port, target } = record.data;
        return [{ priority, weight, port, target }];
      });
    },
    async addresses(name, signal) {
      const records = await ask(server, questionsFor(name, ["A", "AAAA"], random), signal);
      // The order of the questions: this conversation is over IPv4, so that IPv4 is known to work.
      return records.flatMap((record) => (record.type === "A" || record.type === "AAAA" ? [record.data] : []));
    },
  };
}

function questionsFor(name: string, types: readonly DnsQuestion["type"][], random: Random): readonly DnsQuestion[] {
  const first = Math.floor(random() * 0x1_0000);
  return types.map((type, index) => ({ id: (first + index) & 0xffff, name, type }));
}

/** All records that answer the questions, in the order of these. */
async function ask(
  server: DnsOverTlsServer,
  questions: readonly DnsQuestion[],
  signal: AbortSignal,
): Promise<readonly Answer[]> {
  const { host, port, serverName, ca } = server;
  const { channel } = await dial({ host, port }, { signal, tls: { serverName, ca } });
  const done = new TunnelError("aborted", "Conversation with the name server is over");
  const onAbort = (): void => channel.abort(done);
  signal.addEventListener("abort", onAbort, { once: true });
  try {
    if (signal.aborted) throw done;
    return await converse(channel, questions);
  } finally {
    signal.removeEventListener("abort", onAbort);
    channel.abort(done);
  }
}

function converse(channel: ByteChannel, questions: readonly DnsQuestion[]): Promise<readonly Answer[]> {
  return new Promise((resolve, reject) => {
    const reader = new AnswerReader();
    const open = new Set(questions);
    const records = new Map<DnsQuestion, readonly Answer[]>();
    const take = (chunk: Uint8Array): void => {
      for (const message of reader.push(chunk)) {
        const answer = readAnswer(message, [...open]);
        open.delete(answer.question);
        records.set(answer.question, answer.records);
      }
    };
    channel.listen({
      onData: (chunk) => {
        try {
          take(chunk);
          if (open.size === 0) resolve(questions.flatMap((question) => records.get(question) ?? []));
        } catch (error) {
          reject(error);
        }
      },
      onDrain: () => {},
      onEnd: () =>
        reject(new TunnelError("edge.discovery", "the name server closed the connection", { retry: "same" })),
      onClose: (error) => reject(error ?? new TunnelError("edge.discovery", "the connection was closed")),
    });
    for (const question of questions) channel.write(encodeQuery(question));
  });
}
