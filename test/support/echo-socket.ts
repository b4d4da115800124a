import type { TestCertificate } from "./certificate.ts";

/** What a client's handshake looked like. */
export interface SeenHandshake {
  readonly path: string;
  readonly headers: Headers;
}

export interface EchoSocket extends AsyncDisposable {
  readonly port: number;
  readonly seen: readonly SeenHandshake[];
  /** Answers handshakes with this status instead; undefined = takes them. */
  refuse: { readonly status: number; readonly headers?: Record<string, string> } | undefined;
}

/** A WebSocket server that is none of ours (Bun's own) and sends every message back. */
export function startEchoSocket(options: { readonly tls?: TestCertificate; readonly port?: number } = {}): EchoSocket {
  const seen: SeenHandshake[] = [];
  const state: { refuse: EchoSocket["refuse"] } = { refuse: undefined };
  const server = Bun.serve({
    hostname: "127.0.0.1",
    port: options.port ?? 0,
    ...(options.tls === undefined ? {} : { tls: options.tls }),
    fetch(request, self) {
      const url = new URL(request.url);
      seen.push({ path: url.pathname + url.search, headers: request.headers });
      const { refuse } = state;
      if (refuse !== undefined) return new Response("no", refuse);
      return self.upgrade(request) ? undefined : new Response("no WebSocket", { status: 400 });
    },
    websocket: {
      message(ws, message) {
        ws.send(message);
      },
    },
  });
  return {
    port: server.port ?? 0,
    seen,
    get refuse() {
      return state.refuse;
    },
    set refuse(value) {
      state.refuse = value;
    },
    [Symbol.asyncDispose]: async () => {
      await server.stop(true);
    },
  };
}
