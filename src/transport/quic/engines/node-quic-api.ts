/**
 * The part of Bun's `node:quic` that is used. It has no types of its own yet, and other runtimes do not have it, so it
 * is loaded by name and only where it is.
 */
export interface NodeQuic {
  connect(address: string, options: NodeQuicConnectOptions): Promise<NodeQuicSession>;
}

export interface NodeQuicConnectOptions {
  readonly servername: string;
  readonly ca?: readonly Uint8Array[];
  readonly alpn: string;
  /** Colon-separated key exchange groups. */
  readonly groups: string;
  readonly transportParams: Readonly<Record<string, bigint>>;
  /** ms */
  readonly keepAlive?: number;
  /** ms */
  readonly handshakeTimeout: number;
  /** A shared endpoint keeps the transport parameters of whoever came first. */
  readonly reuseEndpoint: false;
  readonly endpoint?: { readonly address: string };
  readonly onerror: (error: unknown) => void;
  readonly onstream: (stream: NodeQuicStream) => void;
}

export interface NodeQuicSession {
  readonly opened: Promise<unknown>;
  readonly closed: Promise<unknown>;
  readonly destroyed: boolean;
  readonly closing: boolean;
  readonly endpoint: { close(): Promise<unknown>; readonly address: { readonly port: number } | undefined } | null;
  readonly path: { readonly local?: { readonly port: number }; readonly remote?: { readonly address: string } } | null;
  readonly stats: { readonly bytesReceived: bigint };
  readonly maxDatagramSize: number;
  ondatagram: ((bytes: Uint8Array) => void) | undefined;
  createBidirectionalStream(): Promise<NodeQuicStream>;
  sendDatagram(bytes: Uint8Array): Promise<bigint>;
  close(options?: { readonly code?: bigint; readonly reason?: string }): Promise<unknown>;
  destroy(error?: unknown): void;
}

export interface NodeQuicStream extends AsyncIterable<readonly Uint8Array[]> {
  readonly id: bigint;
  readonly pending: boolean;
  readonly destroyed: boolean;
  readonly closed: Promise<unknown>;
  readonly stats: { readonly bytesReceived: bigint };
  readonly writer: NodeQuicWriter;
  onerror: ((error: unknown) => void) | undefined;
  onreset: ((error: unknown) => void) | undefined;
  destroy(error: undefined, options: { readonly code: bigint }): void;
}

export interface NodeQuicWriter {
  /** Null = nobody reads any more. */
  readonly desiredSize: number | null;
  /** False = no room; nothing was taken. */
  writeSync(chunk: Uint8Array): boolean;
  endSync(): number;
}

const DRAINABLE = Symbol.for("Stream.drainableProtocol");

/** Resolves when there is room; null = at once. */
export function waitForRoom(writer: NodeQuicWriter): Promise<unknown> | null {
  const wait: unknown = Reflect.get(writer, DRAINABLE);
  return typeof wait === "function" ? wait.call(writer) : null;
}

let loaded: Promise<NodeQuic | undefined> | undefined;

/** Undefined where the runtime has none. */
export function loadNodeQuic(): Promise<NodeQuic | undefined> {
  loaded ??= load();
  return loaded;
}

async function load(): Promise<NodeQuic | undefined> {
  if (typeof Bun === "undefined") return undefined;
  const restore = withoutItsWarning();
  try {
    const name = "node:quic";
    const module: unknown = await import(name);
    return isNodeQuic(module) ? module : undefined;
  } catch {
    return undefined;
  } finally {
    restore();
  }
}

/**
 * Loading it warns at each start, on standard error and in the runtime's own form, of what nobody who runs the program
 * can change; a log in JSON would not be one any more. Every other warning goes its way.
 *
 * @returns restores it
 */
function withoutItsWarning(): () => void {
  const { emitWarning } = process;
  process.emitWarning = new Proxy(emitWarning, {
    apply: (emit, self, args: readonly unknown[]) => {
      const [text, kind] = args;
      const isKnown = kind === "ExperimentalWarning" && typeof text === "string" && /^quic\b/i.test(text);
      return isKnown ? undefined : Reflect.apply(emit, self, args);
    },
  });
  return () => {
    process.emitWarning = emitWarning;
  };
}

function isNodeQuic(module: unknown): module is NodeQuic {
  return typeof module === "object" && module !== null && "connect" in module;
}

/** The code in an error that the peer caused; 0 when it has none. */
export function errorNumber(error: unknown): number {
  const code: unknown = typeof error === "object" && error !== null ? Reflect.get(error, "errorCode") : undefined;
  return typeof code === "bigint" ? Number(code) : 0;
}
