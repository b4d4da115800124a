import { type IncomingMessage, request } from "node:http";
import type { Clock } from "../../core/clock.ts";
import { TunnelError } from "../../core/errors.ts";
import type { TunnelId } from "../../core/ids.ts";
import { type ControlAddress, readControlFile } from "./control-file.ts";
import type { ActiveConnection, ActiveConnector, EdgeControl, LocationCount } from "./port.ts";

/** Bound on one question, in ms. */
export const ANSWER_TIMEOUT_MS = 5_000;
/** What 100,000 tunnels with connections make, and more than one tunnel can have. */
const MAX_ANSWER_BYTES = 16 * 1_048_576;

/**
 * Asks the edge that runs on this state directory. A file that a killed edge left behind may lead to nobody or to a
 * stranger: whatever is not the answer of an edge counts as no edge. Throws `store.failed` when the file cannot be read.
 */
export function createEdgeControl(dir: string, deps: { clock: Clock }): EdgeControl {
  const ask = async <T>(path: string, read: (value: unknown) => T): Promise<T | undefined> => {
    const address = readControlFile(dir);
    const text = address === undefined ? undefined : await fetchText(address, path, deps.clock);
    if (text === undefined) return undefined;
    try {
      return read(JSON.parse(text));
    } catch {
      return undefined;
    }
  };
  return {
    connectors: (tunnel: TunnelId) =>
      ask(`/v1/tunnels/${tunnel}/connections`, (value) => readList(value, readConnector)),
    served: () => ask("/v1/tunnels", (value) => new Map(readList(value, readServed))),
    numbers: async () => {
      const { readEdgeNumbers } = await import("./stats.ts");
      return await ask("/v1/numbers", readEdgeNumbers);
    },
  };
}

/** The body of a 200; undefined for any other answer, or none. Rejects with `timeout`. */
function fetchText({ host, port, token }: ControlAddress, path: string, clock: Clock): Promise<string | undefined> {
  return new Promise((resolve, reject) => {
    const finish = (text: string | undefined): void => {
      cancel();
      asked.destroy();
      resolve(text);
    };
    // node:http, because it does not send the token through a proxy that the environment names.
    const asked = request(
      { host, port, path, agent: false, headers: { Authorization: `Bearer ${token}` } },
      (answer) => (answer.statusCode === 200 ? collect(answer, finish) : finish(undefined)),
    );
    const cancel = clock.after(ANSWER_TIMEOUT_MS, () => {
      reject(new TunnelError("timeout", `The edge does not answer: nothing within ${ANSWER_TIMEOUT_MS / 1_000} s`));
      asked.destroy();
    });
    asked.on("error", () => finish(undefined));
    asked.end();
  });
}

function collect(answer: IncomingMessage, finish: (text: string | undefined) => void): void {
  const chunks: Buffer[] = [];
  let bytes = 0;
  answer.on("data", (chunk: Buffer) => {
    bytes += chunk.length;
    if (bytes > MAX_ANSWER_BYTES) finish(undefined);
    else chunks.push(chunk);
  });
  answer.on("end", () => finish(answer.complete ? Buffer.concat(chunks).toString("utf8") : undefined));
  answer.on("error", () => finish(undefined));
  answer.on("close", () => finish(undefined));
}

/** Thrown and caught in this file: the answer does not come from an edge. */
class NotOurs extends Error {}

type Fields = Readonly<Record<string, unknown>>;

function readConnector(value: unknown): ActiveConnector {
  const fields = object(value);
  return {
    id: text(fields["id"]),
    features: readList(fields["features"], text),
    version: text(fields["version"]),
    arch: text(fields["arch"]),
    run_at: time(fields["run_at"]),
    conns: readList(fields["conns"], readConnection),
  };
}

function readConnection(value: unknown): ActiveConnection {
  const fields = object(value);
  const pending = fields["is_pending_reconnect"];
  if (typeof pending !== "boolean") throw new NotOurs();
  return {
    id: text(fields["id"]),
    colo_name: text(fields["colo_name"]),
    conn_index: integer(fields["conn_index"]),
    origin_ip: text(fields["origin_ip"]),
    opened_at: time(fields["opened_at"]),
    protocol: text(fields["protocol"]),
    is_pending_reconnect: pending,
  };
}

function readServed(value: unknown): [id: string, locations: LocationCount[]] {
  const fields = object(value);
  const locations = readList(fields["locations"], (one) => {
    const { colo_name, count } = object(one);
    return { colo_name: text(colo_name), count: integer(count) };
  });
  return [text(fields["id"]), locations];
}

function readList<T>(value: unknown, read: (item: unknown) => T): T[] {
  if (!Array.isArray(value)) throw new NotOurs();
  return value.map((item) => read(item));
}

function object(value: unknown): Fields {
  if (typeof value !== "object" || value === null) throw new NotOurs();
  return value as Fields;
}

function text(value: unknown): string {
  if (typeof value !== "string") throw new NotOurs();
  return value;
}

function integer(value: unknown): number {
  if (typeof value !== "number" || !Number.isInteger(value)) throw new NotOurs();
  return value;
}

function time(value: unknown): string {
  const given = text(value);
  if (Number.isNaN(Date.parse(given))) throw new NotOurs();
  return given;
}
