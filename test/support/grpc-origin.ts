import http2 from "node:http2";
import type { AddressInfo } from "node:net";
import type { TestCertificate } from "./certificate.ts";

export interface GrpcOrigin extends AsyncDisposable {
  readonly address: { readonly host: string; readonly port: number };
  /** Connections so far, each with the streams it was given. */
  readonly sessions: readonly GrpcSession[];
  /** Answers every stream that waits at `/hold`. */
  release(): void;
}

export interface GrpcSession {
  readonly session: http2.ServerHttp2Session;
  readonly streams: GrpcStream[];
}

export interface GrpcStream {
  readonly stream: http2.ServerHttp2Stream;
  readonly fields: http2.IncomingHttpHeaders;
  readonly trailers: http2.IncomingHttpHeaders[];
  /** The code it was closed with; undefined while it is open. */
  closedWith: number | undefined;
}

const GRPC = { ":status": 200, "content-type": "application/grpc" } as const;

export interface GrpcOriginOptions {
  /** With TLS; otherwise HTTP/2 from the first byte, in clear text. */
  readonly tls?: TestCertificate;
  readonly maxConcurrentStreams?: number;
  /** Path of a unix socket. */
  readonly path?: string;
}

/** A server that does on each path what a gRPC server may do, on Node's own HTTP/2. */
export async function startGrpcOrigin(options: GrpcOriginOptions = {}): Promise<GrpcOrigin> {
  const settings = { maxConcurrentStreams: options.maxConcurrentStreams ?? 1000 };
  const server =
    options.tls === undefined
      ? http2.createServer({ settings })
      : http2.createSecureServer({ ...options.tls, settings });
  const sessions: GrpcSession[] = [];
  const held: (() => void)[] = [];
  server.on("session", (session: http2.ServerHttp2Session) => {
    sessions.push({ session, streams: [] });
    session.on("error", () => {});
  });
  server.on("stream", (stream: http2.ServerHttp2Stream, fields: http2.IncomingHttpHeaders) => {
    const seen: GrpcStream = { stream, fields, trailers: [], closedWith: undefined };
    sessions.find(({ session }) => session === stream.session)?.streams.push(seen);
    stream.on("error", () => {});
    stream.on("trailers", (trailers: http2.IncomingHttpHeaders) => seen.trailers.push(trailers));
    stream.on("close", () => {
      seen.closedWith = stream.rstCode;
    });
    if (fields.te !== "trailers") stream.respond({ ":status": 400 }, { endStream: true });
    else serve(stream, fields, held);
  });
  await new Promise<void>((resolve) => {
    if (options.path === undefined) server.listen(0, "127.0.0.1", resolve);
    else server.listen(options.path, resolve);
  });
  const address = options.path === undefined ? (server.address() as AddressInfo) : { port: 0 };
  return {
    address: { host: "127.0.0.1", port: address.port },
    sessions,
    release: () => {
      for (const answer of held.splice(0)) answer();
    },
    [Symbol.asyncDispose]: async () => {
      const down = new Promise<void>((resolve) => server.close(() => resolve()));
      for (const { session } of sessions) session.destroy();
      await down;
    },
  };
}

function serve(stream: http2.ServerHttp2Stream, fields: http2.IncomingHttpHeaders, held: (() => void)[]): void {
  const url = new URL(fields[":path"] ?? "/", "http://origin");
  const bytes = Number(url.searchParams.get("bytes") ?? 0);
  switch (url.pathname) {
    /** The whole body back, once it is all there. */
    case "/unary": {
      const parts: Uint8Array[] = [];
      stream.on("data", (chunk: Uint8Array) => parts.push(chunk));
      stream.on("end", () => {
        answerOk(stream);
        stream.end(Buffer.concat(parts));
      });
      return;
    }
    /** Every piece back as it comes, the head before the first. */
    case "/bidi":
      answerOk(stream);
      stream.on("data", (chunk: Uint8Array) => stream.write(chunk));
      stream.on("end", () => stream.end());
      return;
    case "/trailers-only":
      stream.respond({ ...GRPC, "grpc-status": "12", "grpc-message": "unknown method" }, { endStream: true });
      return;
    case "/hints":
      stream.additionalHeaders({ ":status": 103, link: "</a>" });
      answerOk(stream);
      stream.end("hinted");
      return;
    case "/hold":
      held.push(() => {
        answerOk(stream);
        stream.end("held");
      });
      return;
    case "/reset":
      stream.destroy(new Error("INTERNAL_ERROR"));
      return;
    case "/reset-after":
      answerOk(stream);
      stream.write("begun");
      stream.on("data", () => stream.destroy(new Error("INTERNAL_ERROR")));
      return;
    case "/download":
      answerOk(stream);
      writeMuch(stream, bytes);
      return;
    /** Reads nothing until the second party is done waiting at `/hold`. */
    case "/slow-upload": {
      let received = 0;
      held.push(() => {
        stream.on("data", (chunk: Uint8Array) => {
          received += chunk.length;
        });
        stream.on("end", () => {
          answerOk(stream);
          stream.end(String(received));
        });
      });
      return;
    }
    default:
      stream.respond({ ":status": 404 }, { endStream: true });
  }
}

function answerOk(stream: http2.ServerHttp2Stream): void {
  stream.respond(GRPC, { waitForTrailers: true });
  stream.on("wantTrailers", () => stream.sendTrailers({ "grpc-status": "0", "x-tail": "t" }));
}

function writeMuch(stream: http2.ServerHttp2Stream, bytes: number): void {
  const chunk = new Uint8Array(64 * 1024);
  let left = bytes;
  const more = (): void => {
    while (left > 0) {
      left -= chunk.length;
      if (!stream.write(chunk)) return;
    }
    stream.off("drain", more);
    stream.end();
  };
  stream.on("drain", more);
  more();
}
